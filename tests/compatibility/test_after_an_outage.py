"""What waits after an outage has ended: for how long, who sees it, and what a person does about it."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from actors.messages import CycleFinished
from cli.status import status_model
from cli.status.status_table import render_status
from engine.deciding.circuit_breaker import (
    FAILURES_TO_OPEN,
    Breaker,
    on_restart,
    on_strategy_fault,
    on_success,
    on_upstream_failure,
    try_admit,
)
from engine.deciding.circuit_breaker_file import BreakerFile
from engine.deciding.schedule import build_cadence, find_next_tick
from tests.actors.conftest import groq_url, peers, real_time_url, scene, serve
from tests.actors.scene import MakeScene
from tests.cli.status.test_status_table import a_strategy, a_view, drawn
from tests.support.factories.monitored import CHILD, STRATEGY, Running, child, cycle, report
from tests.support.processes.directories import short_directory
from tests.support.servers.groq_double import GroqDouble, error, ok

__all__ = ["groq_url", "peers", "real_time_url", "scene", "serve"]

HOLD = ok('{"action":"HOLD","symbol":null,"size_usd":0,"confidence":0,"reasoning":""}')
BUSY = error(503, headers={"retry-after": "50"})  # later than a cycle's deadline: no further request is made in it
SERVICES = ("database", "groq", "venue", "webhook")
HOURS = 3_600.0


@pytest.fixture
def home() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    made = Running(home)
    yield made
    made.actor.close(1)
    pykka.ActorRegistry.stop_all()


def opened_by(service: str, now: float = 0.0, retry_after_s: float | None = None) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker = on_upstream_failure(breaker, now, f"{service}: away", retry_after_s, service=service)
    return breaker


def cool_downs(service: str, probes: int) -> list[float]:
    breaker, now, found = opened_by(service), 0.0, []
    for _ in range(probes):
        found.append(breaker.until - now)
        now = breaker.until
        breaker, is_admitted = try_admit(breaker, now)
        assert is_admitted
        breaker = on_upstream_failure(breaker, now, f"{service}: away", service=service)
    return found


def test_our_own_database_is_probed_after_5_s_and_then_at_least_once_a_minute() -> None:
    assert cool_downs("database", 7) == [5, 10, 20, 40, 60, 60, 60]


@pytest.mark.parametrize("service", ["groq", "venue", "webhook"])
def test_any_other_upstream_is_probed_after_60_s_and_then_at_least_each_15_minutes(service: str) -> None:
    assert cool_downs(service, 7) == [60, 120, 240, 480, 900, 900, 900]


def test_no_wish_of_our_own_database_keeps_its_breakers_open_for_more_than_a_minute() -> None:
    assert opened_by("database", retry_after_s=10_000).until == 60
    assert opened_by("groq", retry_after_s=10_000).until == 900


@given(
    failures=st.lists(
        st.tuples(st.sampled_from(SERVICES), st.floats(min_value=0, max_value=2 * HOURS), st.booleans()), max_size=40
    )
)
def test_a_failure_of_one_upstream_never_shortens_what_another_waits_for(
    failures: list[tuple[str, float, bool]],
) -> None:
    """`failures` are the service, the seconds that pass before it, and whether it waits for its probe (the row that
    has changed is read before it)."""
    breaker, now = Breaker(), 1_000.0
    for service, seconds, is_probe in failures:
        now += seconds
        breaker, is_admitted = try_admit(breaker, now)
        if is_probe and not is_admitted:
            continue
        before = breaker
        breaker = on_upstream_failure(breaker, now, f"{service}: away", service=service)
        if before.state == "open":
            assert breaker.until >= before.until
        assert not breaker.must_pause
        cap_s = 60 if service == "database" else 900
        if before.state != "open" and breaker.state == "open":
            assert now < breaker.until <= now + cap_s
            assert breaker.reason == f"{service}: away"


@given(between=st.lists(st.sampled_from(["database", "groq"]), min_size=1, max_size=30))
def test_groq_is_asked_no_more_often_because_the_database_fails_in_between(between: list[str]) -> None:
    breaker, now, asked, waits = opened_by("groq"), 0.0, 0.0, [60.0]
    for service in between:
        now = breaker.until
        breaker, _ = try_admit(breaker, now)
        if service == "groq":
            assert now - asked >= waits[-1]
            asked = now
            waits.append(min(900.0, waits[-1] * 2))
        breaker = on_upstream_failure(breaker, now, "away", service=service)


def test_a_row_that_cannot_be_read_while_the_breaker_is_open_is_no_probe() -> None:
    breaker = opened_by("groq")
    for second in range(50):
        breaker = on_upstream_failure(breaker, float(second), "database: away", service="database")
    assert (breaker.until, breaker.reason) == (60, "groq: away")
    assert try_admit(breaker, 60.0)[1]


# a new process by a person's wish


@given(
    events=st.lists(
        st.sampled_from(["database", "groq", "fault", "other fault", "success", "probe"]), min_size=0, max_size=30
    ),
    seconds=st.floats(min_value=0, max_value=2_000),
)
def test_a_restart_ends_every_wait_and_forgets_no_fault(events: list[str], seconds: float) -> None:
    breaker, now = Breaker(), 100.0
    for event in events:
        now += seconds
        if breaker.must_pause:
            break
        if event == "probe":
            breaker, _ = try_admit(breaker, now)
        elif event == "success":
            breaker = on_success(breaker)
        elif "fault" in event:
            breaker = on_strategy_fault(breaker, now, event)
        else:
            breaker = on_upstream_failure(breaker, now, f"{event}: away", service=event)
    fresh = on_restart(breaker)
    assert fresh.state == "closed"
    assert try_admit(fresh, now) == (fresh, True)
    assert (fresh.must_pause, fresh.faults, fresh.fault_reasons) == (
        breaker.must_pause,
        breaker.faults,
        breaker.fault_reasons,
    )
    if breaker.must_pause:
        assert fresh.pause_reason == breaker.pause_reason
    if breaker.faults == 0:
        assert fresh == Breaker()


def test_the_next_process_begins_closed_when_it_was_asked_for_whatever_the_last_one_saved(tmp_path: Path) -> None:
    strategy_id = uuid4()
    old = BreakerFile(tmp_path, strategy_id)
    old.load()
    old.save(opened_by("groq"))
    BreakerFile(tmp_path, strategy_id).request_reset()
    old.save(opened_by("venue"))  # the old process was about to
    assert BreakerFile(tmp_path, strategy_id).load().breaker == Breaker()
    old.load()
    old.save(opened_by("groq"))
    assert BreakerFile(tmp_path, strategy_id).load().breaker.state == "open"  # asked for once, done once


def test_a_process_that_dies_before_its_first_cycle_does_not_bring_the_old_breaker_back(tmp_path: Path) -> None:
    strategy_id = uuid4()
    file = BreakerFile(tmp_path, strategy_id)
    file.load()
    file.save(on_strategy_fault(opened_by("groq"), 0.0, "nonsense"))
    file.request_reset()
    assert BreakerFile(tmp_path, strategy_id).load().breaker.state == "closed"
    kept = BreakerFile(tmp_path, strategy_id).load().breaker
    assert (kept.state, kept.faults) == ("closed", 1)


def test_a_reset_that_was_taken_back_resets_nothing(tmp_path: Path) -> None:
    strategy_id = uuid4()
    file = BreakerFile(tmp_path, strategy_id)
    file.load()
    file.save(opened_by("groq"))
    file.request_reset()
    file.withdraw_reset()
    file.withdraw_reset()
    assert BreakerFile(tmp_path, strategy_id).load().breaker.state == "open"


def test_a_restarted_strategy_asks_the_provider_on_its_next_tick(scene: MakeScene) -> None:
    with GroqDouble(BUSY) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy()
        here.run(strategy_id)
        cooling = here.cycles(1, "skip_breaker_open")[0]
        groq.answers = [HOLD]
        BreakerFile(here.settings.sparky_home, strategy_id).request_reset()
        here.peers.stop_one(f"strategy-{strategy_id}")
        here.run(strategy_id)
        cured = here.cycles(1, "ok")[0]
    assert (cooling.breaker, cured.breaker, cured.failures) == ("open", "closed", 0)


def test_a_strategy_that_is_to_be_paused_is_not_saved_from_it_by_a_restart(scene: MakeScene) -> None:
    here = scene()
    strategy_id = here.strategy()
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):  # the pause could not be written: the database was away
        breaker = on_strategy_fault(breaker, time.monotonic(), "nonsense")
    file = BreakerFile(here.settings.sparky_home, strategy_id)
    file.load()
    file.save(breaker)
    file.request_reset()
    here.run(strategy_id)
    here.peers.wait_for_end(f"strategy-{strategy_id}")
    assert here.status(strategy_id) == ("paused", "5 failures without a success: 5 \u00d7 nonsense")
    assert not list((here.settings.sparky_home / "state" / "breaker").iterdir())


# who sees it


def test_a_cycle_tells_why_the_breaker_is_open_and_when_it_is_probed(scene: MakeScene) -> None:
    with GroqDouble(BUSY) as groq:
        here = scene(groq.url)
        here.run(here.strategy(cadence_seconds=2))
        began = time.time()
        cooling = here.cycles(1, "skip_breaker_open")[0]
        here.peers.stop()
    assert cooling.probe_at is not None
    assert cooling.breaker_since is not None
    assert began <= cooling.breaker_since <= cooling.at
    assert cooling.at < cooling.probe_at <= cooling.breaker_since + 60 + 2 + 1  # the first tick after the cool-down
    assert "503" in (cooling.breaker_reason or "")
    assert here.cycles(1)[0].probe_at is None  # that of a closed one


def test_the_monitor_shows_the_probe_while_the_breaker_is_open_and_forgets_it_with_the_strategy(
    running: Running,
) -> None:
    name = f'sparky_breaker_probe_timestamp_seconds{{"strategy": "{STRATEGY}"}}'
    opened = {"breaker": "open", "probe_at": 1_800_000_000.0, "breaker_since": 1_700_000_000.0}
    running.tell(report(child(CHILD, kind="strategy")), cycle(**opened, breaker_reason="groq: 503"))
    assert running.samples()[name] == 1_800_000_000.0
    seen = running.status()["strategies"][str(STRATEGY)]
    assert (seen["probe_at"], seen["breaker_reason"]) == (1_800_000_000.0, "groq: 503")
    running.tell(cycle())
    assert name not in running.samples()
    running.tell(cycle(**opened), report())
    assert name not in running.samples()


def test_status_says_when_the_probe_comes_and_why_it_waits() -> None:
    facts = {"breaker": "open", "probe_at": 1_700.0, "breaker_reason": "groq: 503 over capacity", "breaker_since": 900}
    monitor = {
        "children": [{"name": "strategy-a", "kind": "strategy", "title": "bold", "state": "running", "restarts": 0}],
        "strategies": {"a": facts},
    }
    (row,) = status_model.build_status(monitor, [], 1_580.0)["strategies"]
    assert (row["state"], row["probe_at"], row["probe_in_s"]) == ("breaker open", 1_700.0, 120.0)
    assert (row["breaker_reason"], row["breaker_since"]) == ("groq: 503 over capacity", 900)
    shown = a_strategy("bold", **{name: row[name] for name in ("state", "probe_in_s", "breaker_reason")})
    text = "\n".join(drawn(a_view([shown]), 190))
    assert "probe in 2 m 0 s" in text
    assert "groq: 503 over capacity" in text
    assert render_status(a_view([a_strategy("bold", state="breaker open")])) is not None  # of an older monitor


# a thousand at once


def test_a_thousand_probes_of_a_database_that_is_back_are_spread_over_their_cadence() -> None:
    """All breakers opened by one outage; each probes on its own grid, so that no second gets a crowd."""
    probes = Counter[int]()
    for number in range(1_000):
        cadence = build_cadence(UUID(int=number), 45.0)
        now, breaker = find_next_tick(cadence, 0.0), Breaker()
        while now < 600.0:
            breaker, is_admitted = try_admit(breaker, now)
            if is_admitted:
                breaker = on_upstream_failure(breaker, now, "database: away", service="database")
            now = find_next_tick(cadence, now)
        probes[int(find_next_tick(cadence, max(600.0, breaker.until)))] += 1
    assert max(probes.values()) < 60
    assert max(probes) <= 600 + 60 + 45 + 1


def test_strategies_that_could_not_read_their_row_look_again_at_moments_of_their_own(scene: MakeScene) -> None:
    here = scene()
    here.settings = here.settings.model_copy(update={"database_url": SecretStr("host=/nowhere dbname=none")})
    began = time.monotonic()
    looks = list[float]()
    for number in range(8):  # ids of every run the same: those of chance would now and then be close together
        actor = here.run(UUID(int=number))
        looks.append(actor.next_retry_at(began) - began)
    assert max(looks) <= 5.0
    assert max(looks) - min(looks) > 1.0
    failed = here.peers.wait_for(CycleFinished, lambda c: c.outcome == "upstream_database", 8)
    assert {cycle.breaker for cycle in failed} == {"closed"}
