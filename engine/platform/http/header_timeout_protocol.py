"""uvicorn's HTTP/1.1 protocol with limits that it lacks: on size and time of headers, and on unread bodies."""

import logging
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S: Final = 10.0
HEADERS_BYTES: Final = 16 * 1024
PIECE_BYTES: Final = 1024  # h11 measures only incomplete headers: large ones in one piece would never be measured

Client = tuple[str, int] | None
OnRefused = Callable[[Client, int | None, str], None]  # the peer, the status of the answer if there was one, why

TOO_LARGE: Final = f"the headers are over {HEADERS_BYTES // 1024} KiB"
NOT_HTTP: Final = "this is no HTTP/1.1 request; https is for the proxy in front, if there is one"
TOO_SLOW: Final = "the headers did not arrive in time"

# Its warnings are those of uvicorn about connections that `OnRefused` reports with their address and within limits.
REQUEST_LOGGER: Final = "uvicorn.error.request"


class HeaderTimeoutProtocol(H11Protocol):
    """Closes a connection whose headers are not complete `headers_s` seconds after it was made, or after their first
    byte (a "Slowloris" client would hold it for ever).

    A kept connection between two requests is idle, not slow: uvicorn's keep-alive limit is for that. A client that was
    answered before its body was complete has as long to stop sending.
    """

    def __init__(
        self, *arguments: Any, headers_s: float = HEADERS_S, on_refused: OnRefused | None = None, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._headers_s = headers_s
        self._on_refused = on_refused
        self.conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_BYTES)
        self._due: TimerHandle | None = None
        if self._on_refused is not None:
            self.logger = logging.getLogger(REQUEST_LOGGER)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # uvicorn's own signature
        super().connection_made(transport)
        self._hang_up_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            super().data_received(data[start : start + PIECE_BYTES])
            if self.transport.is_closing():
                return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._hang_up_later()
        elif not self._is_draining_body():
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        is_too_large = getattr(sys.exception(), "error_status_hint", None) == 431
        self._log_refusal(400, TOO_LARGE if is_too_large else NOT_HTTP)
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_draining_body():
            self._hang_up_later()

    def _is_draining_body(self) -> bool:
        """Whether the client still sends the body of a request that has its response."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _hang_up_later(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self._headers_s, self._hang_up)

    def _hang_up(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:  # else nothing came, or has its answer
            self._log_refusal(None, TOO_SLOW)
        self.transport.close()

    def _log_refusal(self, status: int | None, reason: str) -> None:
        if self._on_refused is not None:
            self._on_refused(self.client, status, reason)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
