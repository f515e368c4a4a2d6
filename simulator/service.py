"""The simulators as services of the host: built from the settings, started, watched and stopped like any other."""

import time
from collections.abc import Mapping
from typing import Any, Final

from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from simulator.aster.request_weights import WEIGHT_PER_MINUTE, Meter
from simulator.market.candle_file import read_candles, symbol_of
from simulator.market.candles import MINUTE_MS, Series, synthetic
from simulator.market.market import Market, MarketClock, start_of
from simulator.market.market_time_file import Bookmark
from simulator.venue.account_file import AccountBook
from simulator.venue.funding import FundingSchedule
from simulator.venue.venue import Exchange

HOST: Final = "127.0.0.1"
ASTER_HEALTH: Final = "/fapi/v3/exchangeInfo"
LATEST_MS: Final = 7_258_118_400_000  # the year 2200: a fast clock starts over long before dates run out


class AsterService(HttpService):
    """Remembers the market's time whenever it is looked at, and when it stops; accounts as they change."""

    def __init__(self, app: Any, port: int, clock: MarketClock, bookmark: Bookmark) -> None:
        super().__init__(app, HOST, port, "SPARKY_SIM_ASTER_PORT", ASTER_HEALTH)
        self._clock = clock
        self._bookmark = bookmark

    def healthy(self) -> bool:
        self._bookmark.write(self._clock.now_ms())
        return super().healthy()

    def stop(self, grace_s: float) -> None:
        self._bookmark.write(self._clock.now_ms())
        super().stop(grace_s)


def make_groq(settings: Settings, argument: str) -> HttpService:  # noqa: ARG001 - every service is made this way
    """The stand-in for Groq, with the limits that the product's own limiter was told; none told means plenty."""
    from simulator.groq.groq_app import HEALTH, Groq, create_groq
    from simulator.groq.quota import Limits

    limits = Limits(
        rpm=settings.sparky_llm_rpm,
        rpd=settings.sparky_llm_rpd or Limits.rpd,
        tpm=settings.sparky_llm_tpm or Limits.tpm,
        tpd=settings.sparky_llm_tpd or Limits.tpd,
    )
    return HttpService(create_groq(Groq(limits)), HOST, settings.sparky_sim_groq_port, "SPARKY_SIM_GROQ_PORT", HEALTH)


def make_aster(settings: Settings, argument: str) -> HttpService:  # noqa: ARG001 - every service is made this way
    """The stand-in for Aster. Raises BadConfiguration when the candles cannot be used.

    Market time and accounts go on from where the same market was left in `sparky_home`; a file that was played to its
    end starts over, with the accounts as they were.
    """
    from simulator.aster.aster_app import (
        create_aster,  # eth-account weighs 20 MB, which the other simulator does not need
    )

    series = series_of(settings)
    path = settings.sparky_candles
    name = f"synthetic {settings.sparky_sim_seed}" if path is None else f"{path.name} {path.stat().st_size}"
    bookmark = Bookmark(settings.sparky_home / "simulated-market.json", name)
    book = AccountBook(settings.sparky_home / "simulated-accounts.jsonl", name)
    schedule = FundingSchedule(settings.sparky_home / "simulated-funding.json")
    exchange = open_exchange(series, settings.sparky_sim_speed, bookmark.read(), book, schedule)
    return AsterService(create_aster(exchange), settings.sparky_sim_aster_port, exchange.clock, bookmark)


def series_of(settings: Settings) -> Mapping[str, Series]:
    """The file's symbol alone when candles are named, else the three synthetic ones."""
    path = settings.sparky_candles
    return synthetic(settings.sparky_sim_seed) if path is None else {symbol_of(path): read_candles(path)}


def open_exchange(
    series: Mapping[str, Series],
    speed: float,
    left_at_ms: int | None = None,
    book: AccountBook | None = None,
    funding: FundingSchedule | None = None,
) -> Exchange:
    """A venue that trades `series`, its clock starting now.

    It starts where it was left, else at the real time or, in a file, after its history. A faster market may be asked as
    often within each of its minutes.
    """
    first = next(iter(series.values()))
    now_ms = time.time_ns() // 1_000_000
    start_ms = start_of(first, now_ms - now_ms % MINUTE_MS)
    if left_at_ms is not None and start_ms <= left_at_ms < (first.end_ms or LATEST_MS):
        start_ms = left_at_ms
    clock = MarketClock(start_ms, speed, first.end_ms)
    meter = Meter(round(WEIGHT_PER_MINUTE * max(1.0, speed)))
    return Exchange({symbol: Market(one) for symbol, one in series.items()}, clock, book, meter, funding)
