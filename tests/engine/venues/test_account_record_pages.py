"""A record of more than a page, or of weeks, is read to its end, and once."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from engine.platform.errors import UpstreamUnavailable
from engine.venues.live.ccxt_venue import CcxtVenue
from simulator.venue import account_events
from simulator.venue.trading_account import Fill
from simulator.venue.venue import SimulatedVenue
from tests.engine.venues.record_scene import BTC, DAY_MS, Happens, only_account, trade
from tests.support.factories.markets import START_MS


def many_fills(exchange: SimulatedVenue, venue: CcxtVenue, times: list[int]) -> list[Fill]:
    """Trades of 0.001 at these times, as if they had been made then. The account holds one real order."""
    trade(venue, "first", "0.001")
    account = only_account(exchange)
    order, template = next(iter(account.orders.values())), account.fills[0]
    account.fills = [
        replace(template, trade_id=number, order=order, at_ms=at_ms) for number, at_ms in enumerate(times, 1)
    ]
    return account.fills


def test_more_than_a_page_of_trades_is_read_to_the_end(venue: CcxtVenue, exchange: SimulatedVenue) -> None:
    now_ms = exchange.clock.now_ms()
    fills = many_fills(exchange, venue, [now_ms - 5_000 + step * 2 for step in range(2_300)])
    ids = [fill.trade_id for fill in fills]
    assert [one.trade_id for one in venue.fetch_trades(BTC, since_ms=now_ms - 5_000)] == ids
    assert [one.trade_id for one in venue.fetch_trades(BTC, after_id=0)] == ids
    assert [one.trade_id for one in venue.fetch_trades(BTC, after_id=1_700)] == ids[1_700:]


def test_weeks_of_trades_are_read_in_windows_of_seven_days(venue: CcxtVenue, exchange: SimulatedVenue) -> None:
    now_ms = exchange.clock.now_ms()
    days = [30, 23, 22.9, 16, 9, 8.999, 2, 0]
    fills = many_fills(exchange, venue, [now_ms - int(day * DAY_MS) for day in days])
    since_ms = fills[0].at_ms
    assert [one.trade_id for one in venue.fetch_trades(BTC, since_ms=since_ms)] == list(range(1, 9))
    assert [one.trade_id for one in venue.fetch_trades(BTC, since_ms=since_ms + 1)] == list(range(2, 9))


def test_a_thousand_trades_of_one_moment_are_read_or_said_to_be_too_many(
    venue: CcxtVenue, exchange: SimulatedVenue
) -> None:
    now_ms = exchange.clock.now_ms()
    many_fills(exchange, venue, [now_ms] * 999)
    assert len(venue.fetch_trades(BTC, since_ms=now_ms)) == 999
    account = only_account(exchange)
    account.fills = [replace(account.fills[0], trade_id=number) for number in range(1, 1_500)]
    with pytest.raises(UpstreamUnavailable, match="too long"):
        venue.fetch_trades(BTC, since_ms=now_ms)
    assert len(venue.fetch_trades(BTC, after_id=0)) == 1_499


def test_more_than_a_page_of_forced_orders_and_income_is_read_to_the_end(
    venue: CcxtVenue, happens: Happens, exchange: SimulatedVenue, hands: Any
) -> None:
    trade(venue, "ours", "0.260")
    for _ in range(250):
        hands.now += 1
        account_events.auto_deleverage(exchange, exchange.list_users()[0], BTC, Decimal("0.001"))
    assert len(venue.fetch_forced_orders(BTC, since_ms=START_MS)) == 250
    rows = venue.fetch_income(BTC, since_ms=START_MS)
    assert len(rows) == 501
    account = only_account(exchange)
    last = account.incomes[-1]
    account.incomes += [replace(last, income_id=10_000 + step, at_ms=last.at_ms + step) for step in range(1_000)]
    hands.now += 2
    assert len(venue.fetch_income(BTC, since_ms=START_MS)) == 1_501
    assert sum((row.amount for row in rows), Decimal(10_000)) == account.balance
