"""Paper fills: the price is never better than the market's, the fee exact, and an instrument's limits are kept."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from engine.domain.errors import OrderRejected
from engine.domain.positions import Side
from engine.venues.instrument import Instrument
from engine.venues.order_book import BOOK_LEVELS, Level, OrderBook
from engine.venues.order_filters import find_violation, fit_quantity
from engine.venues.orders import OrderRequest, OrderStatus, Protection
from engine.venues.paper import PaperVenue, apply_slippage
from engine.venues.quotes import Quote, Ticker
from engine.venues.venue import Venue

BTC = Instrument(symbol="BTCUSDT", tick=Decimal("0.1"), lot=Decimal("0.001"), min_notional=Decimal(5))
QUOTE = Quote(bid=Decimal("27999.9"), ask=Decimal("28000.1"), last=Decimal(28000), at_ms=1_700_000_000_000)


class FixedQuotes:
    """Quotes of a market that stands still."""

    def fetch_quote(self, symbol: str) -> Quote:  # noqa: ARG002 - it has one symbol
        return QUOTE

    def fetch_ticker(self, symbol: str) -> Ticker:  # noqa: ARG002 - it has one symbol
        return Ticker(last=QUOTE.last, bid=None, ask=None, change_24h_percent=None, at_ms=QUOTE.at_ms)

    def fetch_order_book(self, symbol: str) -> OrderBook:
        return self.fetch_entry_book(symbol)

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:  # noqa: ARG002 - it has one symbol
        much = Decimal(10**9)
        return OrderBook(bids=(Level(QUOTE.bid, much),), asks=(Level(QUOTE.ask, much),), at_ms=QUOTE.at_ms)

    def fetch_instrument(self, symbol: str) -> Instrument:  # noqa: ARG002 - it has one symbol
        return BTC

    def refresh_instrument(self, symbol: str) -> Instrument:
        return self.fetch_instrument(symbol)


def venue() -> PaperVenue:
    return PaperVenue(FixedQuotes(), fee_percent=Decimal("0.04"), slippage_percent=Decimal("0.02"))


def order(quantity: str, *, is_buy: bool = True, **more: Any) -> OrderRequest:
    given = {"client_order_id": "so-1", "symbol": "BTCUSDT", **more}
    return OrderRequest(is_buy=is_buy, quantity=Decimal(quantity), **given)


def test_a_buy_fills_at_the_ask_plus_slippage_rounded_up_to_the_tick_with_the_taker_fee() -> None:
    result = venue().place_market_order(order("0.0359"))
    assert result.status is OrderStatus.FILLED
    assert result.price == Decimal("28005.8")  # 28000.1 * 1.0002 = 28005.70002
    assert result.quantity == Decimal("0.035")
    assert result.fee_usd == Decimal("0.39208120")
    assert result.at_ms == QUOTE.at_ms


def test_a_sell_fills_at_the_bid_less_slippage_rounded_down_to_the_tick() -> None:
    assert venue().place_market_order(order("0.01", is_buy=False)).price == Decimal(
        "27994.3"
    )  # 27999.9 * 0.9998 = 27994.30002


@pytest.mark.parametrize(
    ("is_buy", "limit", "price"),
    [
        (True, "28005.85", "28005.8"),
        (True, "30000", "28005.8"),
        (False, "27994.25", "27994.3"),
        (False, "20000", "27994.3"),
    ],
)
def test_a_limit_order_fills_as_a_market_order_would_within_the_limit(limit: str, price: str, *, is_buy: bool) -> None:
    result = venue().place_limit_order(order("0.01", is_buy=is_buy), Decimal(limit))
    assert (result.status, result.price, result.quantity) == (OrderStatus.FILLED, Decimal(price), Decimal("0.01"))


@pytest.mark.parametrize(
    ("is_buy", "limit"), [(True, "28005.79"), (True, "20000"), (False, "27994.31"), (False, "30000")]
)
def test_a_limit_that_the_market_does_not_reach_is_refused_and_nothing_is_pretended(
    limit: str, *, is_buy: bool
) -> None:
    with pytest.raises(OrderRejected, match="the market fills at") as caught:
        venue().place_limit_order(order("0.01", is_buy=is_buy), Decimal(limit))
    assert caught.value.kind == "not_marketable"


def test_nothing_waits_on_paper() -> None:
    protection = Protection(
        signal_id="1", symbol="BTCUSDT", side=Side.LONG, quantity=Decimal(1), stop_loss_price=Decimal(1)
    )
    paper: Venue = venue()
    assert paper.place_protection(protection) == ()
    assert paper.cancel_order("BTCUSDT", protection.stop_loss_id) is None
    assert paper.find_order("BTCUSDT", protection.stop_loss_id) is None


@pytest.mark.parametrize(("quantity", "reason"), [("0.0009", "below the minimum"), ("0.0001", "below the minimum")])
def test_less_than_a_lot_is_refused(quantity: str, reason: str) -> None:
    with pytest.raises(OrderRejected, match=reason):
        venue().place_market_order(order(quantity))


def test_an_entry_below_the_minimum_notional_is_refused_but_a_reduction_is_not() -> None:
    small, quote = BTC.model_copy(update={"min_notional": Decimal(1000)}), QUOTE
    with pytest.raises(OrderRejected, match="minimum of 1000"):
        fit_quantity(small, order("0.001"), quote=quote)
    assert fit_quantity(small, order("0.001", reduce_only=True), quote=quote) == Decimal("0.001")


def test_a_limit_order_is_worth_what_its_limit_says() -> None:
    with pytest.raises(OrderRejected, match="below the minimum of 5"):
        venue().place_limit_order(order("0.01", is_buy=False), Decimal(1))


def test_more_than_the_most_is_refused() -> None:
    bounded = BTC.model_copy(update={"max_quantity": Decimal(100)})
    with pytest.raises(OrderRejected, match="above the maximum"):
        fit_quantity(bounded, order("100.001"))


@pytest.mark.parametrize(("leverage", "refused"), [(51, True), (50, False), (None, False)])
def test_more_leverage_than_the_venue_publishes_is_refused(leverage: int | None, *, refused: bool) -> None:
    bounded = BTC.model_copy(update={"max_leverage": 50})
    broken = find_violation(bounded, order("1", leverage=leverage), None, None)
    assert (broken is not None and broken.kind == "leverage") is refused


@given(
    cents=st.integers(1, 10**8),
    slippage=st.decimals(0, 5, places=3),
    tick=st.sampled_from([Decimal("0.01"), Decimal("0.1"), Decimal(5)]),
    is_buy=st.booleans(),
)
def test_a_fill_is_on_the_tick_and_never_better_than_the_moved_price(
    cents: int, slippage: Decimal, tick: Decimal, *, is_buy: bool
) -> None:
    before = Decimal(cents) / 100
    instrument = Instrument(symbol="X", tick=tick, lot=Decimal(1))
    price = apply_slippage(before, instrument, is_buy=is_buy, slippage_percent=slippage)
    assert price % tick == 0
    assert price > 0
    if is_buy:
        assert before * (1 + slippage / 100) <= price < before * (1 + slippage / 100) + tick
    else:
        assert price <= max(tick, before * (1 - slippage / 100)) < price + tick


@given(
    price=st.decimals("0.01", "1000000", places=5),
    tick=st.sampled_from(["0.01", "0.1", "0.5", "10"]),
    is_buy=st.booleans(),
)
def test_a_limit_price_is_on_the_tick_and_never_worse_than_was_asked(
    price: Decimal, tick: str, *, is_buy: bool
) -> None:
    instrument = BTC.model_copy(update={"tick": Decimal(tick)})
    if is_buy and price < instrument.tick:
        with pytest.raises(OrderRejected, match="below the tick"):
            instrument.round_limit_price(price, is_buy=is_buy)
        return
    limit = instrument.round_limit_price(price, is_buy=is_buy)
    assert limit % instrument.tick == 0
    assert (price - instrument.tick < limit <= price) if is_buy else (price <= limit < price + instrument.tick)


@given(
    quantity=st.decimals("0.0001", "500", places=5),
    limit=st.none() | st.decimals("20000", "40000", places=2),
    is_buy=st.booleans(),
    reduce_only=st.booleans(),
)
def test_a_paper_fill_is_whole_lots_of_at_most_what_was_asked_within_the_limit_with_its_exact_fee(
    quantity: Decimal, limit: Decimal | None, *, is_buy: bool, reduce_only: bool
) -> None:
    asked = order(str(quantity), is_buy=is_buy, reduce_only=reduce_only)
    try:
        result = venue().place_market_order(asked) if limit is None else venue().place_limit_order(asked, limit)
    except OrderRejected as refusal:
        event(refusal.kind)
        return
    assert result.quantity % BTC.lot == 0
    assert quantity - BTC.lot < result.quantity <= quantity
    assert limit is None or ((result.price <= limit) if is_buy else (result.price >= limit))
    assert reduce_only or result.quantity * result.price >= BTC.min_notional
    assert abs(result.fee_usd - result.quantity * result.price * Decimal("0.0004")) <= Decimal("5e-9")


@given(quantity=st.decimals("0.000001", "1000000", places=6), lot=st.sampled_from(["0.001", "0.5", "1", "10"]))
def test_a_quantity_is_floored_to_the_lot_and_never_rounded_up(quantity: Decimal, lot: str) -> None:
    floored = BTC.model_copy(update={"lot": Decimal(lot)}).floor_to_lot(quantity)
    assert floored % Decimal(lot) == 0
    assert floored <= quantity < floored + Decimal(lot)
