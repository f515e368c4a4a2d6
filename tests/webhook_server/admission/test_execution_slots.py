"""Who executes and who waits, as a model: within all limits, in order, exits first, and nobody waits beside a slot."""

from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from webhook_server.admission.execution_slots import ExecutionSlots, SlotLimits, Ticket, TicketState

LIMITS = SlotLimits(per_user=3, entries=5, signals=8, waiting_per_user=4, waiting=6)
PERSONS = [UUID(int=number) for number in range(4)]


def ticket(user_id: UUID = PERSONS[0], *, is_entry: bool = True) -> Ticket:
    return Ticket(user_id, is_entry, lambda: None)


class Model(RuleBasedStateMachine):
    """Every ticket ever made, and in which order those that wait have come."""

    tickets: Bundle[Ticket] = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.slots = ExecutionSlots(LIMITS)
        self.running: list[Ticket] = []
        self.waiting: list[Ticket] = []

    @rule(target=tickets, user_id=st.sampled_from(PERSONS), is_entry=st.booleans(), may_wait=st.booleans())
    def enter(self, user_id: UUID, *, is_entry: bool, may_wait: bool) -> Ticket | MultipleResults[Ticket]:
        new = ticket(user_id, is_entry=is_entry)
        has_room = self.has_room(new)
        state = self.slots.enter(new, can_wait=may_wait)
        assert state is new.state
        if has_room:
            assert state is TicketState.RUNNING
            self.running.append(new)
        elif not may_wait or self.queue_is_full(new):
            assert state is TicketState.OVER
            return multiple()
        else:
            assert state is TicketState.WAITING
            self.waiting.append(new)
        return new

    @rule(gone=consumes(tickets))
    def leave(self, gone: Ticket) -> None:
        for known in (self.running, self.waiting):
            if gone in known:
                known.remove(gone)
        self.started(self.slots.leave(gone))
        assert gone.state is TicketState.OVER
        assert self.slots.leave(gone) == (), "what is over gives nothing back a second time"

    @rule()
    def dismiss(self) -> None:
        assert set(self.slots.cancel_waiting()) == set(self.waiting)
        assert all(each.state is TicketState.OVER for each in self.waiting)
        self.waiting = []

    def started(self, started: tuple[Ticket, ...]) -> None:
        for new in started:
            assert new.state is TicketState.RUNNING
            same = [each for each in self.waiting if (each.user_id, each.is_entry) == (new.user_id, new.is_entry)]
            assert same[0] is new, "a person's signals of one kind run in the order in which they came"
            exits = [each for each in self.waiting if not each.is_entry]
            assert not new.is_entry or not any(self.has_room(each) for each in exits), "exits come first"
            assert self.has_room(new)
            self.waiting.remove(new)
            self.running.append(new)

    def count(self, tickets: list[Ticket], user_id: UUID | None = None, *, is_entry: bool | None = None) -> int:
        return sum(user_id in {None, each.user_id} and is_entry in {None, each.is_entry} for each in tickets)

    def has_room(self, new: Ticket) -> bool:
        return (
            self.count(self.running, new.user_id, is_entry=new.is_entry) < LIMITS.per_user
            and len(self.running) < LIMITS.signals
            and not (new.is_entry and self.count(self.running, is_entry=True) >= LIMITS.entries)
        )

    def queue_is_full(self, new: Ticket) -> bool:
        of_one = self.count(self.waiting, new.user_id, is_entry=new.is_entry)
        return of_one >= LIMITS.waiting_per_user or self.count(self.waiting, is_entry=new.is_entry) >= LIMITS.waiting

    @invariant()
    def nobody_waits_beside_a_slot(self) -> None:
        assert not any(self.has_room(each) for each in self.waiting)

    @invariant()
    def no_slot_is_lost(self) -> None:
        assert (self.slots.running, self.slots.waiting) == (len(self.running), len(self.waiting))


TestPlaces = Model.TestCase


def test_persons_take_turns_whoever_has_sent_how_many() -> None:
    slots = ExecutionSlots(SlotLimits(per_user=1, entries=1, signals=2, waiting_per_user=9, waiting=99))
    first = ticket()
    slots.enter(first)
    flood = [ticket(PERSONS[0]) for _ in range(5)]
    late = ticket(PERSONS[1])
    for each in [*flood, late]:
        assert slots.enter(each) is TicketState.WAITING
    assert slots.leave(first) == (flood[0],)
    assert slots.leave(flood[0]) == (late,)
    assert slots.leave(late) == (flood[1],)


def test_a_person_at_the_limit_keeps_nobody_else_waiting() -> None:
    slots = ExecutionSlots(SlotLimits(per_user=1, entries=2, signals=3, waiting_per_user=9, waiting=99))
    mine, theirs, mine_again, others = ticket(), ticket(PERSONS[1]), ticket(), ticket(PERSONS[2])
    assert [slots.enter(each) for each in (mine, theirs)] == [TicketState.RUNNING] * 2
    assert [slots.enter(each) for each in (mine_again, others)] == [TicketState.WAITING] * 2
    assert slots.leave(theirs) == (others,)
