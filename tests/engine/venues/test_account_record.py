"""What the account's own record says, read over real HTTP: every trade, forced order and income, to the last digit."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.errors import StrategyFault
from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_record import ForcedExitCause
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import build_client_order_id
from simulator.venue.venue import SimulatedVenue
from tests.engine.venues.record_scene import BTC, TAKER, Happens, Misbehave, OpenVenue, only_account, trade
from tests.support.factories.markets import START_MS

OURS = build_client_order_id("ours")


def test_the_trades_are_the_venues_to_the_last_digit_whoever_made_them(
    venue: CcxtVenue, happens: Happens, hands: Any, exchange: SimulatedVenue
) -> None:
    ours = trade(venue, "ours", "0.010")
    hands.now += 1
    happens(trade={"symbol": BTC, "side": "SELL", "quantity": "0.004"})
    first, second = venue.fetch_trades(BTC, since_ms=START_MS)
    fills = only_account(exchange).fills
    assert (first.trade_id, first.order_id, first.symbol, first.is_buy) == (1, ours, BTC, True)
    assert (first.quantity, first.price, first.at_ms) == (Decimal("0.010"), Decimal("28001.4"), fills[0].at_ms)
    assert first.fee_usd == Decimal("0.010") * Decimal("28001.4") * TAKER
    assert (second.is_buy, second.signed_quantity, second.at_ms) == (False, Decimal("-0.004"), fills[1].at_ms)
    assert second.fee_usd == Decimal("0.004") * second.price * TAKER
    assert venue.fetch_trades(BTC, after_id=first.trade_id) == (second,)
    assert venue.fetch_trades(BTC, since_ms=second.at_ms) == (second,)
    assert venue.fetch_trades(BTC, since_ms=second.at_ms + 1) == venue.fetch_trades(BTC, after_id=2) == ()


def test_orders_name_who_made_them_and_an_unknown_number_is_none(venue: CcxtVenue, happens: Happens) -> None:
    ours = trade(venue, OURS, "0.010")
    happens(trade={"symbol": BTC, "side": "SELL", "quantity": "0.002"})
    happens(adl=BTC, quantity="0.003")
    happens(liquidate=BTC)
    numbers = [one.order_id for one in venue.fetch_trades(BTC, since_ms=START_MS)]
    names = [venue.find_client_order_id(BTC, number) for number in numbers]
    assert numbers[0] == ours
    assert names[0] == OURS
    assert [str(name)[:4] for name in names[1:]] == ["ios_", "adl_", "auto"]
    assert venue.find_client_order_id(BTC, "999999") is None


def test_a_liquidation_is_told_by_trades_forced_orders_and_income_alike(
    venue: CcxtVenue, happens: Happens, exchange: SimulatedVenue
) -> None:
    trade(venue, "ours", "0.010")
    happens(liquidate=BTC, pieces=3)
    (forced,) = venue.fetch_forced_orders(BTC, since_ms=START_MS)
    assert (forced.cause, forced.is_buy, forced.quantity) == (ForcedExitCause.LIQUIDATED, False, Decimal("0.010"))
    pieces = [one for one in venue.fetch_trades(BTC, since_ms=START_MS) if one.order_id == forced.order_id]
    assert len(pieces) == 3
    notional = sum((one.quantity * one.price for one in pieces), Decimal(0))
    assert forced.price * forced.quantity == pytest.approx(notional, abs=Decimal("1e-9"))
    income = venue.fetch_income(BTC, since_ms=START_MS)
    kinds = [row.kind for row in income]
    assert kinds.count("INSURANCE_CLEAR") == 1
    assert [row.trade_id for row in income if row.kind == "REALIZED_PNL"] == [one.trade_id for one in pieces]
    (cleared,) = [row for row in income if row.kind == "INSURANCE_CLEAR"]
    assert (cleared.amount, cleared.asset, cleared.trade_id) == (-notional * Decimal("0.005"), "USDT", None)
    assert len({row.income_id for row in income}) == len(income)
    balance = only_account(exchange).balance
    assert venue.fetch_balance().wallet_usd == balance == 10_000 + sum((row.amount for row in income), Decimal(0))


def test_adl_and_a_hand_are_told_apart(venue: CcxtVenue, happens: Happens, hands: Any) -> None:
    trade(venue, "ours", "0.010", is_buy=False)
    happens(adl=BTC, percent=50)
    hands.now += 1
    happens(close=BTC)
    (forced,) = venue.fetch_forced_orders(BTC, since_ms=START_MS)
    assert (forced.cause, forced.is_buy, forced.quantity) == (ForcedExitCause.ADL, True, Decimal("0.005"))
    assert venue.fetch_forced_orders(BTC, since_ms=forced.at_ms) == (forced,)
    assert venue.fetch_forced_orders(BTC, since_ms=forced.at_ms + 1) == ()
    assert len(venue.fetch_trades(BTC, since_ms=START_MS)) == 3


def test_a_forced_order_under_a_name_that_is_not_known_is_told_by_the_venue_when_asked(
    venue: CcxtVenue, happens: Happens, exchange: SimulatedVenue
) -> None:
    trade(venue, "ours", "0.010")
    happens(adl=BTC, quantity="0.004")
    happens(liquidate=BTC)
    for order in only_account(exchange).orders.values():
        order.client_order_id = f"system-{order.order_id}"
    assert [one.cause for one in venue.fetch_forced_orders(BTC, since_ms=START_MS)] == [
        ForcedExitCause.ADL,
        ForcedExitCause.LIQUIDATED,
    ]


def test_hidden_trades_are_in_the_forced_orders_and_the_income_only(venue: CcxtVenue, happens: Happens) -> None:
    trade(venue, "ours", "0.010")
    happens(trades_hidden=True)
    happens(liquidate=BTC)
    assert len(venue.fetch_trades(BTC, since_ms=START_MS)) == 1
    (forced,) = venue.fetch_forced_orders(BTC, since_ms=START_MS)
    profits = [row for row in venue.fetch_income(BTC, since_ms=START_MS) if row.kind == "REALIZED_PNL"]
    assert forced.quantity == Decimal("0.010")
    assert [row.amount for row in profits] == [Decimal("0.010") * (forced.price - Decimal("28001.4"))]


def test_a_record_that_lags_tells_nothing_of_a_position_that_is_gone_already(
    venue: CcxtVenue, happens: Happens, hands: Any
) -> None:
    trade(venue, "ours", "0.010")
    hands.now += 5
    happens(record_lag_s=3)
    happens(liquidate=BTC)
    assert venue.fetch_positions() == ()
    assert len(venue.fetch_trades(BTC, since_ms=START_MS)) == 1
    assert venue.fetch_forced_orders(BTC, since_ms=START_MS) == ()
    hands.now += 3
    assert len(venue.fetch_trades(BTC, since_ms=START_MS)) == 2
    assert len(venue.fetch_forced_orders(BTC, since_ms=START_MS)) == 1


def test_positions_of_one_symbol_tell_when_the_venue_last_changed_them(
    venue: CcxtVenue, happens: Happens, hands: Any
) -> None:
    assert venue.fetch_positions(BTC) == ()
    trade(venue, "ours", "0.010")
    (bought,) = venue.fetch_trades(BTC, since_ms=START_MS)
    hands.now += 5
    (held,) = venue.fetch_positions(BTC)
    assert (held.symbol, held.net, held.changed_ms) == (BTC, Decimal("0.010"), bought.at_ms)
    assert venue.fetch_positions() == (held,)
    happens(rows_of_flat=False)
    happens(close=BTC)
    assert venue.fetch_positions(BTC) == venue.fetch_positions() == ()


def test_an_entry_into_a_flat_symbol_goes_through_where_the_venue_tells_only_of_held_ones(
    venue: CcxtVenue, happens: Happens
) -> None:
    happens(rows_of_flat=False)
    trade(venue, "ours", "0.010")
    assert len(venue.fetch_positions(BTC)) == 1


def test_fees_that_the_account_pays_in_a_coin_leave_its_dollars_alone(
    venue: CcxtVenue, happens: Happens, exchange: SimulatedVenue
) -> None:
    trade(venue, "dollars", "0.010")
    before = only_account(exchange).balance
    happens(fee_coin="BNB")
    trade(venue, "coin", "0.010")
    happens(fee_coin="")
    trade(venue, "dollars-again", "0.010")
    fees = [one.fee_usd for one in venue.fetch_trades(BTC, since_ms=START_MS)]
    paid = [(row.asset, row.amount) for row in venue.fetch_income(BTC, since_ms=START_MS)]
    fee_usd = Decimal("0.010") * Decimal("28001.4") * TAKER
    assert fees == [fee_usd, None, fee_usd]
    assert paid == [("USDT", -fee_usd), ("BNB", Decimal("-0.00016801")), ("USDT", -fee_usd)]
    assert only_account(exchange).balance == before - fee_usd


@pytest.mark.parametrize("status", [500, 429])
def test_a_venue_that_does_not_tell_is_unavailable(venue: CcxtVenue, misbehave: Misbehave, status: int) -> None:
    misbehave({"kind": "status", "status": status, "path": "/userTrades"})
    with pytest.raises(UpstreamUnavailable):
        venue.fetch_trades(BTC, after_id=0)


def test_a_symbol_that_is_not_listed_is_the_strategys_fault(venue: CcxtVenue) -> None:
    with pytest.raises(StrategyFault):
        venue.fetch_trades("NOPEUSDT", after_id=0)


def test_a_venue_whose_record_is_not_known_is_unavailable_and_not_empty(make_keys: Callable[..., Any]) -> None:
    other = CcxtVenue("bybit", make_keys(7), "http://127.0.0.1:9")
    with pytest.raises(UpstreamUnavailable, match="bybit's record of an account cannot be read"):
        other.fetch_trades(BTC, after_id=0)
    other.close()


acts = st.sampled_from(["buy", "sell", "close", "liquidate", "adl", "fund"])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(acts, st.integers(1, 30)), min_size=1, max_size=8), st.integers(1, 2**40))
def test_the_balance_is_the_sum_of_all_income_and_the_position_the_sum_of_all_trades(
    open_venue: OpenVenue,
    make_keys: Callable[..., Any],
    happens: Happens,
    exchange: SimulatedVenue,
    steps: list[tuple[str, int]],
    number: int,
) -> None:
    exchange._accounts.clear()
    venue = open_venue(make_keys(number))
    trade(venue, f"first-{number}", "0.005")
    for act, lots in steps:
        quantity = str(Decimal(lots) / 1_000)
        if act in ("buy", "sell"):
            happens(trade={"symbol": BTC, "side": act.upper(), "quantity": quantity})
        elif act == "fund":
            happens(funding={"symbol": BTC, "rate": f"0.000{lots}"})
        elif only_account(exchange).get_holding(BTC).amount:  # of nothing the control says 400
            happens(**{act: BTC}, **({} if act == "close" else {"quantity": quantity}))
    trades, held = venue.fetch_trades(BTC, since_ms=START_MS), venue.fetch_positions(BTC)
    assert sum(one.signed_quantity for one in trades) == sum(one.net for one in held)
    income = venue.fetch_income(BTC, since_ms=START_MS)
    assert only_account(exchange).balance == sum((row.amount for row in income), Decimal(10_000))
    fees = -sum((row.amount for row in income if row.kind == "COMMISSION"), Decimal(0))
    assert sum((one.fee_usd or Decimal(0) for one in trades), Decimal(0)) == fees
