"""Places for signals as threads and the event loop use them: who waits for one holds no thread."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

from webhook_server.places import Limits, Places, State, Ticket

PLACE_WAIT_S: Final = 5.0  # with the turn of its account, which comes then, about as long as our own dispatcher waits


class Wakeup:
    """What the event loop awaits, and any thread may call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.called: asyncio.Future[None] = loop.create_future()

    def __call__(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.called.done():
            self.called.set_result(None)


class Admission:
    """Enter in a thread, wait on the event loop, leave in any thread. Nothing waits while the server is not active."""

    def __init__(self, limits: Limits, is_active: Callable[[], bool], wait_s: float = PLACE_WAIT_S) -> None:
        self._places = Places(limits)
        self._is_active = is_active
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_active(self) -> bool:
        return self._is_active()

    @property
    def running(self) -> int:
        return self._places.running

    @property
    def waiting(self) -> int:
        return self._places.waiting

    def enter(self, user_id: UUID, wake: Callable[[], None], *, is_entry: bool) -> Ticket:
        """A ticket that runs, waits or is over already. One that is not over has to `leave`."""
        ticket = Ticket(user_id, is_entry, wake)
        may_wait = self._is_active()
        with self._lock:
            self._places.enter(ticket, may_wait=may_wait and not self._is_closed)
        return ticket

    async def wait(self, ticket: Ticket, wakeup: Wakeup, gone: "asyncio.Future[None]") -> bool:
        """Whether the ticket runs from now on; else it is over: too late, dismissed, or its sender is `gone`."""
        try:
            await asyncio.wait((wakeup.called, gone), timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.leave(ticket)
            raise
        return self._runs(ticket, is_wanted=not gone.done())

    def leave(self, ticket: Ticket) -> None:
        """Gives back whatever the ticket has. Safe to repeat."""
        with self._lock:
            started = self._places.leave(ticket)
        _wake(started)

    def dismiss(self) -> None:
        """Ends every wait now: this server executes nothing for the time being."""
        with self._lock:
            dismissed = self._places.dismiss()
        _wake(dismissed)

    def close(self) -> None:
        """Ends every wait, and lets nothing wait from now on."""
        self._is_closed = True
        self.dismiss()

    def _runs(self, ticket: Ticket, *, is_wanted: bool) -> bool:
        """A ticket that got its place in the very moment in which it gave up keeps it, or hands it on."""
        with self._lock:
            if is_wanted and ticket.state is State.RUNNING:
                return True
            started = self._places.leave(ticket)
        _wake(started)
        return False


def _wake(tickets: tuple[Ticket, ...]) -> None:
    for ticket in tickets:
        ticket.wake()
