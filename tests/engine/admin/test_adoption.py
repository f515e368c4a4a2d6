"""The arithmetic of an adoption: books come exactly to the venue's net, in whole lots, and fees add up to the cent."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.admin.adoption import (
    ZERO,
    find_explaining_trades,
    find_unbooked_trades,
    plan_change,
    price_trades,
    split_fee,
)
from engine.domain.positions import Position, Side
from engine.store.adoption import BookedOrder
from engine.store.venue_record import sum_net_quantity
from engine.venues.account_record import AccountTrade

USER = uuid.uuid4()


def position(side: Side, quantity: str | Decimal, strategy_id: uuid.UUID | None = None) -> Position:
    return Position(
        id=uuid.uuid4(),
        user_id=USER,
        strategy_id=strategy_id,
        exchange="aster",
        symbol="BTCUSDT",
        side=side,
        quantity=Decimal(quantity),
        entry_price=Decimal(100),
        entry_time=datetime(2026, 1, 1, tzinfo=UTC),
        position_size_usd=Decimal(100),
        is_paper=False,
    )


def trade(number: int, change: str, price: str, fee: str | None = "0.1") -> AccountTrade:
    quantity = Decimal(change)
    return AccountTrade(
        trade_id=number,
        order_id=f"o{number}",
        symbol="BTCUSDT",
        is_buy=quantity > 0,
        quantity=abs(quantity),
        price=Decimal(price),
        fee_usd=None if fee is None else Decimal(fee),
        at_ms=number,
    )


LOTS = st.integers(1, 10_000)
HELD = st.lists(st.tuples(st.sampled_from(Side), LOTS), max_size=5)


@given(
    HELD,
    st.integers(-30_000, 30_000),
    st.sampled_from(["0.001", "1", "10", "0.00000001"]),
    st.sampled_from(["own", "first"]),
)
def test_after_the_change_the_books_hold_what_the_venue_holds(
    held: list[tuple[Side, int]], net: int, lot_text: str, opened_for: str
) -> None:
    lot = Decimal(lot_text)
    books = [position(side, lot * lots, uuid.uuid4()) for side, lots in held]
    holder = books[0].strategy_id if books and opened_for == "first" else None
    change = plan_change(books, net * lot, lot, holder)
    ended = {each.id: part for each, part in change.exits}
    left = [
        each.model_copy(update={"quantity": each.quantity - ended.get(each.id, ZERO)})
        for each in books
        if each.quantity > ended.get(each.id, ZERO)
    ]
    assert sum_net_quantity(left) + change.opened == net * lot
    assert all(0 < part <= each.quantity and part % lot == 0 for each, part in change.exits)
    assert len({each.side for each, _ in change.exits}) <= 1
    opened = Side.LONG if change.opened > 0 else Side.SHORT
    assert change.opened == 0 or all(each.side is opened for each in left if each.strategy_id == holder)


def test_positions_on_the_other_side_of_the_net_stay() -> None:
    long, short = position(Side.LONG, "5", uuid.uuid4()), position(Side.SHORT, "3", uuid.uuid4())
    change = plan_change([long, short], ZERO, Decimal(1), None)
    assert [(each.id, part) for each, part in change.exits] == [(long.id, Decimal(2))]
    assert change.opened == 0
    turned = plan_change([long, short], Decimal(-4), Decimal(1), None)
    assert [(each.id, part) for each, part in turned.exits] == [(long.id, Decimal(2))]
    assert turned.opened == -4
    of_its_own = plan_change([long, short], Decimal(-4), Decimal(1), long.strategy_id)
    assert [(each.id, part) for each, part in of_its_own.exits] == [(long.id, Decimal(5))]
    assert of_its_own.opened == -1


def test_an_addition_reduces_the_holders_own_opposite_position_first() -> None:
    bold = uuid.uuid4()
    long, short = position(Side.LONG, "5", uuid.uuid4()), position(Side.SHORT, "3", bold)
    change = plan_change([long, short], Decimal(6), Decimal(1), bold)
    assert [(each.id, part) for each, part in change.exits] == [(short.id, Decimal(3))]
    assert change.opened == 1


def test_the_newest_trades_that_come_to_the_difference_explain_it() -> None:
    trades = [trade(1, "-4", "90"), trade(2, "-2", "100"), trade(3, "-2", "110")]
    assert [each.trade_id for each in find_explaining_trades(trades, Decimal(-4))] == [2, 3]
    assert find_explaining_trades(trades, Decimal(-3)) == ()
    assert find_explaining_trades([], Decimal(1)) == ()


def test_of_an_order_that_is_booked_in_part_the_rest_is_told_with_its_fee() -> None:
    trades = [trade(1, "-4", "90"), trade(2, "-3", "100", "0.3"), trade(3, "2", "110", "0.2")]
    ours = BookedOrder(order_id="o1", quantity=Decimal(4), fee_usd=Decimal("0.1"), is_adopted=False)
    part = BookedOrder(order_id="o2", quantity=Decimal(1), fee_usd=Decimal("0.1"), is_adopted=False)
    left = find_unbooked_trades(trades, {"o1": ours, "o2": part})
    assert [(each.trade_id, each.quantity, each.fee_usd) for each in left] == [
        (2, Decimal(2), Decimal("0.2")),
        (3, Decimal(2), Decimal("0.2")),
    ]
    adopted = part.model_copy(update={"is_adopted": True})
    assert [each.trade_id for each in find_unbooked_trades(trades, {"o2": adopted})] == [3]


def test_the_price_of_several_trades_keeps_the_cash_exact() -> None:
    pricing = price_trades([trade(1, "-3", "100"), trade(2, "1", "104"), trade(3, "-2", "103")])
    assert pricing is not None
    assert pricing.price * -4 == -3 * 100 + 104 - 2 * 103
    assert (pricing.fee_usd, pricing.order_id) == (Decimal("0.3"), "o3")
    assert price_trades([trade(1, "-2", "100"), trade(2, "1", "250")]) is None  # no price at which one would have sold


def test_a_fee_in_another_coin_is_not_known() -> None:
    pricing = price_trades([trade(1, "-3", "100", None)])
    assert pricing is not None
    assert pricing.fee_usd is None
    assert split_fee(None, [Decimal(1), Decimal(2)]) == [None, None]


@given(st.decimals(-100, 100, places=8), st.lists(st.decimals("0.001", 1_000, places=3), min_size=1, max_size=6))
def test_parts_of_a_fee_add_up_to_it(fee: Decimal, quantities: list[Decimal]) -> None:
    parts = [each for each in split_fee(fee, quantities) if each is not None]
    assert len(parts) == len(quantities)
    assert sum(parts) == fee
