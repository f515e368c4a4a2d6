"""uvicorn's HTTP/1.1 protocol with two limits that it lacks: how long, and how large, a request's headers may be."""

from asyncio import TimerHandle, Transport
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S: Final = 10.0
HEADERS_BYTES: Final = 16 * 1024


class PatientProtocol(H11Protocol):
    """Hangs up on who has not sent whole headers HEADERS_S after connecting, or after beginning to.

    A kept connection between two requests is idle, not slow: uvicorn's own keep-alive limit is for that.
    """

    headers_s = HEADERS_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_BYTES)
        self._headers_due: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # uvicorn's own signature
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._await_headers()
        else:
            self._stop_waiting()

    def _await_headers(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(self.headers_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None
