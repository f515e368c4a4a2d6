"""Which signals execute at once, which wait for a place, and which of them is next: the policy, without any clock.

Executing signals mostly wait: for a venue that hangs, or for each other. So the places of one person are limited, and
those of all entries, and what finds no place waits without a thread.
"""

import asyncio
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final
from uuid import UUID


class TicketState(Enum):
    """Of a ticket. It leaves WAITING for one of the other two, and ends as OVER."""

    RUNNING = auto()
    WAITING = auto()
    OVER = auto()


@dataclass(eq=False)
class Ticket:
    """One signal's claim to a place. `wake` is called, by any thread, when a waiting one is no longer WAITING."""

    user_id: UUID
    is_entry: bool
    wake: Callable[[], None]
    state: TicketState = TicketState.OVER


@dataclass(frozen=True)
class SlotLimits:
    """Signals that run: `per_user` entries, and as many exits, of one person, `entries` and `signals` of all of them.

    Signals that wait: of each kind `waiting_per_user` of one person and `waiting` of all.
    """

    per_user: int
    entries: int
    signals: int
    waiting_per_user: int
    waiting: int


class FairQueue:
    """Waiting tickets of one kind: in order of arrival for each person, persons in turn."""

    def __init__(self) -> None:
        self._tickets_by_user: OrderedDict[UUID, OrderedDict[Ticket, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for line in self._tickets_by_user.values() for ticket in line)

    def count_of_user(self, user_id: UUID) -> int:
        return len(self._tickets_by_user.get(user_id, ()))

    def add(self, ticket: Ticket) -> None:
        self._tickets_by_user.setdefault(ticket.user_id, OrderedDict())[ticket] = None
        self._length += 1

    def remove(self, ticket: Ticket) -> None:
        line = self._tickets_by_user[ticket.user_id]
        del line[ticket]
        self._length -= 1
        if not line:
            del self._tickets_by_user[ticket.user_id]

    def pop_next(self, can_run: Callable[[UUID], bool]) -> Ticket | None:
        """Takes out the first ticket of the first person who may run one; that person's next turn is the last."""
        user_id = next((each for each in self._tickets_by_user if can_run(each)), None)
        if user_id is None:
            return None
        ticket = next(iter(self._tickets_by_user[user_id]))
        self._tickets_by_user.move_to_end(user_id)
        self.remove(ticket)
        return ticket


class ExecutionSlots:
    """Gives places to tickets; a ticket waits only while there is no place for it. Exits come before entries."""

    def __init__(self, limits: SlotLimits) -> None:
        self._limits = limits
        self._running: Counter[tuple[UUID, bool]] = Counter()
        self._running_by_kind = {True: 0, False: 0}
        self._queues = {False: FairQueue(), True: FairQueue()}  # exits first

    @property
    def running(self) -> int:
        return sum(self._running_by_kind.values())

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def enter(self, ticket: Ticket, *, can_wait: bool = True) -> TicketState:
        """RUNNING, WAITING, or OVER when it may do neither."""
        if self._has_free_slot(ticket.user_id, is_entry=ticket.is_entry):
            self._start(ticket)
        elif can_wait and self._can_wait(ticket):
            self._queues[ticket.is_entry].add(ticket)
            ticket.state = TicketState.WAITING
        return ticket.state

    def leave(self, ticket: Ticket) -> tuple[Ticket, ...]:
        """Ends a ticket, wherever it is. Returns the tickets that run from now on because of it."""
        if ticket.state is TicketState.WAITING:
            self._queues[ticket.is_entry].remove(ticket)
        elif ticket.state is TicketState.RUNNING:
            self._running[ticket.user_id, ticket.is_entry] -= 1
            self._running += Counter()  # forgets persons who run nothing
            self._running_by_kind[ticket.is_entry] -= 1
        ticket.state = TicketState.OVER
        return tuple(self._start_waiting())

    def cancel_waiting(self) -> tuple[Ticket, ...]:
        """Ends all that wait, and returns them."""
        dismissed = tuple(ticket for queue in self._queues.values() for ticket in queue)
        for ticket in dismissed:
            self.leave(ticket)
        return dismissed

    def _start_waiting(self) -> Iterator[Ticket]:
        for is_entry, queue in self._queues.items():
            can_run = partial(self._has_free_slot, is_entry=is_entry)
            while (ticket := queue.pop_next(can_run)) is not None:
                self._start(ticket)
                yield ticket

    def _start(self, ticket: Ticket) -> None:
        self._running[ticket.user_id, ticket.is_entry] += 1
        self._running_by_kind[ticket.is_entry] += 1
        ticket.state = TicketState.RUNNING

    def _has_free_slot(self, user_id: UUID, *, is_entry: bool) -> bool:
        limits = self._limits
        return (
            self._running[user_id, is_entry] < limits.per_user
            and self.running < limits.signals
            and not (is_entry and self._running_by_kind[True] >= limits.entries)
        )

    def _can_wait(self, ticket: Ticket) -> bool:
        queue = self._queues[ticket.is_entry]
        return len(queue) < self._limits.waiting and queue.count_of_user(ticket.user_id) < self._limits.waiting_per_user


# Places for signals as threads and the event loop use them: who waits for one holds no thread.


SLOT_WAIT_S: Final = 5.0  # with the turn of its account, which comes then, about as long as our own dispatcher waits


class Wakeup:
    """What the event loop awaits, and any thread may call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def __call__(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class AdmissionControl:
    """Enter in a thread, wait on the event loop, leave in any thread. Nothing waits while the server is not active."""

    def __init__(self, limits: SlotLimits, is_active: Callable[[], bool], wait_s: float = SLOT_WAIT_S) -> None:
        self._slots = ExecutionSlots(limits)
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
        return self._slots.running

    @property
    def waiting(self) -> int:
        return self._slots.waiting

    def enter(self, user_id: UUID, wake: Callable[[], None], *, is_entry: bool) -> Ticket:
        """A ticket that runs, waits or is over already. One that is not over has to `leave`."""
        ticket = Ticket(user_id, is_entry, wake)
        can_wait = self._is_active()
        with self._lock:
            self._slots.enter(ticket, can_wait=can_wait and not self._is_closed)
        return ticket

    async def wait(self, ticket: Ticket, wakeup: Wakeup, disconnect: "asyncio.Future[None]") -> bool:
        """Whether the ticket runs from now on; else it is over: too late, cancelled, or its sender has disconnected
        (`disconnect` is done)."""
        try:
            await asyncio.wait((wakeup.future, disconnect), timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.leave(ticket)
            raise
        return self._keep_or_release(ticket, is_wanted=not disconnect.done())

    def leave(self, ticket: Ticket) -> None:
        """Gives back whatever the ticket has. Safe to repeat."""
        with self._lock:
            started = self._slots.leave(ticket)
        _wake(started)

    def cancel_waiting(self) -> None:
        """Ends every wait now: this server executes nothing for the time being."""
        with self._lock:
            dismissed = self._slots.cancel_waiting()
        _wake(dismissed)

    def close(self) -> None:
        """Ends every wait, and lets nothing wait from now on."""
        self._is_closed = True
        self.cancel_waiting()

    def _keep_or_release(self, ticket: Ticket, *, is_wanted: bool) -> bool:
        """A ticket that got its place in the very moment in which it gave up keeps it, or hands it on."""
        with self._lock:
            if is_wanted and ticket.state is TicketState.RUNNING:
                return True
            started = self._slots.leave(ticket)
        _wake(started)
        return False


def _wake(tickets: tuple[Ticket, ...]) -> None:
    for ticket in tickets:
        ticket.wake()
