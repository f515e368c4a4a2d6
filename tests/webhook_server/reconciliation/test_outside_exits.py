"""Fills of exits that no order of ours made: side, size and price, and names under which they are booked once."""

from decimal import Decimal

import pytest

from engine.domain.positions import Position, Side
from tests.support.factories.venue_records import live
from webhook_server.reconciliation.attribution import AttributedExit
from webhook_server.reconciliation.outside_exits import DUST, build_orderless_exit, build_outside_exit


def part(position: Position, last_trade_id: int = 7, at_ms: int = 3_000) -> AttributedExit:
    return AttributedExit(
        position=position,
        reason="liquidated",
        order_id="o7",
        last_trade_id=last_trade_id,
        quantity=Decimal("0.5"),
        price=Decimal(90),
        fee_usd=Decimal("0.04"),
        at_ms=at_ms,
    )


@pytest.mark.parametrize("held", [live("2", leverage=7), live("-2", leverage=7)])
def test_an_exit_without_an_order_is_of_all_that_is_held_and_costs_nothing(held: Position) -> None:
    fill = build_orderless_exit(held, Decimal(90), DUST, 5)
    assert (fill.kind, fill.side) == ("dust", held.side)
    assert [fill.quantity, fill.price, fill.fee_usd] == [2, 90, 0]
    assert (fill.strategy_id, fill.leverage, fill.is_paper) == (held.strategy_id, 7, False)
    assert (fill.exit_reason, fill.market_time_ms, fill.order_id) == ("dust", 5, None)
    assert build_orderless_exit(held, Decimal(90), "delisted", kind="close").kind == "close"


@pytest.mark.parametrize(("quantity", "side"), [("2", Side.LONG), ("-2", Side.SHORT)])
def test_the_exit_of_an_order_of_others_is_its_part_at_its_price_with_its_fee(quantity: str, side: Side) -> None:
    made = build_outside_exit("aster", part(live(quantity)))
    fill = made.fill
    assert (fill.kind, fill.side) == ("close", side)
    assert [fill.quantity, fill.price, fill.fee_usd] == [Decimal("0.5"), 90, Decimal("0.04")]
    assert (fill.order_id, fill.exit_reason, fill.market_time_ms) == ("o7", "liquidated", 3_000)


def test_the_same_part_has_the_same_name_and_another_part_another() -> None:
    held, other = live("2"), live("2").model_copy(update={"id": live("2").user_id})
    names = [
        build_outside_exit("aster", each).request_id
        for each in (part(held), part(held), part(other), part(held, 8), part(held, 0, 3_000), part(held, 0, 4_000))
    ]
    assert names[0] == names[1] == f"venue/o7/7/{held.id}"
    assert len(set(names)) == 5
