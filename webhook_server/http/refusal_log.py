"""One log line, `signal_refused`, for each refused request, and a bound on the lines of a flood.

A line has only words of this project: what a sender wrote may hold a secret or characters that forge another line.
"""

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
from webhook_server.http.responses import ROUTING_HINTS
from webhook_server.http.security_headers import AsgiApp, Receive, Scope, Send
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import AiSignal

logger = structlog.get_logger()

EVENT: Final = "signal_refused"
MAX_SOURCES: Final = 256
SOURCE_BURST: Final = 5
SOURCE_REFILL_S: Final = 10.0
TOTAL_BURST: Final = 20
TOTAL_REFILL_S: Final = 5.0
SUPPRESSED_REASON: Final = "more were refused than are shown"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_REASON_BY_STATUS: Final = {  # for responses made before a route ran, which sets the details of its own refusals
    401: "the secret or token is missing or wrong",
    **ROUTING_HINTS,
}
REDACTED: Final = "\u2026"
_SPLIT: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NAME: Final = re.compile(r"[A-Za-z_.-]{1,60}")
_OTHER_WORDS: Final = """
    ai alert alerts api amount authorization body bot buy close content contracts default docs encoding entry exit
    favicon flat health healthz hedge hook hooks html http ico id json length limit live long main market metrics mode
    openapi orders positions prev production qty quantity reduce robots secret sell short side signal signals size sl
    stop status swagger take testnet ticker timestamp token tp trade tradingview transfer txt type webhook webhooks
    worker executing signature paper order position percentage
"""


@dataclass
class _TokenBucket:
    """`capacity` lines at once, then one every `refill_s` seconds."""

    capacity: int
    refill_s: float
    refilled_at: float
    tokens: float
    suppressed_lines: int = field(default=0)

    def refill(self, now: float) -> None:
        self.tokens = min(self.capacity, self.tokens + max(0.0, now - self.refilled_at) / self.refill_s)
        self.refilled_at = max(self.refilled_at, now)


@dataclass(frozen=True)
class SuppressedLines:
    """The number of lines that were left out and not reported yet; `source` when all of them are of one source."""

    suppressed: int
    source: str | None


class LogRateLimiter:
    """Token buckets: one for each source (SOURCE_BURST, SOURCE_REFILL_S), one for all of a kind (TOTAL_BURST,
    TOTAL_REFILL_S).

    A source is an address, or an authenticated user. Addresses and users are two kinds with budgets of their own:
    anybody can send from many addresses, and such a flood must not use up the lines about users. MAX_SOURCES of a kind
    are remembered. Not thread-safe. `now` is monotonic, in seconds.
    """

    def __init__(self) -> None:
        self._users = _SourceGroup()
        self._addresses = _SourceGroup()

    def allow(self, source: str, now: float, *, is_user: bool = False) -> int | None:
        """None when the line is to be left out, else the number of lines of this source left out since its last one."""
        return (self._users if is_user else self._addresses).allow(source, now)

    def take_unreported(self) -> SuppressedLines | None:
        """The lines left out and not reported; they count as reported from now on. None when there are none."""
        kinds = (self._users, self._addresses)
        suppressed_by_source = [(source, count) for kind in kinds for source, count in kind.list_suppressed()]
        suppressed = sum(count for _, count in suppressed_by_source) + sum(kind.evicted_lines for kind in kinds)
        if suppressed == 0:
            return None
        has_one_source = len(suppressed_by_source) == 1 and suppressed == suppressed_by_source[0][1]
        for kind in kinds:
            kind.clear()
        return SuppressedLines(suppressed, suppressed_by_source[0][0] if has_one_source else None)


class _SourceGroup:
    """The buckets of one kind; `evicted_lines` counts the unreported lines of sources that were forgotten."""

    def __init__(self) -> None:
        self._total = _TokenBucket(TOTAL_BURST, TOTAL_REFILL_S, 0.0, TOTAL_BURST)
        self._buckets: OrderedDict[str, _TokenBucket] = OrderedDict()
        self.evicted_lines = 0

    def allow(self, source: str, now: float) -> int | None:
        bucket = self._get_bucket(source, now)
        bucket.refill(now)
        self._total.refill(now)
        if bucket.tokens < 1 or self._total.tokens < 1:
            bucket.suppressed_lines += 1
            return None
        bucket.tokens -= 1
        self._total.tokens -= 1
        reported, bucket.suppressed_lines = bucket.suppressed_lines, 0
        return reported

    def list_suppressed(self) -> list[tuple[str, int]]:
        return [
            (source, bucket.suppressed_lines) for source, bucket in self._buckets.items() if bucket.suppressed_lines
        ]

    def clear(self) -> None:
        self.evicted_lines = 0
        for bucket in self._buckets.values():
            bucket.suppressed_lines = 0

    def _get_bucket(self, source: str, now: float) -> _TokenBucket:
        if source not in self._buckets:
            self._buckets[source] = _TokenBucket(SOURCE_BURST, SOURCE_REFILL_S, now, SOURCE_BURST)
            if len(self._buckets) > MAX_SOURCES:
                self.evicted_lines += self._buckets.popitem(last=False)[1].suppressed_lines
        self._buckets.move_to_end(source)
        return self._buckets[source]


def _split_words(text: str) -> set[str]:
    return {word.lower() for word in _SPLIT.findall(text)}


_KNOWN_WORDS: Final = _split_words(" ".join(AiSignal.model_fields) + _OTHER_WORDS + "useTrailingStop sizeUsd")


@dataclass(frozen=True)
class RefusalDetails:
    """Why a request was refused, for the log.

    `reason` is a sentence of this project, `field` and `fields` are redacted unless known; `line` and `column` are
    where a body stops being JSON. `user` is the authenticated sender, `signal` the id of a signal that could be read.
    """

    reason: str
    field: str | None = None
    fields: tuple[str, ...] = ()
    line: int | None = None
    column: int | None = None
    user: UUID | None = None
    signal: str | None = None

    @classmethod
    def from_field_error(cls, error: FieldError, user: UUID | None = None) -> "RefusalDetails":
        """Details of a faulty body or field. Names that the sender made up are redacted."""
        messages = [f"{redact_unknown_words(name)}: {reason}" for name, reason in error.reasons]
        shown = tuple(dict.fromkeys(redact_unknown_words(name) for name in error.fields))
        return cls(
            "; ".join(messages),
            field=shown[0],
            fields=shown if len(shown) > 1 else (),
            line=error.line,
            column=error.column,
            user=user,
        )

    def to_log_fields(self) -> dict[str, object]:
        """The fields of the log line that are not empty."""
        fields = {
            "reason": one_line(self.reason),
            "field": self.field,
            "fields": list(self.fields),
            "line": self.line,
            "column": self.column,
            "user": None if self.user is None else str(self.user),
            "signal": self.signal,
        }
        return {name: value for name, value in fields.items() if value not in (None, [])}


def redact_unknown_words(text: str) -> str:
    """`text` if all its words are known, else REDACTED: a name that a sender made up may be a secret."""
    is_known = _NAME.fullmatch(text) is not None and _split_words(text) <= _KNOWN_WORDS
    return text if is_known else REDACTED


def redact_path(path: str) -> str:
    """`path` with its unknown segments redacted, cut after four segments."""
    segments = path.split("/")[:5]
    return "/".join(redact_unknown_words(each) if each else "" for each in segments) or "/"


class RefusalLog:
    """Writes the lines, on the event loop's thread; `close` is called after the loop has ended.

    The number of lines left out is part of the source's next line, or is reported on its own `quiet_s` later.
    """

    def __init__(self, clock: Clock, quiet_s: float = SOURCE_REFILL_S) -> None:
        self._clock = clock
        self._quiet_s = quiet_s
        self._limit = LogRateLimiter()
        self._report_timer: asyncio.TimerHandle | None = None

    def log_request(self, scope: Scope, status: int) -> None:
        """Logs a request with the response `status`, if it was refused."""
        refused = scope.get("state", {}).get("refused")
        if not isinstance(refused, RefusalDetails):
            if status not in _REASON_BY_STATUS:
                return
            refused = RefusalDetails(_REASON_BY_STATUS[status])
        method = scope["method"] if scope["method"] in _METHODS else REDACTED
        self._write(
            # By user where one is known: behind a proxy all senders have one address, those of a flood too.
            None if refused.user is None else f"user {refused.user}",
            address=_client_address(scope.get("client")),
            status=status,
            method=method,
            route=redact_path(scope["path"]),
            **refused.to_log_fields(),
        )

    def log_connection(self, client: tuple[str, int] | None, status: int | None, reason: str) -> None:
        """Logs a connection without a readable request; `status` is None when it got no response."""
        self._write(
            None, address=_client_address(client), **({} if status is None else {"status": status}), reason=reason
        )

    def close(self) -> None:
        """Reports the lines left out so far."""
        self._report_suppressed()

    def _write(self, sender: str | None, *, address: str, **fields: object) -> None:
        suppressed = self._limit.allow(sender or address, self._clock.monotonic(), is_user=sender is not None)
        if suppressed is None:
            self._report_later()
            return
        logger.warning(EVENT, **fields, address=address, **({"suppressed": suppressed} if suppressed else {}))

    def _report_later(self) -> None:
        if self._report_timer is None:
            self._report_timer = asyncio.get_running_loop().call_later(self._quiet_s, self._report_suppressed)

    def _report_suppressed(self) -> None:
        """The timer's callback: no line has carried the number within `quiet_s`."""
        self._report_timer = None
        unreported = self._limit.take_unreported()
        if unreported is not None:
            source = {} if unreported.source is None else {"source": unreported.source}
            logger.warning(EVENT, reason=SUPPRESSED_REASON, suppressed=unreported.suppressed, **source)


class RefusalLogMiddleware:
    """ASGI middleware: logs the refusals of `inner`, before the response is sent."""

    def __init__(self, inner: AsgiApp, log: RefusalLog) -> None:
        self._inner = inner
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_and_log(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._log.log_request(scope, message["status"])
            await send(message)

        await self._inner(scope, receive, send_and_log)


def _client_address(client: Any) -> str:
    """The peer's IP address without a zone; `unknown` for anything else, as a trusted proxy may pass on any text."""
    try:
        return str(ipaddress.ip_address(str(client[0]).partition("%")[0]))
    except (TypeError, IndexError, ValueError):
        return "unknown"
