"""How an attempt at a request can end, as values; `webhook_server.http.responses` says each over HTTP.

`outcome` is the word for logs and metrics; `error` is the reason for the sender, None where nothing went wrong.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final, NamedTuple

from engine.domain import decimals
from engine.domain.errors import ClockRejected, VenueUnavailable
from engine.domain.positions import Position
from engine.platform.errors import UpstreamUnavailable
from engine.platform.plain_text import one_line
from engine.risk.limit_breach import LimitBreach
from engine.risk.sizing import ReducedBy
from engine.store.webhook_rows import Fill

RETRY_SOON_S: Final = 1
RETRY_UNKNOWN_S: Final = 2
RETRY_LATER_S: Final = 5
MAX_REASON_LENGTH: Final = 400
NO_CREDENTIALS_HINT: Final = (
    "Add credentials of this exchange for the user (`sparky credentials set EXCHANGE`), or leave `environment` out to "
    "trade on paper."
)


class Stamp(NamedTuple):
    """What a final result says of its request; `duration_ms` is the time of this attempt."""

    signal_id: str
    duration_ms: int


class Pnl(NamedTuple):
    """Of an exit: in USD, and in percent of the cost of what was closed."""

    usd: Decimal
    percent: Decimal


class Result:
    """The base of all results."""

    outcome: ClassVar[str] = "refused"

    @property
    def error(self) -> str | None:
        return None


@dataclass(frozen=True)
class Closed(Result):
    """A position of `held` was closed, wholly or in part.

    `refusal` is why the entry of a reversal does not follow, `still_open` what the sender holds beside it in the
    symbol. `pnl` is known once the exit is booked.
    """

    outcome: ClassVar[str] = "closed"
    fill: Fill
    held: Decimal
    stamp: Stamp
    is_paper: bool
    refusal: LimitBreach | str | None = None
    still_open: tuple[Position, ...] = ()
    pnl: Pnl | None = None


@dataclass(frozen=True)
class EntryResult:
    """An entry that was made: its fill, what its side held before, and `closed`, the first half of a reversal.

    Of `requested_usd` limits allowed `allowed_usd`; `reduced_by` names what made the fill less than was requested.
    """

    fill: Fill
    before: Position | None
    requested_usd: Decimal
    allowed_usd: Decimal
    reduced_by: tuple[ReducedBy, ...] = ()
    closed: Closed | None = None


@dataclass(frozen=True)
class Opened(Result):
    """A position was opened or increased; `position` is the whole of it as booked, where that was read."""

    outcome: ClassVar[str] = "opened"
    entry: EntryResult
    stamp: Stamp
    is_paper: bool
    position: Position | None = None


@dataclass(frozen=True)
class Skipped(Result):
    """Nothing had to be done; `is_paper` says in which book, where that is known."""

    outcome: ClassVar[str] = "skipped"
    reason: str
    stamp: Stamp
    is_paper: bool | None = None
    closed: Closed | None = None


@dataclass(frozen=True)
class Rejected(Result):
    """The venue, or the server on its behalf, refused for good."""

    outcome: ClassVar[str] = "rejected"
    reason: str
    stamp: Stamp
    is_paper: bool | None = None
    closed: Closed | None = None

    @property
    def error(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Undone(Result):
    """The entry `fill` was taken back by `undo`, since its protection could not be placed."""

    outcome: ClassVar[str] = "rejected"
    fill: Fill
    undo: Fill
    cause: str
    stamp: Stamp
    is_paper: bool
    closed: Closed | None = None

    @property
    def error(self) -> str:
        message = f"the protection that was asked for could not be placed ({self.cause}), so the entry was undone"
        left = self.fill.quantity - self.undo.quantity
        return message + (
            f", but for {decimals.format_plain(left)} that the venue did not take back" if left > 0 else ""
        )


@dataclass(frozen=True)
class Unprotected(Result):
    """The entry `fill` stands without the protection that was asked for, as it could not be undone."""

    outcome: ClassVar[str] = "unprotected"
    fill: Fill
    cause: str
    stamp: Stamp
    is_paper: bool
    closed: Closed | None = None

    @property
    def error(self) -> str:
        return f"the entry stands without the protection that was asked for, which is tried again: {self.cause}"


@dataclass(frozen=True)
class Refused(Result):
    """A risk limit of the user is reached."""

    breach: LimitBreach

    @property
    def error(self) -> str:
        return self.breach.message


@dataclass(frozen=True)
class Invalid(Result):
    """The sender must change `field_name`, a field's name or ``body``: the first of `fields`, if there are more."""

    field_name: str
    message: str
    hint: str | None = None
    fields: tuple[str, ...] = ()

    @property
    def error(self) -> str:
        return f"{self.field_name}: {self.message}"


@dataclass(frozen=True)
class Conflict(Result):
    """The id was used before for another body."""

    request_id: str

    @property
    def error(self) -> str:
        return "its id was used before for another body"


@dataclass(frozen=True)
class Retryable(Result):
    """The same signal may be sent again after `retry_after_s` seconds; asked again, it goes on where it stopped."""

    outcome: ClassVar[str] = "open"
    reason: str
    retry_after_s: int

    @property
    def error(self) -> str:
        return self.reason


@dataclass(frozen=True)
class NotExecuted(Retryable):
    """Nothing was tried: another signal, or another server, comes first."""

    retry_after_s: int = RETRY_SOON_S


@dataclass(frozen=True)
class Failed(Result):
    """A fault of the server itself, of which the sender learns nothing more."""

    duration_ms: int

    @property
    def error(self) -> str:
        return "Internal error"


@dataclass(frozen=True)
class Booked(Result):
    """`result` whose answer was stored with the last fill; `body` is that answer as the store completed it."""

    result: Result
    body: Mapping[str, Any]

    @property
    def error(self) -> str | None:
        return self.result.error


@dataclass(frozen=True)
class Repeated(Result):
    """The request had ended before: its first answer, as stored."""

    status: int
    body: Mapping[str, Any]

    @property
    def error(self) -> str | None:
        error = self.body.get("error")
        return None if error is None else str(error)


class StoredAnswer(NamedTuple):
    """What a repetition of the signal gets: the columns `answer_status` and `answer` of its request."""

    status: int
    body: dict[str, Any]


AnswerEncoder = Callable[[Result], StoredAnswer]

IN_PROGRESS: Final = NotExecuted(
    "This signal, or one before it of the same strategy or account, is being executed",
)
OVERLOAD: Final = NotExecuted("Too many signals are under way")
STOPPING: Final = NotExecuted("This webhook server is stopping")
STANDBY: Final = NotExecuted("Another webhook server executes; this one stands by")
BLOCKED: Final = NotExecuted("What an earlier signal did at the venue is not known yet; this one waits for it")


def get_outcome(result: Result) -> str:
    """What became of the request: the action of an answer that is stored, else the result's own outcome."""
    if isinstance(result, Booked):
        return result.result.outcome
    if isinstance(result, Repeated):
        return str(result.body.get("action", result.outcome))
    return result.outcome


def build_unavailable(error: UpstreamUnavailable, exchange: str | None = None) -> Retryable:
    """The sender learns what the venue said; why the server's own services are away is in the log alone."""
    wait_s = RETRY_LATER_S if error.retry_after_s is None else max(1, math.ceil(error.retry_after_s))
    if not isinstance(error, VenueUnavailable):
        return Retryable(f"The {error.service} is unavailable", wait_s)
    if isinstance(error, ClockRejected):
        message = f"{exchange or 'the venue'} refuses this host's clock: {error.reason}"
    else:
        message = f"{_name_venue(exchange)} is unavailable: {error.reason}"
    return Retryable(one_line(message, MAX_REASON_LENGTH), wait_s)


def build_outcome_unknown(exchange: str, reason: str | None = None) -> Retryable:
    """Asked again, the answer to the same signal is what became of the order."""
    message = f"{_name_venue(exchange)} did not say whether it took the order; it is asked before anything is sent"
    shown = message if reason is None else one_line(f"{message}: {reason}", MAX_REASON_LENGTH)
    return Retryable(shown, RETRY_UNKNOWN_S)


def _name_venue(exchange: str | None) -> str:
    return "The venue" if exchange is None else f"The venue {exchange}"
