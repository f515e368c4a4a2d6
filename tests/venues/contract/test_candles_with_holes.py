"""Candles of a venue that lost minutes, told some twice, or halted: complete, marked, and never newer than they are."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from engine.domain.market import Candle
from engine.platform.errors import CycleSkipped
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.market_data.client import CandleSeries, MarketData
from simulator.market.candles import MINUTE_MS, FileSeries
from simulator.market.market import Market, MarketClock
from tests.support.factories.markets import START_MS
from tests.venues.contract.conftest import Bench

NOW_MS = START_MS + 150 * MINUTE_MS
Direct = Callable[..., None]


@pytest.fixture
def data(bench: Bench) -> Iterator[MarketData]:
    """150 minutes after the market began, which rises by 10 in each."""
    bench.exchange.markets["BTCUSDT"] = Market(rising())
    bench.exchange.clock = MarketClock(NOW_MS, 1.0, None, bench.hands)
    found = MarketData(bench.simulated.name, bench.url, 3.0, RequestWeightLimiter(bench.hands))
    yield found
    found.close()


def rising() -> FileSeries:
    opens = [28_000.0 + 10 * step for step in range(400)]
    return FileSeries(
        [
            Candle(START_MS + i * MINUTE_MS, opened, opened + 10, opened, opened + 10, 1.0 + i)
            for i, opened in enumerate(opens)
        ],
        decimals=1,
    )


@pytest.fixture
def candles(bench: Bench) -> Direct:
    """What shall be wrong with candles; see `simulator.control.candle_control`."""

    def direct(**wishes: Any) -> None:
        httpx.post(f"{bench.url}/_control/candles", json=wishes, timeout=30).raise_for_status()

    return direct


def at(back: int, minutes: int = 1) -> int:
    """When the candle opens of which so many closed ones are newer."""
    return NOW_MS - NOW_MS % (minutes * MINUTE_MS) - (back + 1) * minutes * MINUTE_MS


def check_whole(feed: CandleSeries, newest: int, count: int = 100, minutes: int = 1) -> None:
    """As many candles as there can be, one after the other."""
    last_ms = at(newest, minutes)
    opens = [last_ms - step * minutes * MINUTE_MS for step in range(count)]
    assert [candle.open_time_ms for candle in feed.candles] == opens[::-1]


def by_time(feed: CandleSeries) -> dict[int, Candle]:
    return {candle.open_time_ms: candle for candle in feed.candles}


def filled(feed: CandleSeries) -> list[int]:
    """How many closed candles are newer than each that was filled, newest first."""
    return sorted((NOW_MS - open_ms) // MINUTE_MS - 1 for open_ms in feed.filled)


@pytest.mark.parametrize("missing", [[5], [1], [1, 2, 3], [40, 41, 42, 7, 3], [99, 98], [110], [119]], ids=str)
def test_missing_minutes_are_filled_with_the_last_close_and_nothing_traded(
    data: MarketData, candles: Direct, missing: list[int]
) -> None:
    whole = by_time(data.fetch_candles("BTCUSDT"))
    candles(missing=missing)
    feed = data.fetch_candles("BTCUSDT")
    check_whole(feed, newest=0)
    assert filled(feed) == sorted(back for back in missing if back < 100)
    for open_ms, candle in by_time(feed).items():
        if open_ms in feed.filled:
            close = by_time(feed).get(open_ms - MINUTE_MS, candle).close
            assert candle == Candle(open_ms, close, close, close, close, 0.0)
        else:
            assert candle == whole[open_ms]


def test_nothing_is_filled_beyond_the_last_candle_that_there_is(data: MarketData, candles: Direct) -> None:
    candles(missing=[0, 1])
    feed = data.fetch_candles("BTCUSDT")
    check_whole(feed, newest=2)
    assert feed.filled == frozenset()


@pytest.mark.parametrize("fault", ["repeated", "half_formed", "half_formed_last"])
def test_of_a_candle_told_twice_the_one_with_more_trade_counts(data: MarketData, candles: Direct, fault: str) -> None:
    whole = data.fetch_candles("BTCUSDT")
    candles(**{fault: [0, 1, 30, 99]})
    assert data.fetch_candles("BTCUSDT") == whole


@pytest.mark.parametrize("order", ["newest_first", "mixed"])
def test_rows_out_of_order_are_put_in_order(data: MarketData, candles: Direct, order: str) -> None:
    whole = data.fetch_candles("BTCUSDT")
    candles(order=order, repeated=[3])
    assert data.fetch_candles("BTCUSDT") == whole


@pytest.mark.parametrize("kind", ["null", "0", "NaN", "high_null", "upside_down"])
def test_a_candle_that_tells_nothing_or_contradicts_itself_is_filled(
    data: MarketData, candles: Direct, kind: str
) -> None:
    candles(broken={4: kind, 60: kind})
    feed = data.fetch_candles("BTCUSDT")
    check_whole(feed, newest=0)
    assert filled(feed) == [4, 60]


def test_the_newest_candle_that_tells_nothing_is_as_if_there_were_none_yet(data: MarketData, candles: Direct) -> None:
    candles(broken={0: "null"})
    check_whole(data.fetch_candles("BTCUSDT"), newest=1)


@pytest.mark.parametrize("kind", ["0", "NaN", "high_null", "upside_down"])
def test_many_candles_that_contradict_themselves_are_filled_too(data: MarketData, candles: Direct, kind: str) -> None:
    candles(broken=dict.fromkeys(range(0, 60, 2), kind))
    feed = data.fetch_candles("BTCUSDT")
    check_whole(feed, newest=1)
    assert filled(feed) == list(range(2, 60, 2))


def test_a_feed_of_nothing_but_contradictions_is_bad_data(data: MarketData, candles: Direct) -> None:
    candles(broken=dict.fromkeys(range(150), "upside_down"))
    with pytest.raises(CycleSkipped) as caught:
        data.fetch_candles("BTCUSDT")
    assert caught.value.kind == "bad_data"


def test_candles_that_open_some_milliseconds_off_are_those_of_their_minute(data: MarketData, candles: Direct) -> None:
    whole = data.fetch_candles("BTCUSDT")
    candles(shifted_ms={0: 7, 1: -3, 50: 900})
    assert data.fetch_candles("BTCUSDT") == whole


def test_quiet_minutes_are_no_filled_ones(data: MarketData, candles: Direct) -> None:
    candles(quiet=[0, 2, 3])
    feed = data.fetch_candles("BTCUSDT")
    assert feed.filled == frozenset()
    assert [candle.volume for candle in feed.candles[-4:]] == [0.0, 0.0, 149.0, 0.0]


@pytest.mark.parametrize(("interval", "minutes"), [("15m", 15), ("1h", 60)])
def test_longer_candles_are_filled_too(data: MarketData, candles: Direct, interval: str, minutes: int) -> None:
    candles(interval=interval, missing=[1])
    feed = data.fetch_candles("BTCUSDT", interval)
    assert feed.filled == ({at(1, minutes)} if interval == "15m" else frozenset())
    assert feed.candles[-1].open_time_ms == at(0, minutes)


def test_after_a_halted_hour_the_first_candle_ends_the_silence(bench: Bench, data: MarketData, candles: Direct) -> None:
    candles(halted=True)
    bench.hands.now += 60 * 60
    assert data.fetch_candles("BTCUSDT").candles[-1].open_time_ms == at(0)  # an hour old, which is for others to judge
    candles(halted=False)
    bench.hands.now += 60
    feed = data.fetch_candles("BTCUSDT")
    assert len(feed.candles) == 100
    assert (len(feed.filled), feed.candles[-1].open_time_ms) == (60, NOW_MS + 60 * MINUTE_MS)
    assert feed.candles[-1].open_time_ms not in feed.filled


def test_after_a_longer_halt_what_is_told_begins_after_it(bench: Bench, data: MarketData, candles: Direct) -> None:
    """A hundred candles of which hardly one is real would be indicators of nothing."""
    candles(halted=True)
    bench.hands.now += 90 * 60
    candles(halted=False)
    bench.hands.now += 2 * 60
    feed = data.fetch_candles("BTCUSDT")
    assert [candle.open_time_ms for candle in feed.candles] == [NOW_MS + step * MINUTE_MS for step in (90, 91)]
    assert feed.filled == frozenset()


def test_a_feed_with_holes_costs_no_more_requests(bench: Bench, data: MarketData, candles: Direct) -> None:
    data.fetch_candles("BTCUSDT")
    before = bench.exchange.meter.used
    data.fetch_candles("BTCUSDT")
    without = bench.exchange.meter.used - before
    candles(missing=[1, 5], repeated=[2], broken={7: "null", 8: "upside_down"}, shifted_ms={9: 5})
    data.fetch_candles("BTCUSDT")
    assert bench.exchange.meter.used - before == 2 * without
