"""Trades that were not ours end positions by one rule: the net's side, by quantity, in whole lots, nothing lost."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Position, Side
from engine.venues.account_record import AccountTrade
from webhook_server.reconciliation.attribution import OutsideTrade, attribute_trades

LOT = Decimal("0.001")
USER = uuid.UUID(int=1)


def held(quantity: Decimal) -> Position:
    return Position(
        id=uuid.uuid4(),
        user_id=USER,
        strategy_id=uuid.uuid4(),
        exchange="aster",
        symbol="BTCUSDT",
        side=Side.LONG if quantity > 0 else Side.SHORT,
        quantity=abs(quantity),
        entry_price=Decimal(100),
        entry_time=datetime(2026, 1, 1, tzinfo=UTC),
        position_size_usd=abs(quantity) * 100,
        is_paper=False,
    )


def trade(number: int, change: Decimal, fee: Decimal = Decimal("0.04")) -> OutsideTrade:
    told = AccountTrade(
        trade_id=number,
        order_id=str(number),
        symbol="BTCUSDT",
        is_buy=change > 0,
        quantity=abs(change),
        price=Decimal(99),
        fee_usd=fee,
        at_ms=number,
    )
    return OutsideTrade(told, "closed_at_venue", fee)


def lots(number: int) -> Decimal:
    return number * LOT


def test_a_net_that_is_closed_is_taken_from_its_side_only() -> None:
    a, b = held(Decimal(5)), held(Decimal(-3))
    found = attribute_trades([a, b], [trade(1, Decimal(-2))], Decimal(0), LOT)
    assert [(part.position.id, part.quantity) for part in found.exits] == [(a.id, Decimal(2))]
    assert found.remaining == {a.id: Decimal(3), b.id: Decimal(-3)}
    assert found.unbooked_net == 0


def test_a_trade_ends_what_was_held_at_its_moment_whatever_our_own_orders_did_since() -> None:
    a, later = held(Decimal(5)), held(Decimal(-8))
    closed = replace(trade(1, Decimal(-5)), own_since={later.id: Decimal(-8)})
    found = attribute_trades([a, later], [closed], Decimal(0), LOT)
    assert found.remaining == {a.id: Decimal(0), later.id: Decimal(-8)}
    assert found.unbooked_net == 0


def test_what_was_entered_later_and_what_has_ended_since_share_nothing() -> None:
    a, later, gone = held(Decimal(5)), held(Decimal(9)), uuid.uuid4()
    since: dict[uuid.UUID | None, Decimal] = {later.id: Decimal(9), gone: Decimal(-4)}
    found = attribute_trades([a, later], [replace(trade(1, Decimal(-4)), own_since=since)], Decimal(0), LOT)
    assert found.remaining == {a.id: Decimal(1), later.id: Decimal(9)}
    found = attribute_trades([a, later], [replace(trade(1, Decimal(-7)), own_since=since)], Decimal(0), LOT)
    assert found.remaining == {a.id: Decimal(0), later.id: Decimal(7)}


def test_no_more_ends_than_is_held_still() -> None:
    a = held(Decimal(2))
    closed = replace(trade(1, Decimal(-5)), own_since={a.id: Decimal(-3)})  # our own exit sold 3 of the 5
    found = attribute_trades([a], [closed], Decimal(0), LOT)
    assert (found.net, found.unbooked_net) == (Decimal(0), Decimal(-3))


def test_what_was_added_by_hand_is_taken_back_first() -> None:
    a = held(Decimal(5))
    found = attribute_trades([a], [trade(1, Decimal(2)), trade(2, Decimal(-3))], Decimal(0), LOT)
    assert [part.quantity for part in found.exits] == [1]
    assert (found.net, found.unbooked_net) == (Decimal(4), Decimal(0))


def test_a_trade_beyond_the_net_ends_no_more_than_the_net() -> None:
    a, b = held(Decimal(5)), held(Decimal(-3))
    found = attribute_trades([a, b], [trade(1, Decimal(-4))], Decimal(0), LOT)
    assert [part.quantity for part in found.exits] == [2]
    assert found.unbooked_net == -2


changes = st.integers(-40, 40).filter(bool).map(lots)


@given(
    positions=st.lists(st.integers(-50, 50).filter(bool).map(lots), max_size=5),
    trades=st.lists(changes, max_size=6),
    unbooked=st.integers(-20, 20).map(lots),
    since=st.lists(st.integers(-30, 30).map(lots), max_size=6),
)
def test_every_trade_is_accounted_for_and_no_position_turns(
    positions: list[Decimal], trades: list[Decimal], unbooked: Decimal, since: list[Decimal]
) -> None:
    """Whatever our own orders have done since, also for positions that have ended."""
    own = [held(each) for each in positions]
    names = [*(each.id for each in own), None]
    own_since: dict[uuid.UUID | None, Decimal] = dict(zip(names, since, strict=False))
    outside = [replace(trade(number, each), own_since=own_since) for number, each in enumerate(trades, 1)]
    found = attribute_trades(own, outside, unbooked, LOT)
    whole = sum(positions, Decimal(0)) + unbooked + sum(trades, Decimal(0))
    assert found.net + found.unbooked_net == whole
    for each in own:
        before, after = each.quantity if each.side is Side.LONG else -each.quantity, found.remaining[each.id]
        assert before * after >= 0
        assert abs(after) <= abs(before)
        ended = sum((part.quantity for part in found.exits if part.position.id == each.id), Decimal(0))
        assert ended == abs(before) - abs(after)
        assert ended % LOT == 0


@given(quantities=st.lists(st.integers(1, 50).map(lots), min_size=1, max_size=5), share=st.integers(1, 100))
def test_shares_are_by_quantity_and_fees_add_up(quantities: list[Decimal], share: int) -> None:
    own = [held(each) for each in quantities]
    whole = sum(quantities, Decimal(0))
    ended = max(LOT, (whole * share / 100).quantize(LOT))
    found = attribute_trades(own, [trade(1, -ended)], Decimal(0), LOT)
    assert sum((part.quantity for part in found.exits), Decimal(0)) == ended
    assert abs(sum((part.fee_usd for part in found.exits), Decimal(0)) - Decimal("0.04")) < Decimal("1e-20")
    for part in found.exits:
        assert abs(part.quantity - ended * part.position.quantity / whole) < LOT
