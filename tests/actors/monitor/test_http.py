"""The monitor over real HTTP: health, status and metrics, as each message changes them."""

import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pykka
import pytest

from actors import messages
from actors.monitor import actor as monitor
from actors.monitor.monitor_state import REPORT_STALE_AFTER_S, MonitorState
from actors.runtime import messages as runtime_messages
from actors.strategy_process_names import build_process_name
from engine.platform.errors import ConfigurationError
from engine.platform.metrics import Metrics
from engine.platform.settings.settings import Settings
from tests.support.factories.monitored import CHILD, STRATEGY, NoPeers, Running, child, cycle, report


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    running = Running(home)
    yield running
    running.actor.close(1)
    pykka.ActorRegistry.stop_all()


def test_health_is_bad_until_the_supervisor_reports_and_good_after(running: Running) -> None:
    before = running.get("/healthz")
    assert (before.status_code, before.json()["problems"]) == (503, ["the supervisor has not reported yet"])
    running.tell(report(child("market"), child("prepare", "done"), child(CHILD, "backoff", "strategy")))
    after = running.get("/healthz")
    assert (after.status_code, after.json()) == (200, {"status": "ok", "problems": []})


def test_health_names_the_shared_actor_that_is_down(running: Running) -> None:
    running.tell(report(child("market"), child("limiter", "backoff", pid=None, memory_bytes=None)))
    answer = running.get("/healthz")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["limiter is backoff"])


def test_health_is_bad_when_the_supervisor_falls_silent(running: Running) -> None:
    running.tell(report(child("market")))
    assert running.actor.state.find_problems(time.monotonic(), time.time()) == []
    [problem] = running.actor.state.find_problems(time.monotonic() + REPORT_STALE_AFTER_S + 1, time.time())
    silence_s = re.fullmatch(r"the supervisor has not reported for (\d+) s", problem)
    assert silence_s is not None
    assert int(silence_s[1]) > REPORT_STALE_AFTER_S


def test_status_shows_each_strategy_with_its_last_decision_and_its_signals(running: Running) -> None:
    signal_id = uuid4()
    running.tell(
        report(child("market"), child(CHILD, kind="strategy")),
        cycle(signal_id=signal_id),
        messages.SignalAttempted(
            signal_id=signal_id, strategy_id=STRATEGY, outcome="delivered", status=200, reason=None, age_s=0.1
        ),
        cycle(action=None, symbol=None, confidence=None, outcome="skip_no_permit", missed_ticks=2, failures=1),
        messages.OutboxState(pending=3),
        messages.LimiterState(
            model="m", queue_length=2, oldest_wait_s=1.0, used={"rpm": 29.0}, limit={"rpm": 30.0, "tpm": 8000.0}
        ),
    )
    status = running.status()
    seen = status["strategies"][str(STRATEGY)]
    assert status["supervisor"]["pid"] == 4242
    assert [each["name"] for each in status["children"]] == ["market", CHILD]
    assert (seen["name"], seen["outcome"], seen["cycles"], seen["missed_ticks"]) == ("careful", "skip_no_permit", 2, 2)
    assert (seen["last_decision"]["action"], seen["last_decision"]["signal_id"]) == ("LONG", str(signal_id))
    assert seen["last_decision"]["age_s"] > 0
    assert seen["signals"] == {"delivered": 1}
    assert (status["outbox_pending"], status["limiter"]["m"]["limit"]["rpm"]) == (3, 30.0)
    assert (status["totals"]["cycles"], status["totals"]["decisions"]) == (2, 1)


def test_metrics_carry_the_promised_names_and_values(running: Running) -> None:
    running.tell(
        report(child("market"), child(CHILD, kind="strategy")),
        cycle(),
        messages.LlmCalled(
            strategy_id=STRATEGY,
            model="m",
            outcome="ok",
            duration_s=0.3,
            prompt_tokens=900,
            completion_tokens=100,
            cost_usd=Decimal("0.0002"),
        ),
        messages.SignalAttempted(
            signal_id=uuid4(), strategy_id=STRATEGY, outcome="delivered", status=200, reason=None, age_s=0.1
        ),
        messages.MarketFetched(venue="aster", symbol="BTCUSDT", interval="1m", outcome="ok", duration_s=0.02),
        messages.OutboxState(pending=4),
    )
    found, strategy = running.samples(), str(STRATEGY)

    def value(name: str, **labels: str) -> float:
        return found[name + json.dumps(labels, sort_keys=True)]

    assert value("sparky_cycles_total", strategy=strategy, outcome="ok") == 1
    assert value("sparky_decisions_total", strategy=strategy, action="LONG") == 1
    assert value("sparky_last_decision_timestamp_seconds", strategy=strategy) == 1_700_000_000
    assert value("sparky_breaker_state", strategy=strategy, state="closed") == 1
    assert value("sparky_breaker_state", strategy=strategy, state="open") == 0
    assert value("sparky_llm_requests_total", model="m", outcome="ok") == 1
    assert value("sparky_llm_tokens_total", strategy=strategy, kind="prompt") == 900
    assert value("sparky_llm_cost_usd_total", strategy=strategy) == pytest.approx(0.0002)
    assert value("sparky_signals_total", outcome="delivered") == 1
    assert value("sparky_process_up", process="market") == 1
    assert value("sparky_process_memory_bytes", process=CHILD) == 8_000_000
    for histogram in (
        "sparky_cycle_duration_seconds",
        "sparky_tick_lateness_seconds",
        "sparky_llm_request_duration_seconds",
        "sparky_limiter_wait_seconds",
        "sparky_decision_confidence",
        "sparky_signal_delivery_seconds",
    ):
        assert value(f"{histogram}_count") == 1
    assert value("sparky_limiter_queue_length") == 0
    assert value("sparky_outbox_pending") == 4


def test_restart_counters_never_fall_when_a_new_supervisor_counts_from_zero(running: Running) -> None:
    def restarts(total: int) -> float:
        reasons = {"crashed": total} if total else {}
        running.tell(report(child("market", restarts=total, restart_reasons=reasons)))
        name = "sparky_process_restarts_total" + json.dumps({"process": "market", "reason": "crashed"})
        return running.samples().get(name, 0.0)

    assert [restarts(total) for total in (0, 2, 2, 5, 0, 1, 3)] == [0, 2, 2, 5, 5, 6, 8]


def test_a_disk_that_refuses_costs_no_scrape(running: Running, home: Path) -> None:
    kept = home / "state" / "totals.json"
    kept.unlink()
    kept.mkdir()
    (kept / "in the way").touch()
    running.tell(cycle())
    assert running.get("/metrics").status_code == 200
    assert running.get("/healthz").status_code == 503  # it has no report yet, and is well otherwise


def test_a_strategy_that_is_gone_takes_its_gauges_and_leaves_its_counters(running: Running) -> None:
    running.tell(report(child("market"), child(CHILD, kind="strategy")), cycle(), report(child("market")))
    names = {key.partition("{")[0] for key in running.samples() if str(STRATEGY) in key}
    assert names == {
        "sparky_cycles_total",
        "sparky_decisions_total",
        "sparky_ticks_missed_total",
    }
    assert running.status()["strategies"] == {}


def test_the_alarm_for_a_parked_strategy_stands_until_it_runs_again(running: Running) -> None:
    strategy_id = uuid.uuid4()
    name = f"strategy-{strategy_id}"
    alarm = f'sparky_strategy_parked_timestamp_seconds{{"strategy": "{strategy_id}"}}'
    parked = runtime_messages.ChildParked(name=build_process_name(strategy_id), revision="1", reason="six")
    running.tell(report(child(name, "parked", "strategy")), parked)
    assert time.time() - running.samples()[alarm] < 60
    running.tell(report())
    assert alarm in running.samples()
    running.tell(report(child(name, "running", "strategy")))
    assert alarm not in running.samples()


def test_a_renamed_strategy_keeps_one_name(running: Running) -> None:
    running.tell(cycle(), cycle(name="bold"))
    infos = [key for key in running.samples() if key.startswith("sparky_strategy_info")]
    assert len(infos) == 1
    assert '"bold"' in infos[0]


def test_an_unknown_path_says_what_there_is(running: Running) -> None:
    answer = running.get("/nothing")
    assert answer.status_code == 404
    assert "/status" in answer.json()["error"]


def test_a_taken_port_is_one_sentence_naming_the_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        actor = monitor.make(Settings(sparky_monitor_port=port), NoPeers(), "")
        with pytest.raises(ConfigurationError, match="SPARKY_MONITOR_PORT") as caught:
            actor.open()
    assert "\n" not in str(caught.value)


def test_an_unknown_message_is_refused() -> None:
    actor = monitor.make(Settings(), NoPeers(), "")
    with pytest.raises(TypeError, match="SignalQueued"):
        actor.receive(messages.SignalQueued(signal_id=uuid4()))


def test_two_registries_do_not_know_each_other() -> None:
    from prometheus_client import CollectorRegistry

    first, second = MonitorState(Metrics(CollectorRegistry())), MonitorState(Metrics(CollectorRegistry()))
    first.on_cycle_finished(cycle())
    assert first.build_status(0, 0)["totals"]["cycles"] == 1
    assert second.build_status(0, 0)["totals"]["cycles"] == 0


def test_turns_of_a_breaker_are_counted(running: Running) -> None:
    running.tell(*(cycle(breaker=state) for state in ("closed", "open", "open", "closed", "open")))
    found = running.samples()

    def turns(state: str) -> float:
        labels = json.dumps({"state": state, "strategy": str(STRATEGY)})
        return found["sparky_breaker_transitions_total" + labels]

    assert (turns("open"), turns("closed")) == (2, 1)
