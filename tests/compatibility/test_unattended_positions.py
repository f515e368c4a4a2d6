"""Positions that no running strategy steers: who says so, where, and with what remedy."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pykka
import pytest

from actors.messages import EngineState, UnattendedPositions
from actors.runtime.messages import Tick
from actors.strategy_watcher import StrategyWatcher
from cli.status.status_model import find_unattended
from cli.warning_texts import describe_unattended
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.store.admin_rows import StrategyRow
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.cli.status.test_status import Watched, child, cycle
from tests.support.clients.events import Ear
from tests.support.clients.sql import Sql
from tests.support.factories.monitored import Running

__all__ = ["home", "own_logging", "sparky"]

GAUGE = 'sparky_unattended_positions{{"book": "{}"}}'


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    made = Running(home)
    yield made
    made.actor.close(1)
    pykka.ActorRegistry.stop_all()


def strategy(store: Store, name: str = "bold", **fields: Any) -> StrategyRow:
    user = store.ensure_user("a@example.org")
    return store.create_strategy(NewStrategy(user_id=user, name=name, status=StrategyStatus.RUNNING, **fields))


def hold(sql: Sql, user_id: uuid.UUID, strategy_id: uuid.UUID | None, **columns: Any) -> None:
    row = {
        "user_id": user_id,
        "strategy_id": strategy_id,
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "entry_price": 100,
        "quantity": "0.5",
        "position_size_usd": 50,
        "is_paper": True,
    } | columns
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    sql(f"insert into positions ({names}) values ({places})", *row.values())  # noqa: S608 - these names


def whys(store: Store) -> list[tuple[str | None, str]]:
    return [(row.strategy_name, row.why) for row in store.list_unattended_positions()]


@pytest.mark.parametrize("status", ["paused", "terminated", "backtesting"])
@pytest.mark.parametrize("is_paper", [True, False])
def test_what_a_strategy_holds_that_does_not_run_is_unattended(
    status: str, store: Store, sql: Sql, *, is_paper: bool
) -> None:
    row = strategy(store, is_paper_trading=is_paper)
    hold(sql, row.user_id, row.id, is_paper=is_paper)
    assert whys(store) == []
    sql("update ai_strategies set status = %s", status)
    assert whys(store) == [("bold", status)]
    assert store.list_unattended_positions()[0].is_paper is is_paper


def test_what_the_row_of_a_strategy_left_behind_when_it_was_deleted_is_unattended(store: Store, sql: Sql) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    hold(sql, row.user_id, None, decision_id=uuid.uuid4(), symbol="ETHUSDT")  # its strategy was set to null
    hold(sql, row.user_id, None, symbol="SOLUSDT")  # a person's own, by a webhook
    sql("delete from ai_strategies")
    assert sorted((each.symbol, each.why) for each in store.list_unattended_positions()) == [
        ("BTCUSDT", "gone"),
        ("ETHUSDT", "gone"),
    ]


def test_what_a_running_strategy_cannot_reach_any_more_is_unattended(store: Store, sql: Sql) -> None:
    row = strategy(store, target_assets=("BTCUSDT",))
    hold(sql, row.user_id, row.id)
    hold(sql, row.user_id, row.id, is_paper=False)
    hold(sql, row.user_id, row.id, exchange="binance")
    hold(sql, row.user_id, row.id, symbol="ETHUSDT")
    found = {(each.exchange, each.symbol, each.is_paper, each.why) for each in store.list_unattended_positions()}
    assert found == {
        ("aster", "BTCUSDT", False, "other book"),
        ("binance", "BTCUSDT", True, "other exchange"),
        ("aster", "ETHUSDT", True, "other symbols"),
    }


def test_a_row_with_figures_that_are_none_hides_no_other_and_is_shown(store: Store, sql: Sql, sparky: Sparky) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    sql("alter table positions disable trigger user")
    hold(sql, row.user_id, row.id, symbol="ETHUSDT", quantity="NaN", entry_price="NaN", side="?", entry_time="infinity")
    sql("update ai_strategies set status = 'paused'")
    assert len(store.list_unattended_positions()) == 2
    view = json.loads(sparky("status", "--json").stdout)
    assert [each["symbol"] for each in view["unattended"]] == ["BTCUSDT", "ETHUSDT"]
    assert sparky("status", "--once").exception.__class__ is SystemExit


# who is told


def told(store: Store, ear: Ear) -> list[UnattendedPositions]:
    ref = StrategyWatcher(store, ear, 0.01).start_instance()
    ref.ask(Tick(), timeout=60)
    ref.ask(Tick(), timeout=60)
    ref.stop()
    return ear.of(UnattendedPositions)


def test_the_strategy_watcher_counts_them_now_and_then_and_tells_the_monitor(store: Store, sql: Sql) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    hold(sql, row.user_id, row.id, is_paper=False, symbol="ETHUSDT")
    sql("update ai_strategies set status = 'paused'")
    (only,) = told(store, Ear())  # the second tick came too soon to ask again
    assert (only.paper, only.live) == (1, 1)


def test_a_database_that_is_away_is_never_told_as_no_position(tmp_path: Path) -> None:
    with Store(PostgresRpc(f"postgresql:///none?host={tmp_path}", keep=True)) as away:
        assert told(away, Ear()) == []


def test_a_schema_without_the_function_does_not_stop_the_strategy_watcher(store: Store, sql: Sql) -> None:
    strategy(store)
    sql("drop function public.unattended_positions()")
    ear = Ear()
    assert told(store, ear) == []
    assert [name for name, _ in ear.told if name == "supervisor"]


def test_the_gauge_is_there_from_the_first_count_on_and_never_by_itself_zero(running: Running) -> None:
    assert not any(name.startswith("sparky_unattended_positions") for name in running.samples())
    running.tell(UnattendedPositions(paper=2, live=1))
    assert (running.samples()[GAUGE.format("paper")], running.samples()[GAUGE.format("live")]) == (2, 1)
    running.tell(UnattendedPositions(paper=0, live=0))
    assert running.samples()[GAUGE.format("live")] == 0


def test_status_warns_of_each_with_the_command_that_closes_it(store: Store, sql: Sql, sparky: Sparky) -> None:
    row = strategy(store, "too bold")
    hold(sql, row.user_id, row.id, stop_loss_price=95, take_profit_price=110)
    assert json.loads(sparky("status", "--json").stdout)["unattended"] == []
    sql("update ai_strategies set status = 'paused', paused_reason = 'drawdown'")
    (each,) = json.loads(sparky("status", "--json").stdout)["unattended"]
    assert (each["strategy_id"], each["strategy_name"], each["why"]) == (str(row.id), "too bold", "paused")
    assert (each["exchange"], each["symbol"], each["side"], each["is_paper"]) == ("aster", "BTCUSDT", "LONG", True)
    assert (float(each["quantity"]), float(each["stop_loss_price"])) == (0.5, 95)
    shown = sparky("status", "--once").stdout
    assert "too bold is paused and still holds LONG 0.5 BTCUSDT (paper), entry 100, stop 95, target 110" in shown
    assert "`sparky strategy pause 'too bold' --close` closes it" in shown


def test_that_nothing_runs_is_told_with_how_much_is_held(store: Store, sql: Sql, sparky: Sparky) -> None:
    row = strategy(store)
    assert "open positions" not in sparky("status").stderr
    hold(sql, row.user_id, row.id)
    assert "Nobody steers what running strategies hold meanwhile (open positions: 1)." in sparky("status").stderr


def test_of_many_a_few_are_named_and_the_rest_counted(store: Store, sql: Sql, sparky: Sparky) -> None:
    row = strategy(store)
    for number in range(30):
        hold(sql, row.user_id, row.id, symbol=f"A{number}USDT")
    sql("update ai_strategies set status = 'paused'")
    shown = sparky("status", "--once").stdout
    assert shown.count("still holds") == 5
    assert "25 more positions" in shown
    assert len(json.loads(sparky("status", "--json").stdout)["unattended"]) == 30


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "parked", "breaker": None}, "is parked"),
        ({"state": "breaker open", "breaker": "open", "breaker_since": 1_000.0}, "has had its breaker open for"),
    ],
)
def test_a_running_row_that_decides_nothing_is_told_with_what_it_holds(facts: dict[str, Any], words: str) -> None:
    row = {"id": "abc", "name": "bold", "status": "running"} | facts
    row["positions"] = [{"side": "LONG", "quantity": "0.5", "symbol": "BTCUSDT", "is_paper": True, "entry_price": "1"}]
    (alone,) = find_unattended([row], now=10_000.0, is_engine_here=True)
    assert words in describe_unattended(alone)
    assert "LONG 0.5 BTCUSDT (paper)" in describe_unattended(alone)
    assert find_unattended([row | {"positions": []}], now=10_000.0, is_engine_here=True) == []
    assert (
        find_unattended([row | {"breaker_since": 9_990.0, "state": "running"}], now=10_000.0, is_engine_here=True) == []
    )
    assert find_unattended([row], now=10_000.0, is_engine_here=False) == []  # another engine may steer it


def test_doctor_calls_it_a_fault_that_a_person_must_mend(store: Store, sql: Sql, sparky: Sparky) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    assert "positions" in {check["name"]: check for check in json.loads(sparky("doctor", "--json").stdout)}
    sql("update ai_strategies set status = 'paused'")
    done = sparky("doctor", "--json")
    (check,) = [check for check in json.loads(done.stdout) if check["name"] == "positions"]
    assert (done.exit_code, check["state"]) == (1, "fault")
    assert "bold is paused and still holds LONG 0.5 BTCUSDT (paper), entry 100, no stop" in check["found"]
    assert "sparky strategy pause bold --close" in check["remedy"]


def test_a_pause_and_an_end_say_what_stays_open(store: Store, sql: Sql, sparky: Sparky) -> None:
    row = strategy(store)
    assert sparky.ok("strategy", "pause", "bold") == "bold is paused.\n"
    hold(sql, row.user_id, row.id)
    told_once = sparky.ok("strategy", "pause", "bold")
    assert "still holds LONG 0.5 BTCUSDT (paper), entry 100" in told_once
    assert "nobody steers it: `sparky strategy pause bold --close` closes it" in told_once
    assert [each["symbol"] for each in sparky.json("strategy", "pause", "bold")["still_open"]] == ["BTCUSDT"]
    ended = sparky.ok("strategy", "delete", "bold", "--yes")
    assert f"`sparky strategy delete {str(row.id)[:8]} --close` closes it" in ended
    assert "bold is terminated" in ended


def test_what_a_strategy_leaves_when_it_stops_is_counted_at_once(store: Store, sql: Sql) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    ear = Ear()
    ref = StrategyWatcher(store, ear, 0.01).start_instance()
    for status in ("running", "paused", "paused", "running"):
        sql("update ai_strategies set status = %s", status)
        ref.ask(Tick(), timeout=60)
    ref.stop()
    assert [each.paper for each in ear.of(UnattendedPositions)] == [0, 1, 0]


def test_when_nothing_runs_doctor_says_that_what_is_held_has_nobody(
    store: Store, sql: Sql, sparky: Sparky, home: Path
) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    hold(sql, row.user_id, row.id, symbol="ETHUSDT")
    (check,) = [each for each in json.loads(sparky("doctor", "--json").stdout) if each["name"] == "positions"]
    assert check["state"] == "fault"
    assert "2 positions of running strategies: nobody steers them" in check["found"]
    assert "no stops of paper positions are watched" in check["found"]
    assert "sparky up" in check["remedy"]
    with running_engine(store, home) as left_s:
        assert left_s > 0
        (check,) = [each for each in json.loads(sparky("doctor", "--json").stdout) if each["name"] == "positions"]
    assert check["state"] == "ok"


@pytest.mark.parametrize(
    ("process", "breaker", "words"),
    [("parked", "closed", "bold is parked"), ("running", "open", "bold has had its breaker open for 2 h 1 m")],
)
def test_doctor_tells_what_a_strategy_holds_that_decides_nothing(
    process: str, breaker: str, words: str, store: Store, sql: Sql, sparky: Sparky
) -> None:
    row = strategy(store)
    hold(sql, row.user_id, row.id)
    watched = Watched()
    sparky.environment["SPARKY_MONITOR_PORT"] = str(watched.port)
    watched.report(child(f"strategy-{row.id}", "strategy", "bold", state=process))
    watched.facts.on_cycle_finished(cycle(row.id, breaker=breaker, breaker_since=time.time() - 7_300))
    watched.facts.on_engine_state(EngineState(state="running", is_held=True, epoch=1), time.monotonic())
    try:
        (check,) = [each for each in json.loads(sparky("doctor", "--json").stdout) if each["name"] == "positions"]
    finally:
        watched.server.close()
    assert check["state"] == "fault"
    assert words in check["found"]
    assert "sparky strategy pause bold --close" in check["remedy"]


@contextmanager
def running_engine(store: Store, home: Path) -> Iterator[float]:
    """An engine of another home that holds the lease."""
    store.engine = uuid.uuid4()
    yield store.hold_engine_lease("elsewhere", f"{home} elsewhere", 60.0, is_new=True).left_s
