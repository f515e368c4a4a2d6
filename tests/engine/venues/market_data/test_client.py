"""Market data through the real ccxt against the simulator: checked, bounded, and honest when the venue is not well."""

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import StrategyFault
from engine.domain.market import Candle
from engine.platform.errors import ConfigurationError, CycleSkipped, UpstreamUnavailable
from engine.venues.ccxt_client.client import rebase_urls
from engine.venues.market_data.candle_repair import find_candle_fault
from engine.venues.market_data.client import MarketData
from simulator.aster.aster_app import create_aster
from simulator.market.candles import create_synthetic_series
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.engine.venues.conftest import TIMEOUT_S
from tests.support.factories.markets import START_MS

MINUTE = 60_000
KLINES = "/fapi/v3/klines"
Misbehave = Callable[..., None]


def test_candles_are_the_closed_ones_oldest_first(market_data: MarketData, hands: Any) -> None:
    hands.now = 30.0
    candles, now_ms, _ = market_data.fetch_candles("BTCUSDT", "1m", 100)
    assert now_ms == START_MS + 105 * MINUTE + 30_000
    assert [candle.open_time_ms for candle in candles] == [START_MS + i * MINUTE for i in range(5, 105)]
    assert candles[-1] == Candle(START_MS + 104 * MINUTE, 28_000.0, 28_000.0, 28_000.0, 28_000.0, 105.0)


def test_a_candle_appears_as_soon_as_it_has_closed(market_data: MarketData, hands: Any) -> None:
    hands.now = 59.999
    assert market_data.fetch_candles("BTCUSDT")[0][-1].open_time_ms == START_MS + 104 * MINUTE
    hands.now = 60.0
    assert market_data.fetch_candles("BTCUSDT")[0][-1].open_time_ms == START_MS + 105 * MINUTE


def test_candles_are_as_many_as_asked_for_however_fast_the_market_runs(stage: Any) -> None:
    series = create_synthetic_series(seed=1)
    looks = itertools.count(step=3_600)
    clock = MarketClock(START_MS, 1.0, None, lambda: float(next(looks)))
    stage[0].app = create_aster(SimulatedVenue({name: Market(one) for name, one in series.items()}, clock))
    data = MarketData("aster", stage[1])
    candles, now_ms, _ = data.fetch_candles("ETHUSDT", limit=100)
    assert len(candles) == 100
    assert candles[-1].open_time_ms + MINUTE <= now_ms < candles[-1].open_time_ms + 2 * MINUTE
    data.close()


def test_other_intervals_are_served_too(market_data: MarketData) -> None:
    candles, _, _ = market_data.fetch_candles("BTCUSDT", "15m", 4)
    assert {candle.open_time_ms % (15 * MINUTE) for candle in candles} == {0}
    with pytest.raises(ConfigurationError, match="7m"):
        market_data.fetch_candles("BTCUSDT", "7m")


def test_a_quote_has_both_sides_and_an_instrument_its_filters(market_data: MarketData) -> None:
    quote = market_data.fetch_quote("BTCUSDT")
    assert (quote.bid, quote.last, quote.ask) == (Decimal("27998.6"), Decimal(28000), Decimal("28001.4"))
    instrument = market_data.fetch_instrument("BTCUSDT")
    assert (instrument.tick, instrument.lot) == (Decimal("0.1"), Decimal("0.001"))
    assert (instrument.min_notional, instrument.min_quantity) == (Decimal(5), Decimal("0.001"))


def test_the_ticker_tells_the_change_of_24_hours(market_data: MarketData, hands: Any) -> None:
    hands.now = 60.0 * 15
    ticker = market_data.fetch_ticker("BTCUSDT")
    assert ticker.last == 29_000.0
    assert ticker.change_24h_percent == pytest.approx(3.571)
    assert (ticker.bid, ticker.ask) == (None, None)


def test_an_unknown_symbol_is_the_strategys_fault_and_an_unknown_venue_the_settings(market_data: MarketData) -> None:
    with pytest.raises(StrategyFault, match="DOGEUSDT"):
        market_data.fetch_candles("DOGEUSDT")
    with pytest.raises(ConfigurationError, match="nowhere"):
        MarketData("nowhere")


def kline(index: int, *prices: str) -> str:
    shown = ",".join(f'"{price}"' for price in prices or ("10", "12", "9", "11"))
    return f'[{START_MS + index * MINUTE},{shown},"1",0,"0",1,"0","0","0"]'


def klines(*rows: str) -> dict[str, object]:
    return {"kind": "status", "path": KLINES, "status": 200, "body": f"[{','.join(rows)}]"}


@pytest.mark.parametrize(
    "rows",
    [
        (kline(1, "10", "8", "9", "8.5"), kline(2, "10", "8", "9", "8.5")),
        (kline(1, "0", "12", "0", "11"), kline(2, "0", "12", "0", "11")),
        (kline(1, "NaN", "12", "9", "11"), kline(2, "NaN", "12", "9", "11")),
        (kline(1, "10", "12", "9", "many"), kline(2, "10", "12", "9", "many")),
    ],
    ids=["high below low", "zero", "nan", "text"],
)
def test_candles_that_are_all_bad_are_asked_for_once_more_and_then_skipped(
    market_data: MarketData, misbehave: Misbehave, rows: tuple[str, ...]
) -> None:
    misbehave(klines(*rows))
    assert len(market_data.fetch_candles("BTCUSDT")[0]) == 100
    misbehave(klines(*rows) | {"times": 2})
    with pytest.raises(CycleSkipped) as caught:
        market_data.fetch_candles("BTCUSDT")
    assert caught.value.kind == "bad_data"


def test_no_candles_are_no_data(market_data: MarketData, misbehave: Misbehave) -> None:
    misbehave(klines())
    with pytest.raises(CycleSkipped) as caught:
        market_data.fetch_candles("BTCUSDT")
    assert caught.value.kind == "no_data"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503, "body": '{"code":-1000,"msg":"Unknown error"}'},
        {
            "kind": "status",
            "status": 418,
            "headers": {"retry-after": "0"},
            "body": '{"code":-1003,"msg":"Too many requests; IP banned"}',
        },
        {"kind": "status", "status": 200, "body": "<html>maintenance</html>"},
        {"kind": "status", "status": 200, "body": '{"surprise":1}'},
        {"kind": "status", "status": 400, "body": '{"code":-1100,"msg":"Illegal characters"}'},
        {"kind": "status", "status": 302, "headers": {"location": "/elsewhere"}},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "huge", "size": 40_000_000},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')} {fault.get('body', '')}"[:24],
)
def test_a_venue_that_is_not_well_is_unavailable(
    market_data: MarketData, misbehave: Misbehave, fault: dict[str, object]
) -> None:
    market_data.fetch_instrument("BTCUSDT")
    misbehave(fault | {"path": KLINES})
    with pytest.raises(UpstreamUnavailable):
        market_data.fetch_candles("BTCUSDT")
    assert market_data.fetch_candles("BTCUSDT")


@pytest.mark.parametrize("fault", [{"kind": "hang", "seconds": TIMEOUT_S}, {"kind": "drip", "seconds": 0.2}])
def test_a_venue_that_never_ends_its_answer_is_given_up_in_time(
    market_data: MarketData, misbehave: Misbehave, fault: dict[str, object]
) -> None:
    market_data.fetch_instrument("BTCUSDT")
    misbehave(fault | {"path": KLINES})
    with pytest.raises(UpstreamUnavailable), market_data._exchange.session.limit_timeout(1 / TIMEOUT_S):
        market_data.fetch_candles("BTCUSDT")


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7), ("2m", 120), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("", None), ("nan", None)],
)
def test_a_429_tells_when_to_come_back(
    market_data: MarketData, misbehave: Misbehave, header: str, wait_s: float | None
) -> None:
    market_data.fetch_instrument("BTCUSDT")
    body = '{"code":-1003,"msg":"Too many requests"}'
    misbehave({"kind": "status", "path": KLINES, "status": 429, "headers": {"retry-after": header}, "body": body})
    with pytest.raises(UpstreamUnavailable, match="Too many requests") as caught:
        market_data.fetch_candles("BTCUSDT")
    assert caught.value.retry_after_s == wait_s


def test_nobody_listening_is_unavailable() -> None:
    with pytest.raises(UpstreamUnavailable):
        MarketData("aster", "http://127.0.0.1:9").fetch_ticker("BTCUSDT")


@pytest.mark.parametrize(
    ("candle", "fault"),
    [
        (Candle(START_MS, 10.0, float("inf"), 9.0, 11.0, 1.0), "not a number"),
        (Candle(START_MS, 10.0, 12.0, -1.0, 11.0, 1.0), "not positive"),
        (Candle(START_MS, 10.0, 12.0, 9.0, 11.0, -1.0), "negative volume"),
        (Candle(START_MS, 10.0, 10.5, 9.0, 11.0, 1.0), "high is not the highest"),
        (Candle(START_MS, 10.0, 12.0, 10.5, 11.0, 1.0), "low not the lowest"),
    ],
)
def test_each_fault_of_a_candle_is_named(candle: Candle, fault: str) -> None:
    assert fault in str(find_candle_fault(candle))


def test_good_candles_have_no_fault() -> None:
    assert find_candle_fault(Candle(START_MS, 10.0, 12.0, 9.0, 11.0, 0.0)) is None


def test_addresses_keep_their_paths_when_they_are_sent_elsewhere() -> None:
    addresses = {"public": "https://fapi.asterdex.com/fapi", "more": {"v1": "https://{hostname}/api/v1"}}
    moved = {"public": "http://127.0.0.1:1/fapi", "more": {"v1": "http://127.0.0.1:1/api/v1"}}
    assert rebase_urls(addresses, "http://127.0.0.1:1/") == moved
