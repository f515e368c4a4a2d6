"""One signal on its way through the pipeline: what was asked, in which book, and how it may end early."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final
from uuid import UUID, uuid5

from engine.domain.errors import OrderOutcomeUnknown
from engine.domain.positions import Position, Side, get_opposite_side
from engine.platform.errors import (
    ConfigurationError,
    CredentialsError,
    DatabaseUnavailable,
    SparkyError,
    UpstreamUnavailable,
)
from engine.store.webhook_rows import ExecutionClaim, Portfolio, RequestEndState, UnfinishedRequest
from engine.venues.orders import OrderLetter, build_client_order_id
from engine.venues.venue import Venue
from webhook_server.execution.results import NO_CREDENTIALS_HINT, Invalid, Result, Stamp
from webhook_server.intake.schemas import ExitTerms, WebhookSignal

SERVER_EXIT_PREFIX: Final = "exit/"  # no sender's id has a slash; SQL's `consecutive_failures` knows it too
CLOSE, REST, OPEN, UNDO = OrderLetter.CLOSE, OrderLetter.REST, OrderLetter.OPEN, OrderLetter.UNDO  # the legs


@dataclass(frozen=True)
class Request:
    """`id` is unique per user. `received_at` is when it first came (UTC), `started` this attempt's monotonic second.

    `is_resumed` says that an earlier attempt may have reached a venue, `is_recovered` that it is ours to finish, for a
    sender that may be gone; `exit_reason` is what the trade will show;
    `position_id` narrows a CLOSE to one position. `has_released_names` says that its orders were sent by a release
    that named them by the signal's id alone, `is_repetition` that an equal body came before without an id.
    """

    id: str
    user_id: UUID
    signal: WebhookSignal
    received_at: datetime
    started: float
    is_resumed: bool = False
    is_recovered: bool = False
    exit_reason: str = "signal"
    position_id: UUID | None = None
    has_released_names: bool = False
    is_repetition: bool = False

    @property
    def order_id_base(self) -> UUID | str:
        """Names its orders at the venue: two people's signals of one id may meet on one account."""
        return self.id if self.has_released_names else uuid5(self.user_id, self.id)

    def stamp(self, now: float) -> Stamp:
        """What every result that ends it says of it; `now` is a monotonic second."""
        return Stamp(self.id, round((now - self.started) * 1000))

    def with_sent_state(self, began: ExecutionClaim) -> "Request":
        """As the store knows it: whether it may have been sent before."""
        return replace(self, is_resumed=began.is_sent)


@dataclass(frozen=True)
class TradeContext:
    """One request, the book it is for, and what that book held once the strategy's lock was taken."""

    request: Request
    is_paper: bool
    held: Position | None
    open_venue: Callable[[], Venue]  # paper or the user's account; reads credentials at the first call, and no more
    portfolio: Portfolio | None = None  # read for entries only: exits ask no limit
    other_sides: frozenset[Side] = frozenset()  # held live in the symbol by others of the account
    still_open: tuple[Position, ...] = ()  # of its sender in the symbol, beside what is closed

    @cached_property
    def signal(self) -> WebhookSignal:
        return self.request.signal

    @cached_property
    def side(self) -> Side:
        """The side of the position that an entry opens or adds to."""
        return self.signal.side

    @property
    def exit_terms(self) -> ExitTerms | None:
        """At what the server's own exit of a paper position is made; None: at the market of now."""
        return self.signal.exit_terms if self.is_paper else None

    @property
    def book(self) -> str:
        return "paper" if self.is_paper else "live"

    @cached_property
    def may_have_been_sent(self) -> bool:
        """Paper orders exist only in the books, so an earlier attempt that was not booked did not happen."""
        return self.request.is_resumed and not self.is_paper

    def client_order_id(self, leg: str) -> str:
        return build_client_order_id(self.request.order_id_base, leg)

    def with_released_names(self) -> "TradeContext":
        return replace(self, request=replace(self.request, has_released_names=True))

    def require_held(self) -> Position:
        """What a plan that closes something closes."""
        if self.held is None:
            raise AssertionError("only what is held is closed")
        return self.held

    @cached_property
    def increases_position(self) -> bool:
        return self.held is not None and self.held.side is self.side

    @property
    def needs_protective_orders(self) -> bool:
        """Whether protective orders are to wait at the venue once the entry is made."""
        return not self.is_paper and self.wants_protection

    @cached_property
    def wants_protection(self) -> bool:
        """Whether the position has a stop-loss or a take-profit once the entry is made, in either book."""
        signal, held = self.signal, self.held
        asked = signal.stop_loss_percent is not None or signal.take_profit_percent is not None
        kept = (
            self.increases_position
            and held is not None
            and (held.stop_loss_price or held.take_profit_price) is not None
        )
        return asked or kept

    def can_be_reduce_only(self, side: Side) -> bool:
        """Whether closing a position on `side` reduces the account's net, the only position that a venue knows.

        While another of the account's strategies holds the opposite side, the net may be smaller than what is closed.
        """
        return can_be_reduce_only(side, self.other_sides)

    def side_of(self, leg: str) -> Side:
        """The side of the position that the leg closes or opens; UNDO closes what OPEN opened."""
        return self.held.side if leg in {CLOSE, REST} and self.held is not None else self.side


def parse_server_exit(request_id: str, source: str | None) -> tuple[str, UUID | None]:
    """The exit reason of a request, and the position that it is about where it is the server's own exit."""
    if source is None or not request_id.startswith(f"{SERVER_EXIT_PREFIX}{source}/"):
        return "signal", None
    return source, UUID(request_id.removeprefix(f"{SERVER_EXIT_PREFIX}{source}/").partition("/")[0])


class RequestEnded(SparkyError):
    """The request ends without a (further) fill. `state` is refused, failed or skipped, as the store knows them."""

    def __init__(self, state: RequestEndState, result: Result, error: str) -> None:
        super().__init__(error)
        self.state = state
        self.result = result
        self.error = error


class BlockedByUnsettled(SparkyError):
    """What an older request of the same strategy and symbol did is not known: it is settled first."""

    def __init__(self, unsettled: tuple[UnfinishedRequest, ...]) -> None:
        super().__init__(f"{len(unsettled)} older requests are not settled")
        self.unsettled = unsettled


class NotLeaseHolder(SparkyError):
    """Another webhook server holds the lease: this one sends nothing."""


class NothingToDo(SparkyError):
    """The leg needs no order; the message says why, and is in the answer."""


class AlreadyBooked(SparkyError):
    """All that the request asked for is in the books, by an attempt that was broken off; `result` is its end."""

    def __init__(self, result: Result) -> None:
        super().__init__("it was booked before")
        self.result = result


class PositionEnded(NothingToDo):
    """What was to be closed had ended at the venue without us, as is booked now."""


def can_be_reduce_only(side: Side, other_sides: frozenset[Side]) -> bool:
    """See `TradeContext.can_be_reduce_only`."""
    return get_opposite_side(side) not in other_sides


@contextmanager
def end_on_configuration_error(exchange: str) -> Iterator[None]:
    """Ends a request whose sender must mend it: an unknown exchange, or credentials that are missing or refused."""
    try:
        yield
    except ConfigurationError as error:
        hint = NO_CREDENTIALS_HINT if isinstance(error, CredentialsError) else None
        raise RequestEnded("refused", Invalid("exchange", str(error), hint), f"{exchange}: {error}") from error


@contextmanager
def keep_request_open(progress: str) -> Iterator[None]:
    """Turns an upstream failure into OrderOutcomeUnknown, which leaves the request open; `progress` says how far it is.

    Ended as failed it would be begun anew, and trade again.
    """
    try:
        yield
    except (UpstreamUnavailable, CredentialsError) as error:
        if isinstance(error, DatabaseUnavailable):
            raise
        raise OrderOutcomeUnknown(f"{progress}: {error}") from error
