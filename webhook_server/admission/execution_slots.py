"""Execution slots: which signals execute now, which are queued, and which of those is next.

Executing signals mostly wait, for a slow venue or for a lock. So slots are limited per user and for all entries
together, and a queued signal holds no thread. `ExecutionSlots` is the policy, without a clock and without threads;
`AdmissionControl` is its use by threads and the event loop.
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

# The wait for a slot and the wait for the account's lock after it take about as long as the dispatcher waits for a
# response: a longer wait would execute signals whose senders have given up.
SLOT_WAIT_S: Final = 5.0


class TicketState(Enum):
    """The state of a ticket: WAITING becomes RUNNING or OVER, RUNNING becomes OVER."""

    RUNNING = auto()
    WAITING = auto()
    OVER = auto()


@dataclass(eq=False)
class Ticket:
    """One signal's claim to a slot. `wake` is called, in any thread, when the ticket is no longer WAITING."""

    user_id: UUID
    is_entry: bool
    wake: Callable[[], None]
    state: TicketState = TicketState.OVER


@dataclass(frozen=True)
class SlotLimits:
    """Bounds. Running: `per_user` entries and as many exits of one user; `entries` and `signals` of all users.

    Queued: `waiting_per_user` entries, and as many exits, of one user; `waiting` of each kind of all users.
    """

    per_user: int
    entries: int
    signals: int
    waiting_per_user: int
    waiting: int


class FairQueue:
    """Queued tickets of one kind: FIFO for each user, round-robin over users."""

    def __init__(self) -> None:
        self._tickets_by_user: OrderedDict[UUID, OrderedDict[Ticket, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for tickets in self._tickets_by_user.values() for ticket in tickets)

    def count_user(self, user_id: UUID) -> int:
        return len(self._tickets_by_user.get(user_id, ()))

    def add(self, ticket: Ticket) -> None:
        self._tickets_by_user.setdefault(ticket.user_id, OrderedDict())[ticket] = None
        self._length += 1

    def remove(self, ticket: Ticket) -> None:
        tickets = self._tickets_by_user[ticket.user_id]
        del tickets[ticket]
        self._length -= 1
        if not tickets:
            del self._tickets_by_user[ticket.user_id]

    def pop_next(self, can_run: Callable[[UUID], bool]) -> Ticket | None:
        """Removes and returns the first ticket of the first user for whom `can_run`; that user moves to the end."""
        user_id = next((each for each in self._tickets_by_user if can_run(each)), None)
        if user_id is None:
            return None
        ticket = next(iter(self._tickets_by_user[user_id]))
        self._tickets_by_user.move_to_end(user_id)
        self.remove(ticket)
        return ticket


class ExecutionSlots:
    """Assigns slots to tickets. Exits are started before entries. Not thread-safe."""

    def __init__(self, limits: SlotLimits) -> None:
        self._limits = limits
        self._running: Counter[tuple[UUID, bool]] = Counter()
        self._running_by_kind = {True: 0, False: 0}
        self._queues = {False: FairQueue(), True: FairQueue()}  # by is_entry; exits first: they reduce risk

    @property
    def running(self) -> int:
        return sum(self._running_by_kind.values())

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def enter(self, ticket: Ticket, *, can_wait: bool = True) -> TicketState:
        """Starts or queues a ticket. Returns its state: OVER when there is neither a slot nor room in the queue."""
        if self._has_free_slot(ticket.user_id, is_entry=ticket.is_entry):
            self._start(ticket)
        elif can_wait and self._can_wait(ticket):
            self._queues[ticket.is_entry].add(ticket)
            ticket.state = TicketState.WAITING
        return ticket.state

    def leave(self, ticket: Ticket) -> tuple[Ticket, ...]:
        """Ends a running or queued ticket. Returns the tickets that were started in the slot it frees."""
        if ticket.state is TicketState.WAITING:
            self._queues[ticket.is_entry].remove(ticket)
        elif ticket.state is TicketState.RUNNING:
            self._running[ticket.user_id, ticket.is_entry] -= 1
            self._running += Counter()  # drops users at zero, so that the counter does not grow for ever
            self._running_by_kind[ticket.is_entry] -= 1
        ticket.state = TicketState.OVER
        return tuple(self._start_waiting())

    def cancel_waiting(self) -> tuple[Ticket, ...]:
        """Ends all queued tickets and returns them."""
        cancelled = tuple(ticket for queue in self._queues.values() for ticket in queue)
        for ticket in cancelled:
            self.leave(ticket)
        return cancelled

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
        return len(queue) < self._limits.waiting and queue.count_user(ticket.user_id) < self._limits.waiting_per_user


class Wakeup:
    """A future of the event loop that any thread can set by calling this."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def __call__(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nothing waits any more
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class AdmissionControl:
    """The slots for threads and the event loop: `enter` and `leave` in any thread, `wait` on the event loop.

    Nothing is queued while `is_active()` is false: another server executes, and senders should try that one.
    """

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
        """A ticket that runs, is queued, or is over. One that is not over must `leave`."""
        ticket = Ticket(user_id, is_entry, wake)
        can_wait = self._is_active()
        with self._lock:
            self._slots.enter(ticket, can_wait=can_wait and not self._is_closed)
        return ticket

    async def wait(self, ticket: Ticket, wakeup: Wakeup, disconnect: "asyncio.Future[None]") -> bool:
        """Whether the ticket got its slot; if not it is over: timed out, cancelled, or `disconnect` is done."""
        try:
            await asyncio.wait((wakeup.future, disconnect), timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self.leave(ticket)
            raise
        return self._keep_or_release(ticket, is_wanted=not disconnect.done())

    def leave(self, ticket: Ticket) -> None:
        """Frees the ticket's slot or its position in the queue. Idempotent."""
        with self._lock:
            started = self._slots.leave(ticket)
        _wake(started)

    def cancel_waiting(self) -> None:
        """Ends every wait: this server has lost the lease to execute."""
        with self._lock:
            cancelled = self._slots.cancel_waiting()
        _wake(cancelled)

    def close(self) -> None:
        """Ends every wait; nothing is queued from now on."""
        self._is_closed = True
        self.cancel_waiting()

    def _keep_or_release(self, ticket: Ticket, *, is_wanted: bool) -> bool:
        # The slot may have been assigned between the timeout and this lock: it is used if still wanted, else freed.
        with self._lock:
            if is_wanted and ticket.state is TicketState.RUNNING:
                return True
            started = self._slots.leave(ticket)
        _wake(started)
        return False


def _wake(tickets: tuple[Ticket, ...]) -> None:
    for ticket in tickets:
        ticket.wake()
