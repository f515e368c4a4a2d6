"""Random orders through ccxt against a ledger of a few lines: position, cash and fees agree to the last digit."""

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.errors import OrderRejected
from engine.venues.instrument import Instrument
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, build_client_order_id

Step = tuple[str, bool, Decimal, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["market", "reduce", "limit"]),
        st.booleans(),
        st.decimals("0.0001", "0.05", places=5),
        st.integers(-4, 4),
    ),
    min_size=1,
    max_size=8,
)
numbers = itertools.count(100)


def executed(venue: CcxtVenue, step: Step, name: str) -> tuple[Decimal, Decimal, Decimal]:
    """Signed quantity, price and fee of one order; zeros when the venue or its filters refused it."""
    kind, is_buy, quantity, percent = step
    order = OrderRequest(
        client_order_id=build_client_order_id(name),
        symbol="BTCUSDT",
        is_buy=is_buy,
        quantity=quantity,
        reduce_only=kind == "reduce",
        leverage=20,
    )
    try:
        limit = Decimal(28_000) * (100 + percent) / 100
        result = venue.place_limit_order(order, limit) if kind == "limit" else venue.place_market_order(order)
    except OrderRejected:
        return Decimal(0), Decimal(0), Decimal(0)
    assert result.quantity % Decimal("0.001") == 0
    assert 0 < result.quantity <= quantity
    if kind == "limit":
        assert (result.price <= limit) if is_buy else (result.price >= limit)
    return result.quantity if is_buy else -result.quantity, result.price, result.fee_usd


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_venues_own_record_is_the_sum_of_what_it_answered(
    open_venue: Callable[..., CcxtVenue],
    make_keys: Callable[..., Any],
    direct: Callable[..., Any],
    taken: list[Step],
) -> None:
    number = next(numbers)
    venue = open_venue(make_keys(number))
    direct(weight_per_minute=0)
    net, cash = Decimal(0), Decimal(10_000)
    for index, step in enumerate(taken):
        change, price, fee = executed(venue, step, f"{number}-{index}")
        if step[0] == "reduce":
            assert abs(net + change) <= abs(net)
        net, cash = net + change, cash - change * price - fee
    positions = venue.fetch_positions()
    assert sum((each.net for each in positions), Decimal(0)) == net
    held_at_cost = sum((each.net * each.entry_price for each in positions), Decimal(0))
    assert abs(venue.fetch_balance().wallet_usd - (cash + held_at_cost)) < Decimal("1e-8")
    assert venue.fetch_open_orders("BTCUSDT") == ()


@given(
    quantity=st.decimals("0.00001", "10000", places=6),
    lot=st.sampled_from(["0.001", "0.5", "10"]),
    least=st.decimals("0", "5", places=3),
    most=st.none() | st.decimals("5", "500", places=3),
)
def test_whole_lots_keep_the_venues_bounds_or_are_refused(
    quantity: Decimal, lot: str, least: Decimal, most: Decimal | None
) -> None:
    instrument = Instrument(symbol="X", tick=Decimal(1), lot=Decimal(lot), min_quantity=least, max_quantity=most)
    try:
        accepted = instrument.require_lot_quantity(quantity)
    except OrderRejected:
        floored = instrument.floor_to_lot(quantity)
        assert floored < max(instrument.lot, least) or (most is not None and floored > most)
        return
    assert least <= accepted <= quantity < accepted + instrument.lot
    assert accepted % instrument.lot == 0
    assert most is None or accepted <= most
