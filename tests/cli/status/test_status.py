import fcntl
import json
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from actors.messages import CycleFinished, LimiterState
from actors.monitor.http import MonitorServer
from actors.monitor.monitor_state import MonitorState
from actors.runtime.messages import ChildReport, SupervisorReport
from cli import output
from cli.status import status_model
from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.strategy import StrategyStatus
from engine.platform.metrics import Metrics
from engine.store.cycles import DecisionRecord
from engine.store.store import Store
from tests.cli.conftest import Sparky
from tests.support.servers.ports import free_port


class Watched:
    """A monitor that serves over HTTP, to be fed by the test."""

    def __init__(self) -> None:
        self.port = free_port()
        registry = CollectorRegistry()
        self.facts = MonitorState(Metrics(registry))
        self.server = MonitorServer("127.0.0.1", self.port, lambda: registry, self.facts)

    def report(self, *children: ChildReport) -> None:
        self.facts.on_supervisor_report(SupervisorReport(pid=4242, children=children), time.monotonic())


@pytest.fixture
def watched(sparky: Sparky) -> Iterator[Watched]:
    watched = Watched()
    sparky.environment["SPARKY_MONITOR_PORT"] = str(watched.port)
    yield watched
    watched.server.close()


def child(name: str, kind: str, title: str = "", **more: Any) -> ChildReport:
    facts = {"state": "running", "pid": 7, "restarts": 0, "memory_bytes": 7_340_032, "uptime_s": 3_700.0}
    return ChildReport.model_validate({"name": name, "kind": kind, "title": title or name} | facts | more)


def cycle(strategy_id: UUID, **more: Any) -> CycleFinished:
    now = time.time()
    facts = {
        "strategy_id": strategy_id,
        "name": "bold",
        "outcome": "ok",
        "duration_s": 0.4,
        "engine_s": 0.01,
        "lateness_s": 0.0,
        "at": now - 4,
        "next_tick_at": now + 600,
        "failures": 0,
        "breaker": "closed",
        "action": "LONG",
        "symbol": "BTCUSDT",
        "confidence": 0.82,
    }
    return CycleFinished.model_validate(facts | more)


def strategy(store: Store, name: str = "bold") -> UUID:
    new = NewStrategy(user_id=store.ensure_user("a@b.c"), name=name, status=StrategyStatus.RUNNING)
    return store.create_strategy(new).id


def test_when_nothing_runs_it_says_so_and_still_shows_the_rows(sparky: Sparky, store: Store) -> None:
    strategy(store)
    done = sparky("status")
    assert done.exit_code == 1
    assert done.stderr.startswith("Sparky is not running on ")
    assert done.stderr.count("\n") == 1
    assert "bold" in done.stdout
    assert "not started" in done.stdout


def test_the_json_joins_processes_cycles_and_books(sparky: Sparky, store: Store, watched: Watched) -> None:
    key = strategy(store)
    watched.report(child("market", "actor"), child(f"strategy-{key}", "strategy", "bold", restarts=2))
    watched.facts.on_cycle_finished(cycle(key))
    view = sparky.json("status")
    [row] = view["strategies"]
    assert (view["running"], view["healthy"], view["supervisor"]["pid"]) == (True, True, 4242)
    assert [each["name"] for each in view["shared"]] == ["market"]
    assert (row["id"], row["state"], row["pid"], row["restarts"]) == (str(key), "running", 7, 2)
    assert (row["last_decision"]["action"], row["last_decision"]["symbol"]) == ("LONG", "BTCUSDT")
    assert 0 < row["next_tick_in_s"] <= 600
    assert Decimal(row["equity_usd"]) == 10_000
    assert Decimal(view["totals"]["equity_usd"]) == 10_000
    assert (view["totals"]["cycles"], view["totals"]["restarts"]) == (1, 2)


def test_the_table_shows_shared_actors_above_strategies_and_totals_below(
    sparky: Sparky, store: Store, watched: Watched
) -> None:
    key = strategy(store)
    watched.report(child("market", "actor"), child(f"strategy-{key}", "strategy", "bold"))
    watched.facts.on_cycle_finished(cycle(key))
    watched.facts.on_limiter_state(
        LimiterState(model="m", queue_length=3, oldest_wait_s=1, used={"rpm": 12}, limit={"rpm": 30})
    )
    text = sparky.ok("status", "--once")
    assert text.index("market") < text.index("bold") < text.index("1 cycles, 1 decisions")
    for shown in ("LONG BTCUSDT 0.82", "7.0 MB", "1 h 1 m", "flat", "+0.00", "m: rpm 12/30; 3 waiting"):
        assert shown in text


def test_a_monitor_without_its_database_still_shows_the_processes(sparky: Sparky, watched: Watched) -> None:
    watched.report(child("market", "actor"), child(f"strategy-{UUID(int=1)}", "strategy", "bold"))
    sparky.environment["DATABASE_URL"] = "postgresql://me:hunter2@127.0.0.1:1/nothing"
    text = sparky.ok("status", "--once")
    assert "bold" in text
    assert "! database: " in text
    assert "hunter2" not in text


def test_a_silent_monitor_is_told_from_a_sparky_that_does_not_run(sparky: Sparky, home: Path) -> None:
    (home / "run").mkdir()
    with (home / "run" / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242")
        lock.flush()
        done = sparky("status")
    assert done.exit_code == 1
    assert "runs as process 4242, but its monitor does not answer" in done.stderr


def test_a_stranger_on_the_monitors_port_is_not_taken_for_ours(sparky: Sparky) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        sparky.environment["SPARKY_MONITOR_PORT"] = str(stranger.getsockname()[1])
        stranger.close()
        done = sparky("status", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["running"] is False


@pytest.mark.parametrize(
    ("process", "breaker", "row", "word"),
    [
        ("running", "closed", "running", "running"),
        ("running", "half_open", "running", "breaker half open"),
        ("backoff", "open", "running", "backoff"),
        (None, None, "running", "not started"),
        (None, None, "paused", "paused"),
    ],
)
def test_one_word_says_how_a_strategy_is(process: str | None, breaker: str | None, row: str, word: str) -> None:
    found = {} if process is None else {"state": process}
    assert status_model.strategy_state(found, {"breaker": breaker}, {"status": row}) == word


def test_a_strategy_that_the_monitor_forgot_shows_its_last_recorded_decision() -> None:
    decision = {"action": "CLOSE", "symbol": "BTCUSDT", "confidence": 0.9, "at": "1970-01-01T00:01:00+00:00", "id": "x"}
    [row] = status_model.build_status(
        None, [{"id": "1", "name": "a", "status": "paused", "last_decision": decision}], 90
    )["strategies"]
    assert (row["last_decision"]["action"], row["last_decision"]["age_s"]) == ("CLOSE", 30)


@pytest.mark.parametrize(("amount", "text"), [("-0.004", "+0.00"), ("-0.006", "-0.01"), ("1234.565", "+1,234.56")])
def test_money_is_shown_to_the_cent_and_never_as_minus_nothing(amount: str, text: str) -> None:
    assert output.format_cents(Decimal(amount), "+,.2f") == text


def test_a_strategy_that_only_the_supervisor_knows_is_shown_too() -> None:
    status = {"at": 1.0, "children": [child(f"strategy-{UUID(int=1)}", "strategy", "new").model_dump(mode="json")]}
    [row] = status_model.build_status(status, [], 2.0)["strategies"]
    assert (row["name"], row["state"], row["equity_usd"]) == ("new", "running", None)


@pytest.mark.usefixtures("one_day")
def test_cost_budget_and_what_the_limits_cannot_carry_are_shown(sparky: Sparky, store: Store, watched: Watched) -> None:
    strategy_id = strategy(store)
    sparky.environment["SPARKY_DAILY_LLM_BUDGET_USD"] = "2.50"
    for number in range(4):
        record = DecisionRecord(action=Action.HOLD, cost_usd=Decimal("0.00025"))
        store.record_decision(UUID(int=number + 1), strategy_id, record, None)
    state = LimiterState(
        model="m",
        queue_length=3,
        oldest_wait_s=9.0,
        used={"rpm": 30},
        limit={"rpm": 30},
        need_rpm=133.33,
        limit_rpm=30,
        limited_by="rpm",
        effective_cadence_s=200,
    )
    watched.facts.on_limiter_state(state)
    watched.report(child("limiter", "actor"), child(f"strategy-{strategy_id}", "strategy", "bold"))
    view = sparky.json("status", "--once")
    assert view["llm"] == {
        "cost_today_usd": "0.00100000",
        "decisions_today": 4,
        "per_decision_usd": "0.00025000",
        "daily_budget_usd": "2.50",
    }
    assert view["strategies"][0]["llm_cost_per_decision_usd"] == "0.00025000"
    assert view["limiter"]["m"]["effective_cadence_s"] == 200
    shown = sparky.ok("status", "--once")
    assert "model today 0.0010 of 2.50 USD, 0.000250 a decision" in shown
    assert "need 133.3 a minute, limit 30.0 (rpm): TOO FEW, the busiest get one in 200 s" in shown
