"""The breaker as a state machine: who is paused, who cools down, and for how long."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.deciding.circuit_breaker import (
    FAILURES_TO_OPEN,
    FIRST_COOL_DOWN_S,
    MAX_COOL_DOWN_S,
    Breaker,
    get_cool_down,
    on_restart,
    on_strategy_fault,
    on_success,
    on_upstream_failure,
    try_admit,
)
from engine.deciding.circuit_breaker_file import BreakerFile, SavedBreaker


class BreakerMachine(RuleBasedStateMachine):
    """Against a model that only counts what happened since the last success."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.breaker = Breaker()
        self.failures = self.faults = 0
        self.open_since: float | None = None

    @rule(seconds=st.floats(min_value=0, max_value=2_000))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_process_dies_and_another_loads_what_it_saved(self) -> None:
        self.breaker = Breaker.model_validate_json(self.breaker.model_dump_json())

    @rule()
    def the_host_reboots(self) -> None:
        self.now = 1.0

    def _cycle(self) -> bool:
        self.breaker, allowed = try_admit(self.breaker, self.now)
        return allowed

    @precondition(lambda self: not self.breaker.must_pause)
    @rule()
    def a_cycle_succeeds(self) -> None:
        if self._cycle():
            self.breaker = on_success(self.breaker)
            self.failures = self.faults = 0
            assert self.breaker == Breaker()

    @precondition(lambda self: not self.breaker.must_pause)
    @rule()
    def a_cycle_ends_in_the_strategys_own_fault(self) -> None:
        if self._cycle():
            self.breaker = on_strategy_fault(self.breaker, self.now, "unusable answer")
            self.failures += 1
            self.faults += 1

    @precondition(lambda self: not self.breaker.must_pause)
    @rule(
        service=st.sampled_from(["groq", "venue", "database"]),
        retry_after_s=st.none() | st.floats(min_value=0, max_value=100_000),
    )
    def a_cycle_ends_in_an_upstreams_failure(self, service: str, retry_after_s: float | None) -> None:
        if self._cycle():
            self.breaker = on_upstream_failure(
                self.breaker, self.now, f"{service} is down", retry_after_s, service=service
            )
            self.failures += 1
            assert not self.breaker.must_pause
            assert self.breaker.until <= self.now + get_cool_down(service).longest_s

    @rule()
    def a_person_asks_for_another_process(self) -> None:
        self.breaker = on_restart(self.breaker)
        self.failures = 0
        assert try_admit(self.breaker, self.now)[1]

    @precondition(lambda self: not self.breaker.must_pause)
    @rule()
    def a_cycle_is_skipped(self) -> None:
        before = self.breaker
        self._cycle()
        assert self.breaker.failures == before.failures

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        assert (self.breaker.failures, self.breaker.faults) == (self.failures, self.faults)
        assert self.breaker.must_pause == (self.faults >= FAILURES_TO_OPEN)

    @invariant()
    def only_failures_keep_it_from_being_closed(self) -> None:
        assert (self.breaker.state == "closed") == (self.failures < FAILURES_TO_OPEN)

    @invariant()
    def no_cool_down_outlasts_a_quarter_of_an_hour(self) -> None:
        breaker, _ = try_admit(self.breaker, self.now)
        assert try_admit(breaker, self.now + MAX_COOL_DOWN_S)[1]


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=40)


def test_upstream_failures_cool_down_for_60_s_doubling_to_15_minutes() -> None:
    breaker, now, cool_downs = Breaker(), 0.0, []
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker = on_upstream_failure(breaker, now, "down")
        assert breaker.state == "closed"
    for _ in range(7):
        breaker = on_upstream_failure(breaker, now, "down")
        assert not try_admit(breaker, now + breaker.cool_down_s - 0.001)[1]
        now += breaker.cool_down_s
        cool_downs.append(breaker.cool_down_s)
        breaker, allowed = try_admit(breaker, now)
        assert allowed
        assert breaker.state == "half_open"
    assert cool_downs == [60, 120, 240, 480, 900, 900, 900]


def test_one_success_of_the_probe_closes_it_and_forgets_the_cool_down() -> None:
    breaker = Breaker(state="half_open", failures=7, faults=2, cool_down_s=480, until=10)
    assert on_success(breaker) == Breaker()


def test_a_skipped_probe_leaves_it_half_open() -> None:
    breaker = Breaker(state="half_open", failures=5, cool_down_s=60, until=10)
    assert try_admit(breaker, 11) == (breaker, True)


def test_an_outage_between_faults_neither_pauses_nor_pardons() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker = on_strategy_fault(breaker, 0, "nonsense")
    for _ in range(20):
        breaker = on_upstream_failure(breaker, 0, "down")
    assert not breaker.must_pause
    assert on_strategy_fault(breaker, 0, "nonsense").must_pause


@pytest.mark.parametrize(("wish_s", "cool_down_s"), [(None, 60), (2, 60), (120, 120), (10_000, MAX_COOL_DOWN_S)])
def test_the_peers_own_wish_lengthens_the_first_cool_down(wish_s: float | None, cool_down_s: float) -> None:
    breaker = Breaker(failures=FAILURES_TO_OPEN - 1)
    assert on_upstream_failure(breaker, 0, "busy", wish_s).cool_down_s == cool_down_s
    assert cool_down_s >= FIRST_COOL_DOWN_S


def test_the_file_gives_back_what_was_saved_and_goes_when_all_is_well(tmp_path: Path) -> None:
    strategy_id = uuid4()
    first = BreakerFile(tmp_path, strategy_id)
    assert first.load() == SavedBreaker()
    broken = SavedBreaker(
        breaker=on_strategy_fault(Breaker(), 5.0, "nonsense"), running_since=datetime(2026, 1, 1, tzinfo=UTC)
    )
    first.save(broken.breaker, broken.running_since)
    second = BreakerFile(tmp_path, strategy_id)
    assert second.load() == broken
    second.save(Breaker(), broken.running_since)
    assert list((tmp_path / "state" / "breaker").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"breaker": {"failures": -1}}', b'{"breaker": 1}'])
def test_a_file_that_is_no_breaker_counts_as_none(tmp_path: Path, content: bytes) -> None:
    strategy_id = uuid4()
    path = tmp_path / "state" / "breaker" / f"{strategy_id}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    file = BreakerFile(tmp_path, strategy_id)
    assert file.load() == SavedBreaker()
    file.save(Breaker(failures=1))
    assert BreakerFile(tmp_path, strategy_id).load().breaker.failures == 1


def test_a_pause_says_how_often_what_failed() -> None:
    breaker = Breaker()
    for reason in ("empty", "no JSON", "no JSON", "no JSON", "empty"):
        breaker = on_upstream_failure(on_strategy_fault(breaker, 0.0, reason), 0.0, "503")
    assert breaker.must_pause
    assert breaker.pause_reason == "5 failures without a success: 3 \u00d7 no JSON; 2 \u00d7 empty"
    assert on_success(breaker).fault_reasons == {}
    assert Breaker.model_validate_json(breaker.model_dump_json()).pause_reason == breaker.pause_reason


def test_a_pause_that_cannot_be_written_does_not_gather_reasons_without_end() -> None:
    breaker = Breaker()
    for number in range(100):
        breaker = on_strategy_fault(breaker, 0.0, f"reason {chr(0x4E00 + number)}")
    assert len(breaker.fault_reasons) == 5
    assert breaker.faults == 100
