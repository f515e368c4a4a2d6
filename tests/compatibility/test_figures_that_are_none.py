"""NaN, infinity, years that Python lacks, written by SQL: people read such rows, only their strategy is faulted."""

import contextlib
import json
from decimal import Decimal
from typing import Any, Final

import psycopg
import pytest

from engine.admin.demo_data import seed_demo
from engine.admin.strategy_checks import NewStrategy
from engine.domain.errors import StrategyFault
from engine.domain.strategy import StrategyStatus
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.support.clients.sql import Sql
from tests.support.factories.hostile_rows import DECISION, fill_with_hostile_text

__all__ = ["home", "own_logging", "sparky"]

STATUS: Final = ("status", "--once")
SHOW: Final = ("decisions", "show", str(DECISION))
READS: Final = {
    "ai_strategies": (("strategy", "list"), ("strategy", "show", "{strategy}"), STATUS),
    "ai_trade_log": (("decisions", "list"), SHOW, STATUS),
    "trades": (("trades",), SHOW, STATUS),
    "positions": (("positions",), SHOW, STATUS),
    "fills": (SHOW,),
    "signal_outbox": (("signals", "list"), ("signals", "show", str(DECISION)), SHOW),
    "signal_attempts": (("signals", "show", str(DECISION)), SHOW),
    "kill_switches": (("kill", "--show"), STATUS),
    "webhook_requests": (SHOW,),
    "strategy_ledger": (STATUS,),
    "llm_spend": (STATUS,),
}
ODD: Final = {
    "numeric": ("NaN", "Infinity", "1e300"),
    "double precision": ("NaN", "Infinity", "1e300"),
    "timestamp with time zone": ("infinity", "20000-01-01", "0044-03-15 BC"),
}
NUMBERS: Final = ("capital_usd", "max_position_usd", "daily_llm_budget_usd", "max_drawdown_percent")


def never(_: str) -> Any:
    raise AssertionError("what is printed for programs is no JSON")


def as_before(sql: Sql, statement: str, *values: object) -> None:
    """Writes as before anything checked it, and as nothing is checked where the type has no check."""
    sql("set session_replication_role = replica")
    try:
        sql(statement, *values)
    finally:
        sql("set session_replication_role = origin")


@pytest.mark.parametrize("table", READS)
def test_a_row_with_any_figure_or_moment_is_shown(table: str, store: Store, sql: Sql, sparky: Sparky) -> None:
    fill_with_hostile_text(store, sql)
    ((strategy,),) = sql("select id::text from ai_strategies")
    columns = sql(
        "select column_name, data_type from information_schema.columns "
        "where table_schema = 'public' and table_name = %s and data_type = any(%s)",
        table,
        list(ODD),
    )
    for number in range(3):
        for column, kind in columns:
            with contextlib.suppress(psycopg.Error):  # the type or its check has no such value
                as_before(sql, f"update {table} set {column} = %s", ODD[kind][number])  # noqa: S608 - the catalogue's
        for words in READS[table]:
            typed = [word.replace("{strategy}", strategy) for word in words]
            done = sparky(*typed)
            assert done.exception is None or isinstance(done.exception, SystemExit), (number, words, done)
            assert done.exit_code == int(words[0] == "status"), (number, words, done.output)
            json.loads(sparky(*typed, "--json").stdout, parse_constant=never)


@pytest.mark.parametrize("column", NUMBERS)
def test_a_strategy_without_a_figure_is_faulted_alone(column: str, store: Store, sql: Sql, sparky: Sparky) -> None:
    user = store.ensure_user("a@example.org")
    ill, well = (
        store.create_strategy(NewStrategy(user_id=user, name=name, status=StrategyStatus.RUNNING))
        for name in ("ill", "well")
    )
    as_before(sql, f"update ai_strategies set {column} = 'NaN' where name = 'ill'")  # noqa: S608 - these names
    with pytest.raises(StrategyFault, match=column):
        store.get_strategy_context(ill.id)
    found = store.get_strategy_context(well.id)
    assert found is not None
    assert found.strategy.id == well.id
    assert {row.id for row in store.list_running_strategies()} == {ill.id, well.id}
    assert seed_demo(store, Settings()) == ()
    sparky.ok("strategy", "pause", "well")
    sparky.ok("strategy", "pause", "ill")
    sparky.ok("kill", "--strategy", "well")


@pytest.mark.parametrize("column", ["entry_price", "fees_usd", "unrealized_pnl_usd", "position_size_usd"])
def test_a_position_without_a_figure_hides_no_other(column: str, store: Store, sql: Sql, sparky: Sparky) -> None:
    fill_with_hostile_text(store, sql)
    sql("update positions set symbol = 'BTCUSDT', exchange = 'aster'")
    names = "user_id, strategy_id, exchange, side, quantity, entry_price, entry_time, position_size_usd, is_paper"
    sql(f"insert into positions (symbol, {names}) select 'ETHUSDT', {names} from positions")  # noqa: S608 - these names
    as_before(sql, f"update positions set {column} = 'NaN' where symbol = 'BTCUSDT'")  # noqa: S608 - these names
    assert {each.symbol for each in store.list_open_positions()} == {"ETHUSDT"}
    assert {each["symbol"] for each in sparky.json("positions")} == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.parametrize("table", ["ai_strategies", "positions"])
def test_to_close_all_names_every_position_whatever_the_rows_hold(
    table: str, store: Store, sql: Sql, sparky: Sparky
) -> None:
    fill_with_hostile_text(store, sql)
    column = {"ai_strategies": "capital_usd", "positions": "entry_price"}[table]
    as_before(sql, f"update {table} set {column} = 'NaN'")  # noqa: S608 - these names
    sparky.environment["WEBHOOK_URL"] = "http://127.0.0.1:9"
    done = sparky("kill", "--close-all", "--json")
    assert len(json.loads(done.stdout)) == 1, (done.output, done.exception)
    assert "the kill switch stays on" in done.stderr


@pytest.mark.parametrize("column", ["capital_usd", "max_position_usd", "daily_llm_budget_usd", "max_drawdown_percent"])
@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_figure_that_is_none_is_refused_by_the_table(column: str, value: str, store: Store, sql: Sql) -> None:
    user = store.ensure_user("a@example.org")
    store.create_strategy(NewStrategy(user_id=user, name="one"))
    with pytest.raises(psycopg.Error) as refused:
        sql(f"update ai_strategies set {column} = %s", value)  # noqa: S608 - these names
    assert refused.value.sqlstate in ("SK400", "22003")
    assert store.list_strategies()[0].capital_usd == Decimal(10_000)
    as_before(sql, "update ai_strategies set capital_usd = 'NaN'")
    sql("update ai_strategies set status = 'running'")  # what was there before can be started and paused
