"""What only the database or the monitor knows is told as unknown when that one is away: never as 0, flat or none."""

import fcntl
import io
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from actors.messages import LimiterState, OutboxState, UnattendedPositions
from actors.monitor.monitor_state import MonitorState
from actors.runtime.messages import SupervisorReport
from cli.commands.decision_report import render_decision
from cli.status import status_model
from cli.status.status import collect_status
from cli.status.status_table import render_status
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.platform.metrics import Metrics
from engine.platform.settings.settings import read_environment
from engine.store.store import Store
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.cli.status.test_status import Watched, child, cycle
from tests.support.clients.sql import Sql
from tests.support.factories.monitored import Running

__all__ = ["home", "own_logging", "sparky"]

AWAY: Final = "postgresql://me:hunter2@127.0.0.1:1/nothing"
OF_THE_BOOKS: Final = ("realized_pnl_usd", "unrealized_pnl_usd", "equity_usd", "llm_cost_today_usd")
OF_A_ROW: Final = (*OF_THE_BOOKS, "positions", "drawdown_percent", "llm_decisions_today", "llm_cost_per_decision_usd")
ONE: Final = UUID(int=1)


@pytest.fixture
def watched(sparky: Sparky) -> Iterator[Watched]:
    watched = Watched()
    sparky.environment["SPARKY_MONITOR_PORT"] = str(watched.port)
    yield watched
    watched.server.close()


def running_strategy(store: Store, name: str = "bold") -> UUID:
    new = NewStrategy(user_id=store.ensure_user("a@b.c"), name=name, status=StrategyStatus.RUNNING)
    return store.create_strategy(new).id


def drawn(sparky: Sparky, width: int) -> str:
    """What `sparky status` shows at a terminal of so many columns."""
    screen = Console(width=width, file=io.StringIO())
    screen.print(render_status(collect_status(read_environment(sparky.environment)), width))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def write_into_the_row_of_ill(sql: Sql, field: str, value: str) -> None:
    """As if the database told this JSON there, of the strategy that is called ill."""
    sql("alter function public.strategy_overview() rename to whole_overview")
    row = f"jsonb_set(row, '{{{field}}}', '{value}')"
    sql(
        "create function public.strategy_overview() returns jsonb language sql as $$ "  # noqa: S608 - the tests' own
        f"select jsonb_agg(case when row->>'name' = 'ill' then {row} else row end) "
        "from jsonb_array_elements(public.whole_overview()) row $$"
    )


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 160])
def test_without_the_database_nothing_that_it_alone_knows_is_told(width: int, sparky: Sparky, watched: Watched) -> None:
    watched.report(child("market", "actor"), child(f"strategy-{ONE}", "strategy", "bold"))
    watched.facts.on_cycle_finished(cycle(ONE))
    sparky.environment["DATABASE_URL"] = AWAY
    text = in_one_line(drawn(sparky, width))
    for claim in ("flat", "0.00", "realised 0", "equity 0", "model today 0"):
        assert claim not in text, text
    assert "bold" in text
    assert "equity -, realised - USD" in text
    assert "model today - USD" in text
    assert "! whether a kill switch is on is not known" in text


def test_without_the_database_programs_read_null(sparky: Sparky, watched: Watched) -> None:
    watched.report(child(f"strategy-{ONE}", "strategy", "bold"))
    sparky.environment["DATABASE_URL"] = AWAY
    view = sparky.json("status")
    [row] = view["strategies"]
    assert {name: row[name] for name in OF_A_ROW} == dict.fromkeys(OF_A_ROW)
    assert {name: view["totals"][name] for name in OF_THE_BOOKS} == dict.fromkeys(OF_THE_BOOKS)
    assert (view["llm"]["cost_today_usd"], view["llm"]["decisions_today"]) == (None, None)
    assert view["kill_switches"] is None


@pytest.mark.parametrize("monitor", ["answers", "away"])
def test_without_the_database_it_is_not_said_that_there_are_no_strategies(
    monitor: str, sparky: Sparky, watched: Watched
) -> None:
    if monitor == "answers":
        watched.report(child("market", "actor"))
    else:
        watched.server.close()
    sparky.environment["DATABASE_URL"] = AWAY
    done, told = sparky("status", "--once"), sparky("status", "--json")
    assert (done.exit_code, told.exit_code) == (int(monitor == "away"),) * 2
    assert "There are no strategies" not in done.output
    assert json.loads(told.stdout)["strategies"] is None
    if monitor == "away":
        assert "Sparky is not running on" in done.stderr
        assert "The database says: " in done.stderr
    else:
        assert "Which strategies exist is not known." in done.output


@pytest.mark.parametrize(
    ("lost", "kept"), [("kill_switches", "strategy_overview"), ("strategy_overview", "kill_switches")]
)
def test_a_reading_that_fails_takes_no_other_with_it(
    lost: str, kept: str, sparky: Sparky, store: Store, sql: Sql, watched: Watched
) -> None:
    key = running_strategy(store)
    store.set_kill_switch(None, None, is_on=True, reason="news")
    watched.report(child(f"strategy-{key}", "strategy", "bold"))
    sql(f"alter function public.{lost}() rename to lost")  # these two names
    view, text = sparky.json("status"), sparky.ok("status", "--once")
    assert view["database"] != "ok"
    if kept == "kill_switches":
        assert view["kill_switches"][0]["reason"] == "news"
        assert view["strategies"][0]["positions"] is None
        assert "flat" not in text
        assert "the kill switch is on for everybody (news)" in text
    else:
        assert view["kill_switches"] is None
        assert Decimal(view["totals"]["equity_usd"]) == 10_000
        assert "flat" in text
        assert "! whether a kill switch is on is not known" in text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_without_the_monitor_nothing_that_it_alone_knows_is_told(
    width: int, sparky: Sparky, store: Store, watched: Watched
) -> None:
    watched.server.close()
    running_strategy(store)
    text = in_one_line(drawn(sparky, width))
    for claim in ("0 cycles", "0 decisions", "signals: none", "0 pending"):
        assert claim not in text, text
    assert "- cycles, - decisions; signals: -, - pending" in text
    assert "flat" in text or width == 80
    view = json.loads(sparky("status", "--json").stdout)
    unknown = ("healthy", "problems", "shared", "limiter", "outbox_pending")
    assert {name: view[name] for name in unknown} == dict.fromkeys(unknown)
    counted = ("cycles", "decisions", "signals", "restarts")
    assert {name: view["totals"][name] for name in counted} == dict.fromkeys(counted)
    [row] = view["strategies"]
    of_a_process = ("failures", "breaker", "signals", "restarts", "restart_reasons", "cycles")
    assert {name: row[name] for name in of_a_process} == dict.fromkeys(of_a_process)


def test_behind_a_silent_monitor_no_strategy_is_called_not_started(sparky: Sparky, store: Store, home: Path) -> None:
    running_strategy(store)
    (home / "run").mkdir()
    with (home / "run" / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242")
        lock.flush()
        done, view = sparky("status"), json.loads(sparky("status", "--json").stdout)
    assert "runs as process 4242, but its monitor does not answer" in done.stderr
    assert "not started" not in done.stdout
    assert (view["running"], view["supervisor"]["pid"], view["strategies"][0]["state"]) == (None, 4242, "unknown")


@pytest.mark.parametrize("figure", ["realized_pnl_usd", "unrealized_pnl_usd", "equity_usd", "llm_cost_today_usd"])
def test_a_figure_that_is_null_is_shown_as_unknown_and_so_is_the_sum_it_belongs_to(
    figure: str, sparky: Sparky, store: Store, sql: Sql, watched: Watched
) -> None:
    for name in ("ill", "well"):
        watched.report(child(f"strategy-{running_strategy(store, name)}", "strategy", name))
    write_into_the_row_of_ill(sql, figure, "null")
    view, text = sparky.json("status"), sparky.ok("status", "--once")
    ill, well = (next(row for row in view["strategies"] if row["name"] == name) for name in ("ill", "well"))
    assert ill[figure] is None
    assert Decimal(well[figure]) >= 0
    assert view["totals"][figure] is None
    if figure in ("realized_pnl_usd", "unrealized_pnl_usd"):
        [line] = [line for line in text.splitlines() if line.startswith("ill")]
        assert "+0.00" not in line
    if figure == "equity_usd":
        assert "equity -, realised 0.00 USD" in text
    if figure == "llm_cost_today_usd":
        assert "model today - USD" in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("positions", '[{"side": "UP"}]'),
        ("positions", "null"),
        ("positions", '"many"'),
        ("last_decision", '{"action": 7}'),
        ("equity_usd", '"much"'),
        ("llm_decisions_today", "null"),
        ("is_paper_trading", '"perhaps"'),
        ("status", "null"),
    ],
)
def test_a_row_that_cannot_be_read_is_unknown_there_and_hides_no_other(
    field: str, value: str, sparky: Sparky, store: Store, sql: Sql, watched: Watched
) -> None:
    keys = [running_strategy(store, name) for name in ("ill", "well")]
    watched.report(*(child(f"strategy-{key}", "strategy", "x") for key in keys))
    write_into_the_row_of_ill(sql, field, value)
    view, text = sparky.json("status"), sparky.ok("status", "--once")
    ill, well = (next(row for row in view["strategies"] if row["name"] == name) for name in ("ill", "well"))
    assert ill[field] is None
    assert well["positions"] == []
    assert Decimal(well["equity_usd"]) == 10_000
    [line] = [line for line in text.splitlines() if line.startswith("ill")]
    assert ("flat" in line) is (field != "positions")
    assert value == "null" or f"! ill: {field} cannot be read" in text


def test_kill_switches_that_cannot_be_read_are_not_called_off(sparky: Sparky, sql: Sql, watched: Watched) -> None:
    watched.report(child("market", "actor"))
    sql("alter function public.kill_switches() rename to whole_switches")
    sql("""create function public.kill_switches() returns jsonb language sql as $$ select '[{"is_on": 1}]'::jsonb $$""")
    assert sparky.json("status")["kill_switches"] is None
    assert "! whether a kill switch is on is not known" in sparky.ok("status", "--once")


def test_a_monitor_that_has_heard_nothing_yet_says_null(home: Path) -> None:
    running = Running(home)
    try:
        fresh = running.status()
        unknown = ("children", "limiter", "outbox_pending")
        assert {name: fresh[name] for name in unknown} == dict.fromkeys(unknown)
        assert fresh["healthy"] is False
        running.tell(SupervisorReport(pid=7, children=()), OutboxState(pending=0))
        running.tell(LimiterState(model="m", queue_length=0, oldest_wait_s=0, used={}, limit={}))
        known = running.status()
        assert (known["children"], known["outbox_pending"], set(known["limiter"])) == ([], 0, {"m"})
    finally:
        running.actor.close(1)
        running.ref.stop()


def test_pending_signals_that_nobody_has_counted_lately_are_unknown() -> None:
    watched = Watched()
    try:
        watched.report(child("dispatcher", "actor"))
        now = time.monotonic()
        watched.facts.on_outbox_state(OutboxState(pending=3), now)
        assert watched.facts.build_status(now + 1, time.time())["outbox_pending"] == 3
        assert watched.facts.build_status(now + 60, time.time())["outbox_pending"] is None
    finally:
        watched.server.close()


@pytest.mark.parametrize("message", [OutboxState(pending=3), UnattendedPositions(paper=2, live=1)])
def test_what_nobody_has_counted_lately_is_no_series(message: OutboxState | UnattendedPositions) -> None:
    now, registry = [1_000.0], CollectorRegistry()
    facts = MonitorState(Metrics(registry, clock=lambda: now[0]))

    def told() -> list[float]:
        names = ("sparky_outbox_pending", "sparky_unattended_positions")
        return [each.value for family in registry.collect() if family.name in names for each in family.samples]

    assert told() == []
    if isinstance(message, OutboxState):
        facts.on_outbox_state(message, now[0])
    else:
        facts.on_unattended_positions(message)
    counted = told()
    assert counted in ([3], [2, 1])
    now[0] += 20
    assert told() == counted
    now[0] += 600
    assert told() == []


def test_before_the_supervisor_has_reported_status_tells_no_process(
    sparky: Sparky, store: Store, watched: Watched
) -> None:
    key = running_strategy(store)
    view, text = sparky.json("status"), sparky.ok("status", "--once")
    assert (view["shared"], view["strategies"][0]["id"]) == (None, str(key))
    assert view["strategies"][0]["state"] == "unknown"
    assert "not started" not in text


def test_a_monitor_of_an_older_release_without_some_facts_is_read(sparky: Sparky) -> None:
    view = status_model.build_status(
        {"supervisor": {"pid": 1}, "children": None, "totals": None, "strategies": None}, None, 0.0
    )
    assert (view["running"], view["shared"], view["strategies"]) == (True, None, None)
    assert view["totals"]["cycles"] is None


def a_story(**facts: Any) -> dict[str, Any]:
    known = dict.fromkeys(
        [
            "symbol",
            "size_usd",
            "confidence_score",
            "reasoning",
            "reason",
            "suppressed",
            "actual_pnl",
            "model",
            "request_id",
            "cost_usd",
            "raw_answer",
            "market",
            "decision_json",
            "stop_loss_percent",
            "take_profit_percent",
        ]
    )
    decision = {"id": str(ONE), "strategy_name": "bold", "created_at": "2026-01-01T00:00:00+00:00", "is_fault": False}
    decision |= known | {"signal_action": "LONG"} | facts
    empty: dict[str, Any] = {"attempts": [], "fills": [], "positions": [], "trades": [], "request": None}
    return {"decision": decision, "signal": None} | empty


def test_a_decision_whose_record_lacks_something_tells_that_as_unknown() -> None:
    text = render_decision(a_story())
    for claim in ("held nothing", "0.00 USD", "confidence 0", "(nothing)"):
        assert claim not in text, text
    assert "held: not recorded" in text
    assert "held nothing" in render_decision(a_story(market={"positions": [], "equity_usd": 5}))
