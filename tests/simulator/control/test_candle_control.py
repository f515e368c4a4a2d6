"""The simulated venue's candles can be as wrong as venues' candles are, and a market can stand still."""

from typing import Any

import httpx
import pytest

from simulator.aster.aster_app import create_aster
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.simulator.conftest import Serve
from tests.support.factories.markets import START_MS, Hands, flat_then_rising

MINUTE = 60_000
NOW_MS = START_MS + 150 * MINUTE


class Feed:
    """A venue whose clock stands until a test moves it, 150 minutes after its market began."""

    def __init__(self, serve: Serve) -> None:
        self.hands, series = Hands(), flat_then_rising()
        clock = MarketClock(NOW_MS, 1.0, series.end_ms, self.hands)
        self.url = serve(create_aster(SimulatedVenue({"BTCUSDT": Market(series)}, clock)))

    def direct(self, **wishes: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/_control/candles", json=wishes, timeout=30)
        return dict(answer.raise_for_status().json())

    def asked(self, path: str, **query: Any) -> Any:
        return (
            httpx.get(f"{self.url}/fapi/v3/{path}", params={"symbol": "BTCUSDT", **query}, timeout=30)
            .raise_for_status()
            .json()
        )

    def rows(self, interval: str = "1m", limit: int = 10) -> list[Any]:
        return list(self.asked("klines", interval=interval, limit=limit))

    def opens(self, **query: Any) -> list[float]:
        """How many candles before the forming one each row opens, oldest first."""
        return [(row[0] - NOW_MS) / MINUTE for row in self.rows(**query)]


@pytest.fixture
def feed(serve: Serve) -> Feed:
    return Feed(serve)


def test_missing_minutes_are_left_out_and_as_many_rows_are_told(feed: Feed) -> None:
    feed.direct(missing=[0, 3, 4])
    assert feed.opens() == [-12, -11, -10, -9, -8, -7, -6, -3, -2, 0]
    assert feed.opens(interval="15m", limit=2) == [-29, -14]
    httpx.delete(f"{feed.url}/_control/candles", timeout=30).raise_for_status()
    assert feed.opens() == list(range(-9, 1))


def test_candles_stop_for_good_if_told_so(feed: Feed) -> None:
    feed.direct(missing=[1], ongoing=True)
    assert feed.opens(limit=3) == [-5, -4, -3]
    feed.hands.now = 60.0
    assert feed.opens(limit=3) == [-5, -4, -3]


def test_a_candle_is_told_twice_whole_or_half(feed: Feed) -> None:
    feed.direct(repeated=[0], half_formed=[1], half_formed_last=[2])
    found = {round(at): [row for row in feed.rows() if row[0] == NOW_MS + at * MINUTE] for at in (-1, -2, -3)}
    assert [len(rows) for rows in found.values()] == [2, 2, 2]
    assert found[-1][0] == found[-1][1]
    assert [float(row[5]) for row in found[-2]] == [149 / 2, 149]
    assert [float(row[5]) for row in found[-3]] == [148, 74]


def test_rows_are_broken_shifted_quiet_and_out_of_order(feed: Feed) -> None:
    feed.direct(broken={0: "null", 1: "0", 2: "NaN", 3: "high_null", 4: "upside_down"}, shifted_ms={5: 7}, quiet=[6])
    rows = feed.rows()
    assert rows[-2][1:6] == [None] * 5
    assert [rows[-3][1], rows[-4][1], rows[-5][2]] == ["0", "NaN", None]
    assert float(rows[-6][2]) < float(rows[-6][3])
    assert rows[-7][0] == NOW_MS - 6 * MINUTE + 7
    assert (rows[-8][5], rows[-8][4]) == ("0", rows[-8][1])
    feed.direct(order="newest_first")
    assert [row[0] for row in feed.rows()] == [row[0] for row in reversed(rows)]
    feed.direct(order="mixed")
    assert sorted(row[0] for row in feed.rows()) == [row[0] for row in rows]


def test_delete_ends_a_halt_too(feed: Feed) -> None:
    feed.direct(halted=True)
    feed.hands.now = 120.0
    assert httpx.delete(f"{feed.url}/_control/candles", timeout=30).json()["halted"] == []
    feed.hands.now = 200.0
    assert feed.asked("ticker/24hr")["closeTime"] == NOW_MS + 200_000


def test_a_halted_market_stands_still_with_its_ticker_and_goes_on_where_the_price_is(feed: Feed) -> None:
    feed.hands.now = 20.0
    feed.direct(halted=True)
    before = feed.asked("ticker/24hr")
    feed.hands.now = 20.0 + 5 * 60
    assert feed.asked("ticker/24hr") == before
    assert before["closeTime"] == NOW_MS + 20_000
    assert feed.opens(limit=2) == [-1, 0]
    feed.hands.now = 6 * 60 + 30.0
    feed.direct(halted=False)
    feed.hands.now = 7 * 60 + 1.0
    rows = feed.rows(limit=4)
    assert [(row[0] - NOW_MS) / MINUTE for row in rows] == [-1, 0, 6, 7]
    cut, resumed = rows[1], rows[2]
    assert cut[4] == before["lastPrice"] == resumed[1]
    assert float(resumed[4]) == 28_000 + 100 * 47
    assert float(feed.asked("ticker/24hr")["lastPrice"]) == pytest.approx(32_700, abs=5)


def test_what_no_market_can_do_is_refused(feed: Feed) -> None:
    for wish in ({"symbol": "NOSUCHUSDT"}, {"interval": "7m"}, {"surprise": 1}):
        assert httpx.post(f"{feed.url}/_control/candles", json=wish, timeout=30).status_code == 400
