"""What people do: create, find, start, stop, end, look."""

from uuid import uuid4

import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import ConfigurationError
from engine.store.store import Store
from tests.support.clients.sql import Sql

from .conftest import Desk


def test_a_new_strategy_is_paused_paper_and_complete(desk: Desk, store: Store) -> None:
    created = store.create_strategy(NewStrategy.from_input({"user_id": desk.user_id, "name": "mine"}))

    assert (created.status, created.is_paper_trading, created.exchange) == ("paused", True, "aster")
    assert store.get_strategy(created.id) == created
    assert store.get_strategy("mine") == created
    assert store.list_strategies() == (created,)
    context = store.get_strategy_context(created.id)
    assert context is not None
    assert context.strategy.target_assets == ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def test_every_field_given_is_kept(desk: Desk, store: Store) -> None:
    new = NewStrategy.from_input(
        {
            "user_id": desk.user_id,
            "name": "mine",
            "status": "backtesting",
            "risk_profile": "aggressive",
            "target_assets": ["DOGEUSDT"],
            "exchange": "binance",
            "is_paper_trading": False,
            "cadence_seconds": 7.5,
            "min_confidence": 0.33,
            "max_drawdown_percent": 12.5,
            "leverage_max": 4,
            "max_position_usd": "250.25",
            "capital_usd": "5000",
            "daily_llm_budget_usd": "0.5",
            "model": "openai/gpt-oss-20b",
            "custom_prompt": "Only trade at night.",
            "stop_loss_required": False,
            "max_entry_percent": "12.5",
            "adding": "always",
            "min_stop_loss_percent": "0.35",
        }
    )

    created = store.create_strategy(new)

    assert created.model_dump(include=set(NewStrategy.model_fields)) == new.model_dump() | {
        "status": "backtesting",
        "risk_profile": "aggressive",
        "adding": "always",
    }


def test_every_unknown_or_wrong_field_is_named_in_one_sentence() -> None:
    with pytest.raises(ConfigurationError) as caught:
        NewStrategy.from_input({"user_id": str(uuid4()), "name": "x", "leverage": 3, "cadence_seconds": 0})

    sentence = str(caught.value)
    assert "leverage: no such field" in sentence
    assert "cadence_seconds: Input should be greater than or equal to 1" in sentence
    assert "\n" not in sentence


def test_a_name_is_used_once_until_its_strategy_is_terminated(desk: Desk, store: Store) -> None:
    first = desk.strategy("mine")
    with pytest.raises(ConfigurationError, match="already a strategy called mine"):
        desk.strategy("mine")

    store.delete_strategy(first.id)

    second = desk.strategy("mine")
    assert store.get_strategy("mine") == second
    assert [row.id for row in store.list_strategies()] == [first.id, second.id]
    assert [row.id for row in store.list_strategy_overviews()] == [second.id]


def test_a_name_that_two_users_use_needs_the_id(desk: Desk, store: Store) -> None:
    desk.strategy("mine")
    other = store.ensure_user("other@example.org")
    store.create_strategy(NewStrategy.from_input({"user_id": other, "name": "mine"}))

    with pytest.raises(ConfigurationError, match="several strategies are called mine"):
        store.get_strategy("mine")
    assert store.get_strategy("nobody") is None


def test_a_strategy_of_nobody_is_refused(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="foreign key"):
        store.create_strategy(NewStrategy.from_input({"user_id": uuid4(), "name": "x"}))


def test_only_a_running_strategy_is_paused_and_the_reason_ends_with_the_pause(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()

    assert store.pause_strategy(strategy.id, "five failures", "Traceback ...")
    assert not store.pause_strategy(strategy.id, "again")

    paused = store.get_strategy(strategy.id)
    assert paused is not None
    assert (paused.status, paused.paused_reason, paused.paused_traceback) == (
        "paused",
        "five failures",
        "Traceback ...",
    )
    assert paused.paused_at is not None
    assert store.list_running_strategies() == ()
    running = store.set_strategy_status(strategy.id, StrategyStatus.RUNNING)
    assert (running.status, running.paused_reason, running.paused_at) == ("running", None, None)


def test_a_change_made_by_sql_changes_the_revision(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy()
    (before,) = store.list_running_strategies()

    sql("update ai_strategies set cadence_seconds = 10")
    (after,) = store.list_running_strategies()
    sql("update ai_strategies set cadence_seconds = 10")

    assert after.revision > before.revision
    assert after.cadence_seconds == 10
    assert store.list_running_strategies() == (after,)
    sql("update ai_strategies set status = 'paused'")
    paused = store.get_strategy(strategy.id)
    assert paused is not None
    assert paused.paused_at is not None


def test_a_terminated_strategy_stays_so_and_keeps_its_records(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    desk.decide(strategy.id, Action.HOLD)

    assert store.delete_strategy(strategy.id).status == "terminated"

    with pytest.raises(ConfigurationError, match="terminated for good"):
        store.set_strategy_status(strategy.id, StrategyStatus.RUNNING)
    assert len(store.list_decisions(strategy.id)) == 1
    with pytest.raises(ConfigurationError, match="there is no strategy"):
        store.set_strategy_status(uuid4(), StrategyStatus.RUNNING)


def test_lists_are_newest_first_narrowed_and_limited(desk: Desk, store: Store) -> None:
    one, two = desk.strategy("one"), desk.strategy("two")
    decided = [desk.decide(strategy.id, Action.LONG).decision_id for strategy in (one, two, one)]

    assert [row.id for row in store.list_decisions()] == decided[::-1]
    assert [row.id for row in store.list_decisions(one.id)] == [decided[2], decided[0]]
    assert [row.id for row in store.list_decisions(limit=1)] == [decided[2]]
    assert {row.strategy_name for row in store.list_signals(two.id)} == {"two"}
    assert store.list_signals(status="dead") == ()
    assert store.get_decision_trace(uuid4()) is None


def test_an_overview_shows_each_strategy_at_a_glance(desk: Desk, store: Store) -> None:
    quiet, busy = desk.strategy("quiet"), desk.strategy("busy")
    desk.decide(busy.id, Action.LONG, "ETHUSDT")
    desk.fill("open", "100", "1", fee="0.5", strategy_id=busy.id, symbol="ETHUSDT")

    rows = {row.id: row for row in store.list_strategy_overviews()}

    assert rows[quiet.id].last_decision is None
    last = rows[busy.id].last_decision
    assert last is not None
    assert (last.action, last.symbol, last.confidence) == ("LONG", "ETHUSDT", 0.7)
    assert [row.symbol for row in rows[busy.id].positions or ()] == ["ETHUSDT"]
    row = rows[busy.id]
    assert row.realized_pnl_usd is not None
    assert row.unrealized_pnl_usd is not None
    assert row.equity_usd == 10_000 + row.realized_pnl_usd + row.unrealized_pnl_usd


def test_health_names_version_and_migrations(store: Store) -> None:
    health = store.get_database_health()

    assert int(health.version.split(".")[0]) >= 14
    assert health.migrations[0].endswith("auth_compatibility.sql")
    assert not health.read_only
