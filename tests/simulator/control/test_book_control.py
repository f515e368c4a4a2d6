"""How a simulated market quotes when it is told to: spread, thin, empty and crossed books, times, mark price."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.venue.venue import SimulatedVenue

Told = Callable[..., Any]


@pytest.fixture
def quoted(aster_url: str) -> Callable[..., httpx.Response]:
    def wish(**wishes: object) -> httpx.Response:
        return httpx.post(f"{aster_url}/_control/book", json=wishes, timeout=30)

    return wish


@pytest.fixture
def public(aster_url: str) -> Told:
    def ask(path: str, **query: str | int) -> Any:
        query = {"symbol": "BTCUSDT", **query}
        return httpx.get(f"{aster_url}/fapi/v3{path}", params=query, timeout=30).json()

    return ask


def test_a_spread_is_as_wide_as_it_is_told_to_be(quoted: Told, public: Told) -> None:
    quoted(spread_percent=8)
    book = public("/depth", limit=5)
    bid, ask = float(book["bids"][0][0]), float(book["asks"][0][0])
    assert ask / bid == pytest.approx(1.08, abs=1e-4)
    ticker = public("/ticker/bookTicker")
    assert (float(ticker["bidPrice"]), float(ticker["askPrice"])) == (bid, ask)


def test_a_thin_book_has_its_levels_its_quantities_and_an_end(quoted: Told, public: Told) -> None:
    quoted(level_quantity="0.01", level_step_percent=0.5, max_levels=3)
    asks = public("/depth", limit=50)["asks"]
    assert [quantity for _, quantity in asks] == ["0.01"] * 3
    assert float(asks[2][0]) / float(asks[0][0]) == pytest.approx(1.01, abs=1e-4)


def test_sides_can_be_empty_and_a_book_crossed(quoted: Told, public: Told) -> None:
    quoted(empty_side="asks")
    assert (len(public("/depth", limit=5)["asks"]), len(public("/depth", limit=5)["bids"])) == (0, 5)
    assert float(public("/ticker/bookTicker")["askPrice"]) == 0
    quoted(reset=True, spread_percent=-1)
    book = public("/depth", limit=5)
    assert float(book["bids"][0][0]) > float(book["asks"][0][0])


def test_times_and_mark_price_go_their_own_ways(quoted: Told, public: Told, exchange: SimulatedVenue) -> None:
    now_ms = exchange.clock.now_ms()
    quoted(book_age_s=60, mark_age_s=-5, mark_percent=5, ticker_percent=-10)
    assert (public("/depth")["E"], public("/depth")["T"]) == (now_ms - 60_000, now_ms - 60_000)
    mark = public("/premiumIndex")
    assert (mark["time"], float(mark["markPrice"])) == (now_ms + 5_000, 29_400.0)
    assert float(public("/ticker/24hr")["lastPrice"]) == 25_200.0
    quoted(times_hidden=True, mark_hidden=True)
    assert "T" not in public("/depth")
    assert public("/premiumIndex")["markPrice"] == ""


def test_a_symbol_that_is_not_listed_and_a_wish_that_is_none_are_refused(quoted: Told) -> None:
    assert quoted(symbol="NONEUSDT", spread_percent=1).status_code == 400
    assert quoted(spread_percent="wide").status_code == 400
