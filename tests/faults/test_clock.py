"""Clocks that jump: what decides when something happens must not look at the wall clock at all."""

import ast
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from actors.runtime import restart_policy
from actors.runtime.child_spec import ChildSpec, ExhaustedRestarts, RestartPolicy
from actors.runtime.restart_policy import Child, RestartDecision
from engine.deciding.circuit_breaker import FAILURES_TO_OPEN, Breaker, on_upstream_failure, try_admit
from engine.deciding.schedule import Cadence, count_missed_ticks, find_next_tick
from engine.platform.settings.process_settings import ProcessSettings

ROOT = Path(__file__).parents[2]
HOUR_S = 3_600.0
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}

# Who may tell the time of day, and what for; nobody waits by it.
TOLD_ONLY = {
    "actors/strategy.py": "events for people",
    "actors/monitor/actor.py": "when an alarm was raised",
    "actors/monitor/http.py": "ages shown to people",
    "actors/warmup/cycles.py": "the form of an event",
    "actors/dispatcher.py": "the age of a signal in a metric",
    "engine/outbox/delivery.py": "signatures carry the time of day",
    "actors/rate_limiter.py": "until when a refusal holds, for people; how old a limit is that a refusal told",
    "engine/ratelimit/provider_limits.py": "how old a limit is that a refusal told to an earlier process",
    "engine/llm/groq_client.py": "the provider's HTTP dates",
    "engine/ratelimit/grant_log.py": "grants of the boot before this one",
}


def wall_clock_calls(path: Path) -> list[str]:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [name for name in map(ast.unparse, calls) if name in WALL]


def test_nobody_schedules_by_the_wall_clock() -> None:
    rooms = ("actors", "engine/deciding", "engine/llm", "engine/ratelimit", "engine/outbox", "engine/platform")
    sources = [ROOT / "supervisor.py", *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]
    found = {str(path.relative_to(ROOT)) for path in sources if wall_clock_calls(path)}
    assert found - TOLD_ONLY.keys() == set()


@given(st.floats(1, 1e6), st.sampled_from([HOUR_S, -HOUR_S]), st.floats(1, 300), st.floats(0, 1))
def test_a_grid_survives_a_clock_that_jumps_an_hour(now: float, jump: float, period: float, share: float) -> None:
    """As after a suspend or on a clock that is set: one tick within a period, none doubled, the lost ones counted."""
    grid = Cadence(period, share * period)
    ticked = find_next_tick(grid, now)
    landed = max(0.0, ticked + jump)
    after = find_next_tick(grid, landed)
    assert 0 < after - landed <= period * (1 + 1e-9)
    missed = count_missed_ticks(grid, ticked, landed)
    assert missed == 0 if jump < 0 else abs(missed - HOUR_S / period) <= 2


@given(st.sampled_from([HOUR_S, -HOUR_S]))
def test_no_cool_down_grows_by_a_clock_that_is_set_back(jump: float) -> None:
    now, breaker = 10_000.0, Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker = on_upstream_failure(breaker, now, "away")
    moved, is_admitted = try_admit(breaker, now + jump)
    assert is_admitted or moved.until <= now + jump + breaker.cool_down_s
    _, is_admitted = try_admit(moved, now + jump + breaker.cool_down_s)
    assert is_admitted


@given(st.sampled_from([HOUR_S, -HOUR_S]))
def test_restart_intensity_survives_a_jump(jump: float) -> None:
    """Forward the old crashes are forgotten; back they count on, so a loop still ends."""
    spec = ChildSpec("s", "m:f", "actor", 0, ProcessSettings(), restart=RestartPolicy.TRANSIENT)
    strategy = Child(replace(spec, on_exhausted=ExhaustedRestarts.PARK, is_dynamic=True), 0)
    verdicts = [restart_policy.decide_restart(strategy, 9, 10_000.0 + second) for second in range(3)]
    verdicts += [restart_policy.decide_restart(strategy, 9, 10_000.0 + jump + second) for second in range(6)]
    assert verdicts[-1] is RestartDecision.PARK
    assert verdicts.index(RestartDecision.PARK) == (8 if jump > 0 else 5)
