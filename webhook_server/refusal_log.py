"""One line in the log for each refused request, `signal_refused`, and no more lines than a flood may cost."""

import asyncio
import ipaddress
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from webhook_server.answers import WRONG_ADDRESS
from webhook_server.clock import Clock
from webhook_server.hardening import Application, Receive, Scope, Send
from webhook_server.line_limit import OF_ONE_EVERY_S, LineLimit
from webhook_server.refused import UNSHOWN, Refused, known_words_of_path

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
