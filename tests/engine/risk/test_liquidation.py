"""Liquidation on paper: the price of the formula is the price at which the margin, counted step by step, is used up."""

from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import decimals as booked
from engine.domain.positions import MarginMode, Position, Side
from engine.risk.liquidation import (
    LIQUIDATED,
    LIQUIDATION_FEE,
    MAX_MAINTENANCE_RATE,
    Bar,
    MarginedPosition,
    PaperExit,
    build_margined_position,
    calculate_cross_wallet,
    calculate_isolated_margin,
    calculate_maintenance_rate,
    find_cross_liquidations,
    find_exit_in_bar,
    is_cross,
)

TICK = Decimal("0.01")
SIDES = st.sampled_from(Side)
LEVERAGES = st.integers(1, 125)
PRICES = st.decimals("0.5", "100000", places=2)
QUANTITIES = st.decimals("0.001", "1000", places=3)
RATES = st.one_of(st.none(), st.decimals("0.001", "0.2", places=3))


def held(side: Side = Side.LONG, price: str = "100", quantity: str = "1", **fields: object) -> Position:
    given = {
        "id": uuid4(),
        "user_id": uuid4(),
        "strategy_id": None,
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": side,
        "quantity": Decimal(quantity),
        "entry_price": Decimal(price),
        "entry_time": "2026-01-01T00:00:00Z",
        "position_size_usd": Decimal(price) * Decimal(quantity),
        "leverage": 20,
        "margin_mode": MarginMode.ISOLATED,
        "is_paper": True,
    }
    return Position.model_validate(given | fields)


def ends(position: Position, bar: Bar, rate: Decimal | None = None) -> PaperExit | None:
    return find_exit_in_bar(
        position, build_margined_position(position, rate), calculate_isolated_margin(position), bar, TICK
    )


def bar(opened: str, high: str, low: str, close: str) -> Bar:
    return Bar(0, Decimal(opened), Decimal(high), Decimal(low), Decimal(close))


@given(SIDES, PRICES, QUANTITIES, LEVERAGES, RATES)
def test_the_liquidation_price_is_where_the_margin_is_no_more_than_must_be_kept(
    side: Side, entry: Decimal, quantity: Decimal, leverage: int, rate: Decimal | None
) -> None:
    position = held(side, str(entry), str(quantity), leverage=leverage)
    stake, margin = build_margined_position(position, rate), calculate_isolated_margin(position)
    at = stake.calculate_liquidation_price(margin)
    if at is None:
        assert leverage == 1
        assert side is Side.LONG
        return

    def left(price: Decimal) -> Decimal:
        return margin + stake.calculate_profit(price) - stake.calculate_maintenance_margin(price)

    step = at / 10**9 * stake.sign
    assert left(at + step) > 0 >= left(at - step)
    assert (entry - at) * stake.sign > 0  # a new position is never liquidated at its entry


@given(SIDES, PRICES, QUANTITIES, st.integers(2, 125), RATES, st.decimals("0.2", "3", places=2))
def test_an_isolated_position_loses_no_more_than_its_margin_at_whatever_price(
    side: Side, entry: Decimal, quantity: Decimal, leverage: int, rate: Decimal | None, share: Decimal
) -> None:
    position = held(side, str(entry), str(quantity), leverage=leverage)
    end = ends(position, Bar.from_price(booked.product(entry, share), 7), rate)
    if end is None:
        return
    assert (end.reason, end.at_ms) == (LIQUIDATED, 7)
    assert end.fee_usd is not None
    stake, margin = build_margined_position(position, rate), calculate_isolated_margin(position)
    rounded = TICK * quantity  # a price that is rounded to a tick on its better side
    assert 0 <= end.fee_usd <= end.price * quantity * LIQUIDATION_FEE
    assert -margin - Decimal("1e-12") <= stake.calculate_profit(end.price) - end.fee_usd
    assert stake.calculate_profit(end.price) <= stake.calculate_maintenance_margin(end.price) - margin + rounded * 2


@pytest.mark.parametrize(("leverage", "rate"), [(1, "0.025"), (20, "0.025"), (50, "0.01"), (125, "0.004")])
def test_the_rate_is_the_venues_but_never_more_than_half_of_the_initial_margin(leverage: int, rate: str) -> None:
    assert (
        calculate_maintenance_rate(None, leverage)
        == calculate_maintenance_rate(MAX_MAINTENANCE_RATE, leverage)
        == Decimal(rate)
    )
    assert calculate_maintenance_rate(Decimal("0.001"), leverage) == Decimal("0.001")


def test_funding_is_paid_from_the_margin_and_moves_the_price() -> None:
    before = build_margined_position(held(), None).calculate_liquidation_price(calculate_isolated_margin(held()))
    after = build_margined_position(held(), None).calculate_liquidation_price(
        calculate_isolated_margin(held(funding_usd=Decimal(-1)))
    )
    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.parametrize(
    ("candle", "reason", "price"),
    [
        (bar("100", "100", "98.5", "100"), None, None),
        (bar("100", "100", "97", "100"), "liquidated", "97.44"),
        (bar("97", "100", "97", "100"), "liquidated", "97"),  # the gap's price
        (bar("80", "80", "80", "80"), "liquidated", "95"),  # nothing is lost beyond the margin
    ],
)
def test_a_candle_liquidates_at_the_price_or_the_gaps_price(candle: Bar, reason: str | None, price: str | None) -> None:
    end = ends(held(), candle)
    assert (end and end.reason, end and end.price) == (reason, price and Decimal(price))


@pytest.mark.parametrize(
    ("candle", "reason", "price"),
    [
        (bar("100", "100", "97", "100"), "stop_loss", "99"),
        (bar("98", "100", "97", "100"), "stop_loss", "98"),
        (bar("100", "103", "97", "100"), "stop_loss", "99"),  # both within one minute: the loss
        (bar("103", "103", "97", "100"), "take_profit", "103"),  # it opened beyond the target
        (bar("100", "103", "99.5", "100"), "take_profit", "102"),
        (bar("88", "88", "88", "88"), "stop_loss", "95"),  # a stop pays no more than the margin either
    ],
)
def test_a_stop_nearer_than_the_liquidation_price_acts_first(candle: Bar, reason: str, price: str) -> None:
    end = ends(held(stop_loss_price=Decimal(99), take_profit_price=Decimal(102)), candle)
    assert end is not None
    assert (end.reason, end.price) == (reason, Decimal(price))


def test_a_stop_beyond_the_liquidation_price_never_acts() -> None:
    end = ends(held(stop_loss_price=Decimal(90)), bar("100", "100", "85", "85"))
    assert end is not None
    assert end.reason == LIQUIDATED


def test_a_cross_position_without_a_wallet_is_isolated() -> None:
    assert is_cross(held(margin_mode=MarginMode.CROSS), Decimal(1))
    assert not is_cross(held(margin_mode=MarginMode.CROSS), None)
    assert not is_cross(held(margin_mode=None), Decimal(1))


def test_the_wallet_of_cross_positions_is_without_isolated_margins_and_fees() -> None:
    positions = [
        held(margin_mode=MarginMode.CROSS, fees_usd=Decimal(1), funding_usd=Decimal(2)),
        held(fees_usd=Decimal(3), funding_usd=Decimal(4)),
    ]
    assert calculate_cross_wallet(Decimal(1_000), positions) == 1_000 - 1 - 3 + 2 - 5


def two(first: str, second: str) -> tuple[dict[object, MarginedPosition], dict[object, Bar], dict[object, Decimal]]:
    long = MarginedPosition(Side.LONG, Decimal(1), Decimal(100), Decimal("0.025"))
    short = MarginedPosition(Side.SHORT, Decimal(1), Decimal(100), Decimal("0.025"))
    stakes: dict[object, MarginedPosition] = {"long": long, "short": short}
    bars: dict[object, Bar] = {"long": Bar.from_price(Decimal(first), 1), "short": Bar.from_price(Decimal(second), 1)}
    return stakes, bars, {"long": TICK, "short": TICK}


def test_the_profit_of_one_cross_position_is_margin_of_the_other() -> None:
    stakes, bars, ticks = two("85", "85")
    assert find_cross_liquidations(stakes, bars, Decimal(10), ticks) == {}  # type: ignore[arg-type] # any names
    stakes, bars, ticks = two("85", "100")
    assert set(find_cross_liquidations(stakes, bars, Decimal(10), ticks)) == {"long", "short"}  # type: ignore[arg-type]


@given(SIDES, PRICES, QUANTITIES, st.decimals("1", "100000", places=2), st.decimals("0.2", "3", places=2))
def test_a_book_is_liquidated_when_its_equity_is_no_more_than_must_be_kept_and_loses_no_more(
    side: Side, entry: Decimal, quantity: Decimal, wallet: Decimal, share: Decimal
) -> None:
    stake, name = MarginedPosition(side, quantity, entry * quantity, MAX_MAINTENANCE_RATE), uuid4()
    price = booked.product(entry, share)
    ended = find_cross_liquidations({name: stake}, {name: Bar.from_price(price, 1)}, wallet, {name: TICK})
    is_due = wallet + stake.calculate_profit(price) <= stake.calculate_maintenance_margin(price)
    if abs(wallet + stake.calculate_profit(price) - stake.calculate_maintenance_margin(price)) > Decimal("1e-9"):
        assert bool(ended) is is_due
    if ended and wallet + stake.calculate_profit(entry) > stake.calculate_maintenance_margin(entry):
        fee = ended[name].fee_usd
        assert fee is not None
        assert wallet + stake.calculate_profit(ended[name].price) - fee >= -Decimal("1e-9")
