"""A moment is the same, and is told in UTC, whatever zone the server, the role or the client lives in."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.positions import Position
from engine.domain.strategy import StrategyContext, StrategyStatus
from engine.store.cycles import DecisionRecord
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from engine.store.webhook_rows import Fill
from tests.support.clients.sql import Sql
from tests.support.factories.keys import vault
from tests.support.factories.signals import new_signal

ELSEWHERE = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?[+-](?!00:?00)\d{2}(:?\d{2})?")


@pytest.fixture(params=["Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"])
def zone(request: pytest.FixtureRequest, sql: Sql) -> str:
    (name,) = sql("select current_database()")[0]
    sql(f"alter database {name} set timezone = '{request.param}'")
    return str(request.param)


@pytest.fixture
def told(zone: str, database_url: str) -> Iterator[Store]:
    with Store(PostgresRpc(database_url, keep=True), vault()) as opened:
        yield opened


@pytest.fixture
def strategy_id(told: Store) -> UUID:
    """One that has decided, holds a position, and was paused."""
    user_id = told.ensure_user("one@example.org")
    new = NewStrategy(user_id=user_id, name="one", status=StrategyStatus.RUNNING)
    strategy = told.create_strategy(new)
    record = DecisionRecord(action=Action.LONG, symbol="BTCUSDT", size_usd=Decimal(100), confidence=0.7)
    decision_id = uuid4()
    signal = new_signal(user_id, strategy.id, decision_id)
    told.record_decision(decision_id, strategy.id, record, signal)
    told.begin_execution(None, "r1", user_id, strategy.id, "aster", "BTCUSDT", "BUY", "f", {"size": 1}, is_paper=True)
    fill = Fill.model_validate(
        {
            "kind": "open",
            "exchange": "aster",
            "symbol": "BTCUSDT",
            "side": "LONG",
            "quantity": Decimal(1),
            "price": Decimal(100),
            "fee_usd": Decimal(0),
            "is_paper": True,
            "strategy_id": strategy.id,
        }
    )
    told.book_fill("r1", user_id, fill, 200, {"success": True})
    told.begin_execution(None, "r2", user_id, strategy.id, "aster", "ETHUSDT", "BUY", "g", {"size": 1}, is_paper=True)
    told.append_equity_points(0)
    told.set_kill_switch(None, None, is_on=True, reason="test")
    told.report_reconciliation(user_id, "aster", {"BTCUSDT": Decimal(1)})
    told.pause_strategy(strategy.id, "tired")
    return strategy.id


def everything_told(store: Store, strategy_id: UUID) -> list[BaseModel]:
    """Rows of every kind that has a moment."""
    (decision,) = store.list_decisions(strategy_id)
    (signal,) = store.list_signals(strategy_id)
    user_id = store.find_user("one@example.org")
    assert user_id is not None
    context, story, history = (
        store.get_strategy_context(strategy_id),
        store.get_decision_trace(decision.id),
        store.get_signal(signal.id),
    )
    assert context is not None
    assert story is not None
    assert history is not None
    return [
        decision,
        signal,
        context,
        story,
        history,
        *store.list_strategies(),
        *store.list_strategy_overviews(),
        *store.list_open_positions(),
        *store.list_held_positions(),
        *store.list_unfinished_requests(),
        *store.list_kill_switches(),
        *store.list_equity_points(strategy_id, is_paper=True),
        *store.report_reconciliation(user_id, "aster", {"BTCUSDT": Decimal(1)}),
        store.get_portfolio(user_id, "aster", strategy_id, is_paper=True),
        store.get_database_health(),
    ]


def test_every_moment_of_every_row_is_told_in_utc(told: Store, strategy_id: UUID) -> None:
    rows = everything_told(told, strategy_id)

    assert [row.model_dump_json() for row in rows if ELSEWHERE.search(row.model_dump_json())] == []
    assert {
        type(row).__name__ for row in rows if not re.search(r'"\d{4}-\d\d-\d\dT[^"]*Z"', row.model_dump_json())
    } == (set())
    assert [str(at) for row in rows for at in moments(row) if at.utcoffset() != timedelta(0)] == []


def test_a_moment_that_python_lacks_is_told_in_utc_too(told: Store, strategy_id: UUID, sql: Sql) -> None:
    sql("update ai_trade_log set created_at = '12000-01-01 00:00:00+00'")
    sql("update signal_outbox set created_at = 'infinity'")

    assert told.list_decisions(strategy_id)[0].created_at == "12000-01-01T00:00:00+00:00"
    assert told.list_signals(strategy_id)[0].created_at == "infinity"


@pytest.mark.usefixtures("one_day")
def test_a_day_ends_at_midnight_utc(told: Store, strategy_id: UUID, sql: Sql) -> None:
    """Money spent at any hour of a UTC day belongs to that day: what was recorded now counts today, and only today."""
    record = DecisionRecord(action=Action.HOLD, cost_usd=Decimal("0.25"))
    told.record_decision(uuid4(), strategy_id, record, None)
    days = sql("select day from llm_spend")
    assert days == [(datetime.now(UTC).date(),)]

    context = told.get_strategy_context(strategy_id)
    assert context is not None
    assert context.llm_spent_today_usd == Decimal("0.25")


@pytest.mark.usefixtures("one_day")
def test_the_losses_of_a_day_are_those_since_midnight_utc(told: Store, strategy_id: UUID, sql: Sql) -> None:
    user_id = told.find_user("one@example.org")
    assert user_id is not None
    sql(
        "insert into trade_settings_exchange (user_id, exchange, max_daily_loss_usd, max_loss_per_week_usd) "
        "values (%s, 'aster', 1, 1)",
        user_id,
    )
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for at, pnl in ((today, -3), (today - timedelta(microseconds=1), -5)):
        sql(
            "insert into trades (user_id, strategy_id, exchange, symbol, side, quantity, entry_price, exit_price, "
            "entry_time, exit_time, pnl_usd, is_paper) "
            "values (%s, %s, 'aster', 'BTCUSDT', 'LONG', 1, 1, 1, %s, %s, %s, true)",
            user_id,
            strategy_id,
            at,
            at,
            pnl,
        )

    portfolio = told.get_portfolio(user_id, "aster", strategy_id, is_paper=True)

    assert portfolio.realized_pnl_today_usd == Decimal(-3)


def test_a_moment_with_another_offset_becomes_utc_where_a_row_becomes_a_value() -> None:
    """Supabase's API tells the database's own zone; whoever builds a row gets UTC."""
    from tests.engine.deciding.examples import a_context

    at = datetime(2026, 11, 27, 9, 2, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    context = a_context().model_dump(mode="json")
    context["strategy"] |= {"updated_at": at.isoformat(), "paused_at": at.isoformat()}

    strategy = StrategyContext.model_validate(context).strategy

    assert strategy.updated_at.isoformat() == "2026-11-27T03:32:00+00:00"
    assert strategy.paused_at is not None
    assert strategy.paused_at.isoformat() == "2026-11-27T03:32:00+00:00"
    assert Position.model_fields.keys() >= {"entry_time"}


def moments(value: Any) -> list[datetime]:
    if isinstance(value, datetime):
        return [value]
    if isinstance(value, BaseModel):
        return [at for name in type(value).model_fields for at in moments(getattr(value, name))]
    if isinstance(value, dict):
        return [at for inner in value.values() for at in moments(inner)]
    if isinstance(value, (list, tuple)):
        return [at for inner in value for at in moments(inner)]
    return []
