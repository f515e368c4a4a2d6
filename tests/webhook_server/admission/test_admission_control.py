"""Waiting for a slot on the event loop: however the wait ends, the slot is taken by one ticket or free."""

import asyncio
import contextlib
from uuid import UUID

from webhook_server.admission.execution_slots import AdmissionControl, SlotLimits, Ticket, TicketState, Wakeup

ONE_SLOT = SlotLimits(per_user=1, entries=1, signals=1, waiting_per_user=9, waiting=9)
USER = UUID(int=1)


class Scene:
    """An admission of one slot, which `holder` has."""

    def __init__(self, wait_s: float = 60.0) -> None:
        self.admission = AdmissionControl(ONE_SLOT, lambda: True, wait_s)
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.holder = self.enter(Wakeup(asyncio.get_running_loop()))

    def enter(self, wakeup: Wakeup) -> Ticket:
        return self.admission.enter(USER, wakeup, is_entry=True)

    def waiting(self) -> tuple[Ticket, "asyncio.Task[bool]"]:
        wakeup = Wakeup(asyncio.get_running_loop())
        ticket = self.enter(wakeup)
        return ticket, asyncio.ensure_future(self.admission.wait(ticket, wakeup, self.gone))


def test_who_waits_gets_the_slot_that_becomes_free() -> None:
    async def scene() -> None:
        made = Scene()
        ticket, wait = made.waiting()
        made.admission.leave(made.holder)
        assert await wait
        assert ticket.state is TicketState.RUNNING

    asyncio.run(scene())


def test_a_slot_that_comes_at_the_moment_of_a_cancellation_goes_on_to_the_next() -> None:
    async def scene() -> None:
        made = Scene()
        _, cancelled = made.waiting()
        _, after = made.waiting()
        await asyncio.sleep(0)
        made.admission.leave(made.holder)
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        assert await after
        assert made.admission.running == 1

    asyncio.run(scene())


def test_a_slot_that_comes_to_a_sender_that_is_gone_goes_on_to_the_next() -> None:
    async def scene() -> None:
        made = Scene()
        _, mine = made.waiting()
        made.gone.set_result(None)
        made.gone, gone = asyncio.get_running_loop().create_future(), made.gone
        assert gone.done()
        _, after = made.waiting()
        made.admission.leave(made.holder)
        assert [await mine, await after] == [False, True]

    asyncio.run(scene())


def test_a_slot_that_came_when_the_time_was_up_is_taken() -> None:
    async def scene() -> None:
        made = Scene(wait_s=0.0)
        ticket, wait = made.waiting()
        made.admission.leave(made.holder)
        assert await wait
        made.admission.leave(ticket)
        assert made.admission.running == 0

    asyncio.run(scene())


def test_who_waits_too_long_is_over_and_leaves_the_queue() -> None:
    async def scene() -> None:
        made = Scene(wait_s=0.0)
        ticket, wait = made.waiting()
        assert not await wait
        assert (ticket.state, made.admission.waiting) == (TicketState.OVER, 0)

    asyncio.run(scene())


def test_nothing_waits_where_nothing_will_be_executed() -> None:
    async def scene() -> None:
        standby = AdmissionControl(ONE_SLOT, lambda: False)
        wakeup = Wakeup(asyncio.get_running_loop())
        assert (
            standby.enter(USER, wakeup, is_entry=True).state is TicketState.RUNNING
        )  # the database says what becomes of it
        assert standby.enter(USER, wakeup, is_entry=True).state is TicketState.OVER
        made = Scene()
        made.admission.close()
        assert made.waiting()[0].state is TicketState.OVER

    asyncio.run(scene())


def test_a_wake_up_after_the_end_of_its_loop_is_no_fault() -> None:
    async def scene() -> Wakeup:
        return Wakeup(asyncio.get_running_loop())

    asyncio.run(scene())()
