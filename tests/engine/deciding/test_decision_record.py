"""A decision is recorded within its time, once and under one id, or not at all."""

from uuid import UUID

from engine.domain.decision import Action
from engine.llm.llm_call import LlmOutcome
from engine.platform.errors import DatabaseUnavailable, UpstreamUnavailable
from engine.risk.strategy_state import find_status_block
from engine.store.transport.sqlstates import DatabaseRequestError
from tests.engine.deciding.cycle_world import World, failed


def test_a_suppressed_entry_says_why() -> None:
    block = find_status_block("paused")
    outcome = World(suppressed=block).run()
    assert (outcome.outcome, outcome.signal_id, outcome.reason) == ("ok", None, block)


def test_a_cycle_that_is_stopped_before_its_record_is_abandoned() -> None:
    world = World()
    world.gate.close(0.0)
    outcome = world.run()
    assert outcome.outcome == "abandoned"
    assert world.records == []


def test_a_cut_is_recorded_as_a_hold_that_nobody_is_to_blame_for() -> None:
    world = World(calls=[failed(LlmOutcome.CUT)])
    outcome = world.run()
    assert outcome.outcome == "cut"
    assert isinstance(outcome.failure, UpstreamUnavailable)
    (record,) = world.records
    assert (record.action, record.is_fault) == (Action.HOLD, False)
    assert world.signals == [None]


def test_a_record_that_the_database_did_not_take_is_tried_again_for_a_moment_under_the_same_id() -> None:
    world = World(record_error=DatabaseUnavailable("it restarts"), failing_records=3)
    outcome = world.run()
    assert (outcome.outcome, outcome.signal_id) == ("ok", UUID(int=99))
    assert world.record_ids == [UUID(int=99)] * 4
    assert len(world.records) == 1


def test_a_record_is_not_tried_for_so_long_that_its_decision_is_old() -> None:
    world = World(record_error=DatabaseUnavailable("away"))
    outcome = world.run()
    assert outcome.outcome == "upstream_database"
    assert 1 < len(world.record_ids) <= 20
    assert outcome.duration_s < 1.2 + 6.0


def test_a_record_is_not_begun_again_when_the_cycles_time_is_up() -> None:
    world = World(record_error=DatabaseUnavailable("away"))
    world.run(deadline_s=1.3, llm_timeout_s=1.3)
    assert len(world.record_ids) <= 2


def test_a_database_that_refuses_the_login_is_away() -> None:
    """Its secret may be a minute old; the row is not at fault, and no process ends."""
    for refused in ("28P01", "28000", "3D000", "42501", "42P01"):
        outcome = World(record_error=DatabaseRequestError("The database refuses this login: password", refused)).run()
        assert outcome.outcome == "upstream_database"
