"""The supervisor's policy, with time passed in."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.runtime import restart_policy
from actors.runtime.child_spec import ChildSpec, ExhaustedRestarts, RestartPolicy
from actors.runtime.heartbeat import Heartbeat
from actors.runtime.restart_policy import (
    MAX_BACKOFF_S,
    MAX_RESTARTS,
    RESTART_WINDOW_S,
    Child,
    ChildState,
    RestartDecision,
)
from engine.platform.settings.process_settings import ProcessSettings

CRASH = 1 << 8
CONFIGURATION = 78 << 8
KILLED = 9


def child(restart: RestartPolicy = RestartPolicy.PERMANENT, **more: object) -> Child:
    return with_fields(ChildSpec("one", "module:make", "actor", 0, ProcessSettings(), restart=restart), **more)


def dynamic_child(**more: object) -> Child:
    spec = ChildSpec("one", "module:make", "actor", 0, ProcessSettings(), restart=RestartPolicy.TRANSIENT)
    return with_fields(replace(spec, on_exhausted=ExhaustedRestarts.PARK, is_dynamic=True), **more)


def with_fields(spec: ChildSpec, **more: object) -> Child:
    made = Child(spec, 0)
    for name, value in more.items():
        setattr(made, name, value)
    return made


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_wait_before_a_restart_is_bounded_and_never_shrinks_below_half_its_step(
    crashes: int, random: float
) -> None:
    wait = restart_policy.restart_backoff_s(crashes, random)
    step = min(MAX_BACKOFF_S, 0.1 * 2 ** min(crashes - 1, 16))
    assert step / 2 <= wait <= step


def test_the_first_restart_leaves_time_to_tick_again_within_half_a_second() -> None:
    assert restart_policy.restart_backoff_s(1, 0.999) <= 0.1


@given(st.lists(st.floats(0.01, 400), min_size=1, max_size=40))
def test_a_strategy_is_parked_exactly_when_more_than_five_deaths_fall_into_the_window(gaps: list[float]) -> None:
    strategy = dynamic_child()
    now, crashes = 0.0, []
    for gap in gaps:
        now += gap
        crashes.append(now)
        recent = sum(now - at <= RESTART_WINDOW_S for at in crashes)
        verdict = restart_policy.decide_restart(strategy, CRASH, now)
        assert (verdict is RestartDecision.PARK) == (recent > MAX_RESTARTS)
        if verdict is RestartDecision.PARK:
            break


def test_a_configuration_fault_parks_a_strategy_at_once() -> None:
    assert restart_policy.decide_restart(dynamic_child(), CONFIGURATION, 1.0) is RestartDecision.PARK


def test_a_shared_child_is_given_up_only_when_it_never_became_ready() -> None:
    assert restart_policy.decide_restart(child(), CONFIGURATION, 1.0) is RestartDecision.GIVE_UP
    assert restart_policy.decide_restart(child(ever_ready=True), CONFIGURATION, 1.0) is RestartDecision.RESTART


def test_fork_servers_are_given_up_only_while_nobody_was_ever_ready() -> None:
    nobody, somebody = [child(), child()], [child(), child(ever_ready=True)]
    assert not restart_policy.should_abort_startup(MAX_RESTARTS, nobody)
    assert restart_policy.should_abort_startup(MAX_RESTARTS + 1, nobody)
    assert not restart_policy.should_abort_startup(MAX_RESTARTS + 100, somebody)


def test_a_transient_child_that_ends_well_is_done_and_a_permanent_one_is_started_again() -> None:
    assert restart_policy.decide_restart(dynamic_child(), 0, 1.0) is RestartDecision.DONE
    assert restart_policy.decide_restart(child(), 0, 1.0) is RestartDecision.RESTART


def test_a_child_we_had_to_kill_did_not_end_well_whatever_its_status() -> None:
    assert restart_policy.decide_restart(dynamic_child(cause="stalled"), 0, 1.0) is RestartDecision.RESTART


@given(st.floats(0, 100), st.floats(0, 100), st.integers(1, 3), st.integers(1, 3))
def test_only_a_living_childs_own_broken_promise_counts(now: float, promise: float, ours: int, on_board: int) -> None:
    pulse = Heartbeat(on_board, promise, 1)
    stalled = restart_policy.is_stalled(child(state=ChildState.RUNNING, incarnation=ours), pulse, now)
    assert stalled == (ours == on_board and now > promise)
    assert not restart_policy.is_stalled(child(state=ChildState.STOPPING, incarnation=ours), pulse, now)
    assert not restart_policy.is_stalled(child(state=ChildState.RUNNING, incarnation=ours, kill_at=now), pulse, now)


def staged(*stages: tuple[int, ChildState]) -> list[Child]:
    children = []
    for number, (stage, state) in enumerate(stages):
        made = Child(ChildSpec(f"c{number}", "module:make", "actor", stage, ProcessSettings()), number, state=state)
        children.append(made)
    return children


def test_a_stage_waits_for_everyone_of_the_stage_before() -> None:
    children = staged(
        (0, ChildState.RUNNING), (1, ChildState.STARTING), (1, ChildState.WAITING), (2, ChildState.WAITING)
    )
    assert restart_policy.select_startable(children, 0.0, 8) == [children[2]]


def test_a_parked_strategy_holds_nobody_up() -> None:
    children = staged((0, ChildState.PARKED), (1, ChildState.WAITING))
    assert restart_policy.select_startable(children, 0.0, 8) == [children[1]]


def test_no_more_than_the_bound_start_at_once() -> None:
    children = staged(*[(0, ChildState.WAITING)] * 10, (0, ChildState.STARTING))
    assert len(restart_policy.select_startable(children, 0.0, 4)) == 3


def test_the_highest_living_stage_is_stopped_first() -> None:
    children = staged((0, ChildState.RUNNING), (3, ChildState.RUNNING), (5, ChildState.DONE))
    children[0].pid, children[1].pid = 10, 11
    assert restart_policy.current_stop_stage(children) == 3


def test_a_wait_status_is_told_in_words() -> None:
    assert restart_policy.describe_exit(CRASH) == "exit 1"
    assert restart_policy.describe_exit(KILLED) == "SIGKILL"


def test_a_second_request_to_end_shortens_everybodys_patience() -> None:
    slow = child(state=ChildState.STOPPING, pid=10, kill_at=10.0)
    assert not restart_policy.has_grace_expired(slow, 8.5, is_forced=False)
    assert restart_policy.has_grace_expired(slow, 8.5, is_forced=True)


@given(st.integers(0, 60), st.integers(1, 20))
def test_everybody_alive_is_weighed_in_turn(alive: int, most: int) -> None:
    children = staged(*[(0, ChildState.RUNNING)] * (alive + 1))
    for number, each in enumerate(children[:alive]):
        each.pid = number + 1
    seen: set[int | None] = set()
    for turn in range(-(-alive // most)):
        weighed = restart_policy.select_for_memory_sample(children, most)
        assert len(weighed) <= most
        for each in weighed:
            each.memory_sampled_at = turn + 1.0
            seen.add(each.pid)
    assert seen == set(range(1, alive + 1))


def test_a_child_may_close_in_another_stage_than_it_starts_in() -> None:
    children = staged((2, ChildState.RUNNING), (3, ChildState.RUNNING))
    children[0].spec = replace(children[0].spec, stop_stage=4)
    children[0].pid, children[1].pid = 10, 11
    assert restart_policy.current_stop_stage(children) == 4


def test_a_reason_to_park_counts_the_deaths_and_names_the_last() -> None:
    strategy = dynamic_child(cause="stalled")
    strategy.crash_times.extend([1.0, 2.0])
    assert restart_policy.describe_parking(strategy) == "parked after 2 crashes in 300 s, the last by stalled"


def test_specs_of_equal_settings_are_equal_whatever_their_child_is_called() -> None:
    one = ChildSpec("s", "m:f", "actor", 0, ProcessSettings())
    assert one == replace(one, settings=ProcessSettings(sparky_log_level="info"), title="renamed")
    assert one != replace(one, settings=ProcessSettings(sparky_log_level="debug"))


def test_reports_name_a_child_by_its_group_and_else_by_its_kind() -> None:
    spec = ChildSpec("s", "m:f", "actor", 0, ProcessSettings())
    reports = [restart_policy.build_report(Child(each, 0), 1.0) for each in (spec, replace(spec, group="strategy"))]
    assert [report.kind for report in reports] == ["actor", "strategy"]
