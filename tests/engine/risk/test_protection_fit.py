"""What of an entry its stop-loss and take-profit can protect, on both sides of the market."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import OrderRejected
from engine.domain.positions import Position, Side
from engine.risk.protection_fit import calculate_protectable_quantity, check_order_count
from engine.venues.instrument import Instrument
from engine.venues.quotes import Quote
from tests.support.factories.entry_values import order, position

QUOTE = Quote(bid=Decimal("99.9"), ask=Decimal("100.1"), last=Decimal(100), at_ms=0)


def instrument(**fields: Any) -> Instrument:
    return Instrument(symbol="BTCUSDT", tick=Decimal("0.1"), lot=Decimal("0.001"), **fields)


def held(quantity: str, **fields: Any) -> Position:
    return position(quantity=Decimal(quantity), **fields)


def refusal(signal: Any, position_held: Position | None = None, quote: Quote = QUOTE) -> OrderRejected:
    with pytest.raises(OrderRejected) as caught:
        calculate_protectable_quantity(signal, position_held, Decimal(1), instrument(), quote)
    return caught.value


def test_without_a_bound_of_the_venue_all_of_an_entry_can_be_protected() -> None:
    assert calculate_protectable_quantity(order(), None, Decimal("7.5"), instrument(), QUOTE) == Decimal("7.5")


@pytest.mark.parametrize(
    ("before", "wanted", "protectable"),
    [
        (None, "2", "2"),  # exactly one order
        (None, "2.001", "2"),
        ("0.5", "1.5", "1.5"),
        ("0.5", "1.501", "1.5"),
        ("0.0005", "2", "1.999"),  # what is held beside whole lots takes a lot of the room
    ],
)
def test_what_is_held_and_what_is_added_share_one_protective_order(
    before: str | None, wanted: str, protectable: str
) -> None:
    kept = None if before is None else held(before)
    found = calculate_protectable_quantity(order(), kept, Decimal(wanted), instrument(max_quantity=Decimal(2)), QUOTE)
    assert found == Decimal(protectable)


@pytest.mark.parametrize(
    ("before", "bounds"),
    [
        ("2", {}),  # no room at all
        ("2.5", {}),  # more is held than one order may be for
        ("1.99", {"min_quantity": Decimal("0.011")}),  # room for less than the least order
        ("1.99", {"min_notional": Decimal("1.01")}),  # room for 1 USD, below the least notional
    ],
)
def test_an_addition_beyond_one_protective_order_is_refused_by_the_filter(before: str, bounds: dict[str, Any]) -> None:
    listed = instrument(max_quantity=Decimal(2), **bounds)
    with pytest.raises(OrderRejected, match="more could not be protected") as caught:
        calculate_protectable_quantity(order(), held(before), Decimal(1), listed, QUOTE)
    assert caught.value.kind == "filter"


@pytest.mark.parametrize(
    ("side", "percents", "name"),
    [
        ("BUY", {"stop_loss_percent": "0.1"}, "stop-loss at 100 is not below 100"),
        ("BUY", {"take_profit_percent": "0.05"}, "take-profit at 100.1 is not above 100.1"),
        ("SELL", {"stop_loss_percent": "0.1"}, "stop-loss at 99.9 is not above 100"),
        ("SELL", {"take_profit_percent": "0.05"}, "take-profit at 99.9 is not below 99.9"),
    ],
)
def test_a_price_that_the_market_is_beyond_would_trigger_at_once(
    side: str, percents: dict[str, str], name: str
) -> None:
    error = refusal(order(action=side, **percents))
    assert name in str(error)
    assert error.kind == "would_trigger"


def test_a_stop_is_measured_at_the_last_price_where_that_is_beyond_the_entry() -> None:
    signal = order(stop_loss_percent="1")  # 99.1 to 99.2 from an ask of 100.1
    assert calculate_protectable_quantity(signal, None, Decimal(1), instrument(), QUOTE) == 1
    fallen = Quote(bid=Decimal("99.9"), ask=Decimal("100.1"), last=Decimal(99), at_ms=0)
    assert refusal(signal, quote=fallen).kind == "would_trigger"


def test_an_addition_keeps_the_prices_of_what_is_held_where_it_names_none() -> None:
    beyond = held("0.1", stop_loss_price=Decimal("100.05"))
    assert "stop-loss at 100.05" in str(refusal(order(), beyond))
    assert calculate_protectable_quantity(order(stop_loss_percent=5), beyond, Decimal(1), instrument(), QUOTE) == 1
    short = held("0.1", side=Side.SHORT, stop_loss_price=Decimal("100.05"))
    assert calculate_protectable_quantity(order(action="SELL"), short, Decimal(1), instrument(), QUOTE) == 1


@pytest.mark.parametrize(
    ("percents", "prices", "needed"),
    [
        ({}, {}, 0),
        ({"stop_loss_percent": 5}, {}, 1),
        ({"stop_loss_percent": 5, "take_profit_percent": 5}, {}, 2),
        ({"stop_loss_percent": 5}, {"stop_loss_price": Decimal(90)}, 1),  # in place of the one that waits
        ({"stop_loss_percent": 5}, {"take_profit_price": Decimal(120)}, 2),
        ({}, {"stop_loss_price": Decimal(90), "take_profit_price": Decimal(120)}, 2),
    ],
)
def test_an_entry_needs_as_many_orders_as_it_and_what_is_held_have_prices(
    percents: dict[str, int], prices: dict[str, Decimal], needed: int
) -> None:
    listed, signal = instrument(max_trigger_orders=10), order(**percents)
    kept = held("0.1", **prices) if prices else None
    check_order_count(signal, kept, listed, 10 - needed)
    if needed:
        with pytest.raises(OrderRejected, match=f"{needed} protective orders are needed, {11 - needed} wait"):
            check_order_count(signal, kept, listed, 11 - needed)
    else:
        check_order_count(signal, kept, listed, 11)


def test_a_venue_that_tells_no_number_of_orders_takes_any() -> None:
    check_order_count(order(stop_loss_percent=5, take_profit_percent=5), None, instrument(), 10_000)


lots = st.integers(1, 5_000).map(lambda number: Decimal(number).scaleb(-3))


@given(before=st.none() | lots, wanted=lots, most=lots)
def test_no_more_is_held_after_an_entry_than_one_protective_order_may_be_for(
    before: Decimal | None, wanted: Decimal, most: Decimal
) -> None:
    kept = None if before is None else position(quantity=before)
    try:
        found = calculate_protectable_quantity(order(), kept, wanted, instrument(max_quantity=most), QUOTE)
    except OrderRejected:
        assert before is not None
        assert before >= most
        return
    assert 0 < found <= wanted
    assert (before or 0) + found <= most
    assert found == wanted or (before or 0) + found == most


@given(
    percent=st.decimals("0.01", 50, places=2),
    last=st.decimals("99", "101", places=1),
    kind=st.sampled_from(["stop_loss_percent", "take_profit_percent"]),
)
def test_what_triggers_at_once_for_a_long_does_for_a_short_in_the_mirrored_market(
    percent: Decimal, last: Decimal, kind: str
) -> None:
    market = Quote(bid=QUOTE.bid, ask=QUOTE.ask, last=last, at_ms=0)
    mirrored = Quote(bid=200 - QUOTE.ask, ask=200 - QUOTE.bid, last=200 - last, at_ms=0)
    fine = Instrument(symbol="BTCUSDT", tick=Decimal("1E-9"), lot=Decimal("0.001"))

    def is_refused(action: str, quote: Quote, share: Decimal) -> bool:
        try:
            calculate_protectable_quantity(order(action=action, **{kind: share}), None, Decimal(1), fine, quote)
        except OrderRejected:
            return True
        return False

    long_entry, short_entry = market.ask, mirrored.bid
    distance = long_entry * percent / 100
    assert is_refused("BUY", market, percent) == is_refused(
        "SELL", mirrored, (distance / short_entry * 100).quantize(Decimal("1E-12"))
    )
