"""A database that holds everything that can be told of a strategy, and whose every text is hostile."""

import json
import uuid
from decimal import Decimal
from typing import Any, Final

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.domain.strategy import StrategyStatus
from engine.store.cycles import CallRecord, DecisionRecord
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from tests.support.clients.sql import Sql
from tests.support.factories.hostile import HOSTILE
from tests.support.factories.signals import new_signal

DECISION: Final = uuid.UUID("11111111-1111-4111-8111-111111111111")
OTHER: Final = uuid.UUID("22222222-2222-4222-8222-222222222222")
# What the database itself holds to a set of words, what joins one row to another, and what is sealed.
FIXED: Final = {"request_id", "fingerprint", "webhook_secret_sha256", "webhook_secret", "side", "status", "kind"}


def market() -> dict[str, Any]:
    symbol = {
        "symbol": HOSTILE,
        "last_price": 100.5,
        "change_24h_percent": -1.5,
        "as_of_ms": 1_700_000_060_000,
        "candles": [],
        "indicators": {HOSTILE: 1.0},
        "context": {HOSTILE: None},
    }
    held = {"side": HOSTILE, "quantity": HOSTILE, "symbol": HOSTILE, "entry_price": HOSTILE}
    limits = {HOSTILE: HOSTILE}
    return {"symbols": [symbol], "positions": [held], "risk_profile": HOSTILE, "equity_usd": HOSTILE, "limits": limits}


def fill_with_hostile_text(store: Store, sql: Sql) -> None:
    """A strategy with everything that can be told of it, then every text of every row made hostile."""
    user = store.ensure_user("a@example.org")
    new = NewStrategy(user_id=user, name="one", status=StrategyStatus.RUNNING, target_assets=("BTCUSDT",))
    strategy = store.create_strategy(new)
    call = CallRecord(model=HOSTILE, outcome=HOSTILE, reason=HOSTILE, latency_s=1, answer=HOSTILE)
    record = DecisionRecord(
        action=Action.LONG, size_usd=Decimal(200), market=market(), calls=(call,), notes=HOSTILE, size_reason=HOSTILE
    )
    signal = new_signal(user, strategy.id, DECISION)
    store.record_decision(DECISION, strategy.id, record, signal)
    store.record_decision(OTHER, strategy.id, record, None)
    details: dict[str, Any] = {"user_id": user, "strategy_id": strategy.id, "exchange": "aster", "symbol": "BTCUSDT"}
    for request, kind, quantity in ((str(DECISION), "open", 2), ("r", "close", 1)):
        store.begin_execution(None, request, action="BUY", fingerprint=request, payload={}, is_paper=True, **details)
        filled = {
            "kind": kind,
            "quantity": Decimal(quantity),
            "price": Decimal(100),
            "fee_usd": Decimal(0),
            "side": Side.LONG,
        }
        fill = Fill.model_validate(filled | {"is_paper": True} | {k: v for k, v in details.items() if k != "user_id"})
        store.book_fill(request, user, fill, 200, {"success": True})
    sql(
        "insert into signal_attempts (signal_id, attempt, outcome, status) values (%s, 1, 'retry', 500)",
        DECISION,
    )
    store.set_kill_switch(None, strategy.id, is_on=True, reason="r")
    store.set_kill_switch(user, None, is_on=True, reason="r")
    sql("insert into bot_credentials (user_id, exchange, label) values (%s, 'aster', 'mine')", user)
    sql(
        "insert into reconciliation_differences (user_id, exchange, symbol, booked, at_venue, reason) "
        "values (%s, 'aster', 'BTCUSDT', 1, 2, 'r')",
        user,
    )
    sql("insert into outside_holdings (user_id, exchange, symbol, quantity) values (%s, 'aster', 'BTCUSDT', 1)", user)
    sql("update ai_strategies set status = 'paused'")
    make_hostile(sql)


def make_hostile(sql: Sql) -> None:
    """As rows are that an older version wrote, before anything checked them."""
    sql("set session_replication_role = replica")
    columns = sql(
        "select c.table_schema, c.table_name, c.column_name, c.data_type from information_schema.columns c "
        "join information_schema.tables t using (table_schema, table_name) "
        "where t.table_type = 'BASE TABLE' and c.data_type in ('text', 'ARRAY') and ("
        "(c.table_schema = 'public' and c.table_name not in ('sparky_migrations', 'leases')) "
        "or (c.table_schema = 'auth' and c.table_name = 'users' and c.column_name = 'email'))"
    )
    done = set()
    for schema, table, column, kind in columns:
        if column in FIXED or (table, column) in CHECKED:
            continue
        value: Any = [HOSTILE] if kind == "ARRAY" else HOSTILE
        sql(f"update {schema}.{table} set {column} = %s", value)  # noqa: S608 - names are the catalogue's
        done.add((table, column))
    assert {("ai_strategies", "name"), ("ai_trade_log", "reasoning"), ("kill_switches", "reason")} <= done
    answer = json.dumps({"success": False, "error": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}})
    sql("update webhook_requests set answer = %s, payload = %s", answer, answer)
    sql("update signal_outbox set payload = %s", answer)
    sql("set session_replication_role = origin")


CHECKED: Final = {
    ("ai_strategies", "risk_profile"),
    ("ai_strategies", "context_intervals"),
    ("ai_strategies", "adding"),
    ("ai_strategies", "margin_mode"),
    ("positions", "margin_mode"),
    ("signal_outbox", "action"),
    ("signal_attempts", "outcome"),
    ("trades", "exit_reason"),
}
