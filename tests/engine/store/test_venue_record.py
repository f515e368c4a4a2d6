"""Nets of positions, and a booked fill that is read back as it was booked."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from engine.domain.positions import Position
from engine.store.venue_record import RequestFill, sum_net_quantity
from tests.support.factories.venue_records import facts, live


@pytest.mark.parametrize(
    ("positions", "net"),
    [([], "0"), ([live("2")], "2"), ([live("-2")], "-2"), ([live("0.1"), live("0.2"), live("-0.30000001")], "-1E-8")],
)
def test_a_net_is_what_is_held_long_less_what_is_held_short(positions: list[Position], net: str) -> None:
    assert sum_net_quantity(positions) == facts(*positions).net == Decimal(net)


@pytest.mark.parametrize("order_ids", [None, ("7", "8")])
def test_a_booked_fill_is_read_back_as_it_was_booked_with_its_effect(order_ids: tuple[str, ...] | None) -> None:
    row: dict[str, Any] = {
        "kind": "close",
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": "SHORT",
        "quantity": "0.30000001",
        "price": "100.10",
        "fee_usd": "0.04",
        "leverage": 3,
        "is_paper": False,
        "strategy_id": None,
        "order_id": "7",
        "order_ids": order_ids,
        "client_order_id": "sc-1",
        "position_id": UUID(int=1),
        "trade_id": UUID(int=2),
        "pnl_usd": "-1.5",
        "pnl_percent": "-5",
        "market_time_ms": 9,
    }
    found = RequestFill.model_validate(row)
    fill, effect = found.fill, found.booked_fill
    assert (fill.kind, fill.side, fill.order_id, fill.market_time_ms) == ("close", "SHORT", "7", 9)
    assert [fill.quantity, fill.price, fill.fee_usd] == [Decimal("0.30000001"), Decimal("100.10"), Decimal("0.04")]
    assert fill.order_ids == (order_ids or ())
    assert (effect.position_id, effect.trade_id, effect.pnl_usd) == (UUID(int=1), UUID(int=2), Decimal("-1.5"))
