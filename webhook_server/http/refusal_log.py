"""How many lines of one kind go into the log: a few at once, then one every some seconds; the others are counted."""

import asyncio
import ipaddress
import re
from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog

from engine.platform.plain_text import one_line
from webhook_server.clock import Clock
from webhook_server.http.responses import WRONG_ADDRESS
from webhook_server.http.security_headers import Application, Receive, Scope, Send
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import AiSignal

MOST_REMEMBERED: Final = 256  # sources
OF_ONE_AT_ONCE: Final = 5
OF_ONE_EVERY_S: Final = 10.0
AT_ONCE: Final = 20
EVERY_S: Final = 5.0


@dataclass
class _Bucket:
    most: int
    every_s: float
    at: float
    tokens: float
    left_out: int = field(default=0)

    def refill(self, now: float) -> None:
        self.tokens = min(self.most, self.tokens + max(0.0, now - self.at) / self.every_s)
        self.at = max(self.at, now)


@dataclass(frozen=True)
class Unreported:
    """How many lines were left out that no line has reported; `source` when they are all of one."""

    suppressed: int
    source: str | None


class LineLimit:
    """For each source OF_ONE_AT_ONCE lines and then one every OF_ONE_EVERY_S; AT_ONCE and EVERY_S for all of a kind.

    A source is an address, or a user who proved to be the sender: two kinds, since anybody has many addresses, and a
    flood from them must leave the lines of users. Of MOST_REMEMBERED sources of a kind the count is kept apart. Not
    safe for threads. `now` is monotonic, in seconds.
    """

    def __init__(self) -> None:
        self._users = _Kind()
        self._addresses = _Kind()

    def allow(self, source: str, now: float, *, is_user: bool = False) -> int | None:
        """None leaves this line out; else how many of this source were left out since its last one, to be reported."""
        return (self._users if is_user else self._addresses).allow(source, now)

    def unreported(self) -> Unreported | None:
        """What was left out and not reported so far, which counts as reported from now on."""
        kinds = (self._users, self._addresses)
        left_out = [(source, count) for kind in kinds for source, count in kind.left_out()]
        suppressed = sum(count for _, count in left_out) + sum(kind.forgotten for kind in kinds)
        if suppressed == 0:
            return None
        is_of_one = len(left_out) == 1 and suppressed == left_out[0][1]
        for kind in kinds:
            kind.clear()
        return Unreported(suppressed, left_out[0][0] if is_of_one else None)


class _Kind:
    """The sources of one kind and what they have in common; `forgotten` lines were of sources not remembered."""

    def __init__(self) -> None:
        self._all = _Bucket(AT_ONCE, EVERY_S, 0.0, AT_ONCE)
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self.forgotten = 0

    def allow(self, source: str, now: float) -> int | None:
        bucket = self._bucket(source, now)
        bucket.refill(now)
        self._all.refill(now)
        if bucket.tokens < 1 or self._all.tokens < 1:
            bucket.left_out += 1
            return None
        bucket.tokens -= 1
        self._all.tokens -= 1
        reported, bucket.left_out = bucket.left_out, 0
        return reported

    def left_out(self) -> list[tuple[str, int]]:
        return [(source, bucket.left_out) for source, bucket in self._of.items() if bucket.left_out]

    def clear(self) -> None:
        self.forgotten = 0
        for bucket in self._of.values():
            bucket.left_out = 0

    def _bucket(self, source: str, now: float) -> _Bucket:
        if source not in self._of:
            self._of[source] = _Bucket(OF_ONE_AT_ONCE, OF_ONE_EVERY_S, now, OF_ONE_AT_ONCE)
            if len(self._of) > MOST_REMEMBERED:
                self.forgotten += self._of.popitem(last=False)[1].left_out
        self._of.move_to_end(source)
        return self._of[source]


# Why a request was refused, for the log: only words of our own, since what was sent may hold a secret.


UNSHOWN: Final = "\u2026"
_SPLIT: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NAME: Final = re.compile(r"[A-Za-z_.-]{1,60}")
_OTHER_WORDS: Final = """
    ai alert alerts api amount authorization body bot buy close content contracts default docs encoding entry exit
    favicon flat health healthz hedge hook hooks html http ico id json length limit live long main market metrics mode
    openapi orders positions prev production qty quantity reduce robots secret sell short side signal signals size sl
    stop status swagger take testnet ticker timestamp token tp trade tradingview transfer txt type webhook webhooks
    worker executing signature paper order position percentage
"""


def _words(text: str) -> set[str]:
    return {word.lower() for word in _SPLIT.findall(text)}


_KNOWN_WORDS: Final = _words(" ".join(AiSignal.model_fields) + _OTHER_WORDS + "useTrailingStop sizeUsd")


@dataclass(frozen=True)
class Refused:
    """`reason` in our words; `field` and `fields` as we know them; `line` and `column` of a body that is not JSON.

    `user` is who proved to have sent it, `signal` the id of a signal that could be read.
    """

    reason: str
    field: str | None = None
    fields: tuple[str, ...] = ()
    line: int | None = None
    column: int | None = None
    user: UUID | None = None
    signal: str | None = None

    @classmethod
    def of_field(cls, error: FieldError, user: UUID | None = None) -> "Refused":
        """Of a body or a field that cannot be used; of the names that the sender wrote, those that we know."""
        told = [f"{known_words_only(name)}: {reason}" for name, reason in error.reasons]
        shown = tuple(dict.fromkeys(known_words_only(name) for name in error.fields))
        return cls(
            "; ".join(told),
            field=shown[0],
            fields=shown if len(shown) > 1 else (),
            line=error.line,
            column=error.column,
            user=user,
        )

    def shown(self) -> dict[str, object]:
        """The fields of the log line that are not empty."""
        told = {
            "reason": one_line(self.reason),
            "field": self.field,
            "fields": list(self.fields),
            "line": self.line,
            "column": self.column,
            "user": None if self.user is None else str(self.user),
            "signal": self.signal,
        }
        return {name: value for name, value in told.items() if value not in (None, [])}


def known_words_only(text: str) -> str:
    """`text` if it is made of words that we know: a name that the sender made up may be anything."""
    is_known = _NAME.fullmatch(text) is not None and _words(text) <= _KNOWN_WORDS
    return text if is_known else UNSHOWN


def known_words_of_path(path: str) -> str:
    """`path` with what we know of it, at most four segments."""
    segments = path.split("/")[:5]
    return "/".join(known_words_only(each) if each else "" for each in segments) or "/"


# One line in the log for each refused request, `signal_refused`, and no more lines than a flood may cost.


logger = structlog.get_logger()

EVENT: Final = "signal_refused"
LEFT_OUT: Final = "more were refused than are shown"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_REASONS: Final = {  # of answers whose reason no route has told
    401: "the secret or token is missing or wrong",
    **WRONG_ADDRESS,
}


class RefusalLog:
    """Writes the lines. On the event loop's thread, except `close`, which comes after its end.

    What was left out is reported `quiet_s` later, unless a line has reported it by then.
    """

    def __init__(self, clock: Clock, quiet_s: float = OF_ONE_EVERY_S) -> None:
        self._clock = clock
        self._quiet_s = quiet_s
        self._limit = LineLimit()
        self._due: asyncio.TimerHandle | None = None

    def request(self, scope: Scope, status: int) -> None:
        """A request that was answered with `status`. Those that were not refused leave no line."""
        refused = scope.get("state", {}).get("refused")
        if not isinstance(refused, Refused):
            if status not in _REASONS:
                return
            refused = Refused(_REASONS[status])
        method = scope["method"] if scope["method"] in _METHODS else UNSHOWN
        self._write(
            # A sender who is known has lines of its own: behind a proxy all may have one address, a flood too.
            None if refused.user is None else f"user {refused.user}",
            address=_host(scope.get("client")),
            status=status,
            method=method,
            route=known_words_of_path(scope["path"]),
            **refused.shown(),
        )

    def connection(self, client: tuple[str, int] | None, status: int | None, reason: str) -> None:
        """What came was no request; `status` is None when there was no answer either."""
        self._write(None, address=_host(client), **({} if status is None else {"status": status}), reason=reason)

    def close(self) -> None:
        """Reports what is not reported yet."""
        self._report_left_out()

    def _write(self, sender: str | None, *, address: str, **fields: object) -> None:
        suppressed = self._limit.allow(sender or address, self._clock.monotonic(), is_user=sender is not None)
        if suppressed is None:
            self._report_later()
            return
        logger.warning(EVENT, **fields, address=address, **({"suppressed": suppressed} if suppressed else {}))

    def _report_later(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._quiet_s, self._report_left_out)

    def _report_left_out(self) -> None:
        """Called when no line has reported it for a while."""
        self._due = None
        unreported = self._limit.unreported()
        if unreported is not None:
            source = {} if unreported.source is None else {"source": unreported.source}
            logger.warning(EVENT, reason=LEFT_OUT, suppressed=unreported.suppressed, **source)


class Logged:
    """ASGI middleware: `inner`, whose refusals leave a line before the answer leaves."""

    def __init__(self, inner: Application, log: RefusalLog) -> None:
        self._inner = inner
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_and_log(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._log.request(scope, message["status"])
            await send(message)

        await self._inner(scope, receive, send_and_log)


def _host(client: Any) -> str:
    """The address of the socket's peer, or what a proxy that uvicorn trusts says of it: that may be any text."""
    try:
        return str(ipaddress.ip_address(str(client[0]).partition("%")[0]))
    except (TypeError, IndexError, ValueError):
        return "unknown"
