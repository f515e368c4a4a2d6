import uuid
from decimal import Decimal

import pytest

from engine.store.rows import DecisionRecord, Fill, NewSignal, NewStrategy
from engine.store.store import Store
from engine.types import Action, Side, SignalAction, StrategyStatus
from tests.console.conftest import Sparky

DECISION = uuid.UUID("11111111-1111-4111-8111-111111111111")


@pytest.fixture
def traded(store: Store) -> Store:
    """One strategy that decided, signalled, opened half of which is closed."""
    user = store.ensure_user("a@example.org")
    new = NewStrategy(user_id=user, name="bold", status=StrategyStatus.RUNNING, target_assets=("BTCUSDT",))
    strategy = store.create_strategy(new)
    record = DecisionRecord(
        action=Action.LONG,
        symbol="BTCUSDT",
        size_usd=Decimal(200),
        confidence=0.8,
        reasoning="the trend is up",
        raw_answer='{"action": "LONG"}',
        model="m",
        market={"last_price": 100.5},
    )
    signal = NewSignal(
        action=SignalAction.BUY, symbol="BTCUSDT", exchange="aster", size_usd=Decimal(200), confidence=0.8, ttl_s=60
    )
    store.record_decision(DECISION, strategy.id, record, signal)
    details = {"user_id": user, "strategy_id": strategy.id, "exchange": "aster", "symbol": "BTCUSDT", "payload": {}}
    for number, (kind, quantity, price) in enumerate((("open", "2", "100"), ("close", "1", "110"))):
        request = f"r{number}"
        store.begin_request(request_id=request, action="BUY", fingerprint=request, **details)  # type: ignore[arg-type] # spread
        fill = {"kind": kind, "quantity": Decimal(quantity), "price": Decimal(price), "fee_usd": Decimal("0.04")}
        filled = Fill.model_validate(
            fill
            | {
                "exchange": "aster",
                "symbol": "BTCUSDT",
                "side": Side.LONG,
                "is_paper": True,
                "strategy_id": strategy.id,
            }
        )
        store.book_fill(request, user, filled, 200, {"success": True})
    return store


def test_decisions_are_listed_and_one_is_shown_whole(sparky: Sparky, traded: Store) -> None:
    [row] = sparky.json("decisions", "list", "--strategy", "bold")
    assert (row["signal_action"], row["symbol"], row["confidence_score"]) == ("LONG", "BTCUSDT", 0.8)
    whole = sparky.json("decisions", "show", str(DECISION)[:8])
    assert whole["raw_answer"] == '{"action": "LONG"}'
    assert whole["market"] == {"last_price": 100.5}
    table = sparky.ok("decisions", "list")
    assert "LONG" in table
    assert "the trend is up" in table
    assert "raw_answer" in sparky.ok("decisions", "show", str(DECISION))


def test_signals_are_listed_by_status(sparky: Sparky, traded: Store) -> None:
    [row] = sparky.json("signals", "list", "--status", "pending")
    assert (row["action"], row["attempts"], row["payload"]["ai_confidence"]) == ("BUY", 0, 0.8)
    assert sparky.json("signals", "list", "--status", "delivered") == []
    assert sparky.json("signals", "show", row["id"][:8])["id"] == row["id"]
    assert "BUY" in sparky.ok("signals", "list")


def test_positions_and_trades_are_exact(sparky: Sparky, traded: Store) -> None:
    [held] = sparky.json("positions", "--strategy", "bold")
    assert (Decimal(held["quantity"]), held["side"]) == (Decimal(1), "LONG")
    [closed] = sparky.json("trades")
    assert Decimal(closed["pnl_usd"]) == Decimal("9.94")  # 10 less the exit fee and half of the entry fee
    assert "9.94" in sparky.ok("trades")
    assert "BTCUSDT" in sparky.ok("positions")


@pytest.mark.parametrize("noun", ["decisions", "signals"])
def test_an_id_that_nobody_has_is_one_sentence(sparky: Sparky, noun: str) -> None:
    assert "begins with abcdef" in sparky.refused(noun, "show", "abcdef")
    assert "There is no" in sparky.refused(noun, "show", str(uuid.uuid4()))
