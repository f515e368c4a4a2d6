"""Paper fills: the price is never better than the market's, the fee exact, and an instrument's limits are kept."""

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import VenueRefused
from engine.exchanges.paper import PaperVenue, fill_price
from engine.exchanges.venue import Instrument, OrderRequest, OrderStatus, Quote, client_order_id

BTC = Instrument(symbol="BTCUSDT", tick=Decimal("0.1"), lot=Decimal("0.001"), min_notional=Decimal(5))
QUOTE = Quote(bid=Decimal("27999.9"), ask=Decimal("28000.1"), last=Decimal(28000), at_ms=1_700_000_000_000)


class FixedQuotes:
    """Quotes of a market that stands still."""

    def quote(self, symbol: str) -> Quote:  # noqa: ARG002 - it has one symbol
        return QUOTE

    def instrument(self, symbol: str) -> Instrument:  # noqa: ARG002 - it has one symbol
        return BTC


def venue() -> PaperVenue:
    return PaperVenue(FixedQuotes(), fee_percent=Decimal("0.04"), slippage_percent=Decimal("0.02"))


def order(quantity: str, *, is_buy: bool = True, reduce_only: bool = False) -> OrderRequest:
    return OrderRequest(
        client_order_id="so-1", symbol="BTCUSDT", is_buy=is_buy, quantity=Decimal(quantity), reduce_only=reduce_only
    )


def test_a_buy_fills_at_the_ask_plus_slippage_rounded_up_to_the_tick_with_the_taker_fee() -> None:
    result = venue().market_order(order("0.0359"))
    assert result.status is OrderStatus.FILLED
    assert result.price == Decimal("28005.8")  # 28000.1 * 1.0002 = 28005.70002
    assert result.quantity == Decimal("0.035")
    assert result.fee_usd == Decimal("0.39208120")
    assert result.at_ms == QUOTE.at_ms


def test_a_sell_fills_at_the_bid_less_slippage_rounded_down_to_the_tick() -> None:
    assert venue().market_order(order("0.01", is_buy=False)).price == Decimal(
        "27994.3"
    )  # 27999.9 * 0.9998 = 27994.30002


@pytest.mark.parametrize(("quantity", "reason"), [("0.0009", "below the least"), ("0.0001", "below the least")])
def test_less_than_a_lot_is_refused(quantity: str, reason: str) -> None:
    with pytest.raises(VenueRefused, match=reason):
        venue().market_order(order(quantity))


def test_an_entry_below_the_minimum_notional_is_refused_but_a_reduction_is_not() -> None:
    small = BTC.model_copy(update={"min_notional": Decimal(1000)})
    with pytest.raises(VenueRefused, match="minimum of 1000"):
        small.accepted(Decimal("0.001"), Decimal(28000), reduce_only=False)
    assert small.accepted(Decimal("0.001"), Decimal(28000), reduce_only=True) == Decimal("0.001")


def test_more_than_the_most_is_refused() -> None:
    bounded = BTC.model_copy(update={"max_quantity": Decimal(100)})
    with pytest.raises(VenueRefused, match="above the most"):
        bounded.accepted(Decimal("100.001"), Decimal(28000), reduce_only=False)


@given(
    cents=st.integers(1, 10**8),
    spread=st.integers(0, 10**4),
    slippage=st.decimals(0, 5, places=3),
    tick=st.sampled_from([Decimal("0.01"), Decimal("0.1"), Decimal(5)]),
    is_buy=st.booleans(),
)
def test_a_fill_is_on_the_tick_and_never_better_than_the_moved_quote(
    cents: int, spread: int, slippage: Decimal, tick: Decimal, *, is_buy: bool
) -> None:
    bid, ask = Decimal(cents) / 100, Decimal(cents + spread) / 100
    quote = Quote(bid=bid, ask=ask, last=bid, at_ms=0)
    instrument = Instrument(symbol="X", tick=tick, lot=Decimal(1))
    price = fill_price(quote, instrument, is_buy=is_buy, slippage_percent=slippage)
    assert price % tick == 0
    assert price > 0
    if is_buy:
        assert ask * (1 + slippage / 100) <= price < ask * (1 + slippage / 100) + tick
    else:
        assert price <= max(tick, bid * (1 - slippage / 100)) < price + tick


@given(quantity=st.decimals("0.000001", "1000000", places=6), lot=st.sampled_from(["0.001", "0.5", "1", "10"]))
def test_a_quantity_is_floored_to_the_lot_and_never_rounded_up(quantity: Decimal, lot: str) -> None:
    floored = BTC.model_copy(update={"lot": Decimal(lot)}).floored(quantity)
    assert floored % Decimal(lot) == 0
    assert floored <= quantity < floored + Decimal(lot)


@given(signal=st.one_of(st.uuids(), st.text(max_size=200)), leg=st.sampled_from("oc"))
def test_a_client_order_id_is_acceptable_to_the_venue_and_always_the_same(signal: UUID | str, leg: str) -> None:
    name = client_order_id(signal, leg)
    assert name == client_order_id(str(signal), leg)
    assert len(name) <= 36
    assert OrderRequest(client_order_id=name, symbol="X", is_buy=True, quantity=Decimal(1))


def test_two_signals_and_two_legs_have_different_order_ids() -> None:
    first, second = UUID(int=1), UUID(int=2)
    assert len({client_order_id(first), client_order_id(second), client_order_id(first, "c")}) == 3
