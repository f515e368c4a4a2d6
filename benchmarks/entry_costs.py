"""What judging the costs of an entry takes: weight at the venue, and milliseconds.

    .venv/bin/python -m benchmarks.entry_costs [--times 300] [--small]

At simulated venues on this host, through ccxt and HTTP: what an entry asks now (clock, order book, mark price), what it
asked before there were these limits (24 h ticker, order book), and the judgement alone. A real venue adds its distance
once for each request.
"""

import argparse
import time
from collections.abc import Callable
from decimal import Decimal
from statistics import quantiles

from starlette.types import ASGIApp

from engine.platform.http.service import HttpService
from engine.risk.entry_costs import CostLimits, check_book, check_slippage
from engine.venues.market_data.client import MarketData
from engine.venues.order_book import DEEP_LEVELS
from simulator.aster.aster_app import create_aster
from simulator.binance.binance_app import create_binance
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.markets import START_MS, flat_then_rising

SYMBOL = "BTCUSDT"
CREATE_VENUE: dict[str, Callable[[SimulatedVenue], ASGIApp]] = {"aster": create_aster, "binance": create_binance}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--small", action="store_true", help="three times, to see that it runs")
    given = parser.parse_args(arguments)
    times = 3 if given.small else given.times
    print(f"| {'venue':<8} | {'measure':<34} | {'weight':>6} | {'p50 ms':>8} | {'p99 ms':>8} |")
    print(f"|{'-' * 10}|{'-' * 36}|{'-' * 8}|{'-' * 10}|{'-' * 10}|")
    for name in CREATE_VENUE:
        _measure(name, times)


def _measure(name: str, times: int) -> None:
    series = flat_then_rising()
    exchange = SimulatedVenue({SYMBOL: Market(series)}, MarketClock(START_MS, 1.0, series.end_ms))
    exchange.meter.limit = 10**9
    service = HttpService(CREATE_VENUE[name](exchange), "127.0.0.1", 0, "SPARKY_TEST_PORT", "/")
    service.start()
    data = MarketData(name, service.url)
    book, limits, quantity = data.fetch_entry_book(SYMBOL), CostLimits(), Decimal("0.01")

    def check_costs() -> None:
        assert check_book(book, limits) is None
        assert check_slippage(book, quantity, limits, is_buy=True) is None

    measures: dict[str, Callable[[], object]] = {
        "before: ticker and order book": lambda: data.fetch_quote(SYMBOL),
        "now: clock, order book, mark price": lambda: data.fetch_entry_book(SYMBOL),
        f"now, with {DEEP_LEVELS} levels": lambda: data.fetch_entry_book(SYMBOL, DEEP_LEVELS),
        "the judgement alone": check_costs,
    }
    for measure, ask in measures.items():
        used, taken = exchange.meter.used, [_time_ms(ask) for _ in range(times)]
        weight = (exchange.meter.used - used) / times
        cuts = quantiles(taken, n=100)
        print(f"| {name:<8} | {measure:<34} | {weight:>6.1f} | {cuts[49]:>8.2f} | {cuts[98]:>8.2f} |")
    data.close()
    service.stop(1)


def _time_ms(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1_000


if __name__ == "__main__":
    main()
