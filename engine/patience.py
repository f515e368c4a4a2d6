"""uvicorn's HTTP/1.1 protocol with limits it lacks: on headers, their size and time, and on bodies nobody wants."""

from asyncio import TimerHandle, Transport
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S: Final = 10.0
HEADERS_BYTES: Final = 16 * 1024
PIECE_BYTES: Final = 1024  # h11 measures headers that are not whole yet; what comes at once would be whole at once


class PatientProtocol(H11Protocol):
    """Hangs up on who has not sent whole headers HEADERS_S after connecting, or after beginning to.

    A kept connection between two requests is idle, not slow: uvicorn's own keep-alive limit is for that. Who was
    answered before the body was whole gets as long to stop sending.
    """

    headers_s = HEADERS_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_BYTES)
        self._due: TimerHandle | None = None

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
        elif not self._is_unwanted():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_unwanted():
            self._hang_up_later()

    def _is_unwanted(self) -> bool:
        """Whether the body still comes of a request that has its answer."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _hang_up_later(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self.headers_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
