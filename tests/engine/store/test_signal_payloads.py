"""A signal's payload is stored as Python built it, to the last digit, and nothing else is."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.domain.decision import Action
from engine.domain.signal import Signal
from engine.domain.signal_payload import SignalPayload, SignalSource, write_json
from engine.platform.errors import DatabaseUnavailable, InvalidCommand
from engine.store.cycles import DecisionRecord, NewSignal
from engine.store.store import Store
from engine.store.transport.json_numbers import read_json
from tests.support.clients.sql import Sql

from .conftest import Desk

AWKWARD = (
    "0.00000001",
    "0.1",
    "123.4500",
    "100",
    "1E+3",
    "999999999.99999999999999999999",
    "1000000000",
    "12345678.12345678901234567891",
    "0.30000000000000004",
)
RECORD = DecisionRecord(action=Action.LONG, symbol="BTCUSDT", cost_usd=Decimal("0.5"))


def payload(desk: Desk, strategy: UUID, decision: UUID, **fields: Any) -> SignalPayload:
    own: dict[str, Any] = {
        "user_id": desk.user_id,
        "signal_id": decision,
        "source": SignalSource.AI_ENGINE,
        "action": "BUY",
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "strategy_id": strategy,
        "position_size_usd": Decimal(100),
    }
    return SignalPayload.model_validate(own | fields)


def claimed(store: Store) -> Signal:
    (signal,) = store.claim_signals("a dispatcher", 1, 30)
    return signal


@pytest.mark.parametrize("size", AWKWARD)
def test_no_digit_of_a_number_is_lost_on_the_way_through_the_database(desk: Desk, store: Store, size: str) -> None:
    strategy, decision_id = desk.strategy(), uuid4()
    sent = payload(
        desk,
        strategy.id,
        decision_id,
        position_size_usd=Decimal(size),
        stop_loss_percent=Decimal("99.99999999999999999999"),
        take_profit_percent=Decimal("0.00000001000000000001"),
        ai_confidence=0.1 + 0.2,
        ai_reasoning='quoted " and \\, a line\nbreak, 币安, \U0001f680, NUL \x00, half \ud83d',
    )

    store.record_decision(decision_id, strategy.id, RECORD, NewSignal(payload=sent, ttl_s=60))

    signal = claimed(store)
    assert SignalPayload.model_validate(signal.payload) == sent.model_copy(update={"expires_at": signal.expires_at})
    body = read_json(write_json(signal.payload))
    assert Decimal(body["position_size_usd"]) == Decimal(size)
    assert body["stop_loss_percent"] == Decimal("99.99999999999999999999")
    assert body.keys() == sent.model_dump(exclude_none=True).keys() | {"expires_at"}


@pytest.mark.parametrize("name", ["signal_id", "user_id", "strategy_id"])
def test_a_payload_of_another_decision_strategy_or_person_is_refused_and_nothing_is_written(
    desk: Desk, store: Store, sql: Sql, name: str
) -> None:
    strategy, decision_id = desk.strategy(), uuid4()
    foreign = NewSignal(payload=payload(desk, strategy.id, decision_id, **{name: uuid4()}), ttl_s=60)

    with pytest.raises(InvalidCommand, match="is not that of decision"):
        store.record_decision(decision_id, strategy.id, RECORD, foreign)

    assert written(sql) == [(0, 0, 0)]


@pytest.mark.parametrize("is_entry", [True, False])
def test_an_engine_of_an_older_version_is_told_to_be_restarted_and_nothing_is_written(
    desk: Desk, store: Store, sql: Sql, *, is_entry: bool
) -> None:
    strategy = desk.strategy()
    signal = {
        "action": "BUY",
        "symbol": "BTCUSDT",
        "exchange": "aster",
        "size_usd": "123.45",
        "confidence": 0.7,
        "reasoning": "",
        "stop_loss_percent": None,
        "take_profit_percent": None,
        "ttl_s": 60.0,
    }

    with pytest.raises(DatabaseUnavailable, match="this engine is of an older version than the database: restart it"):
        store.rpc.call(
            "record_decision",
            decision_id=uuid4(),
            strategy_id=strategy.id,
            record=RECORD.model_dump(mode="json"),
            signal=signal if is_entry else None,
            engine=None,
        )

    assert written(sql) == [(0, 0, 0)]


def written(sql: Sql) -> list[tuple[Any, ...]]:
    """How many decisions, days of spending and signals there are."""
    return sql(
        "select (select count(*) from ai_trade_log), (select count(*) from llm_spend),"
        " (select count(*) from signal_outbox)"
    )
