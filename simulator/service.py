"""The simulators as services of the host: built from the settings, started, watched and stopped like any other."""

import time
from collections.abc import Mapping

from engine.serving import HttpService
from engine.settings import Settings
from simulator import aster, groq
from simulator.candle_file import read_candles, symbol_of
from simulator.candles import MINUTE_MS, Series, synthetic
from simulator.exchange import Exchange
from simulator.market import Market, MarketClock, start_of
from simulator.quota import Limits

HOST = "127.0.0.1"


def make_groq(settings: Settings, argument: str) -> HttpService:  # noqa: ARG001 - every service is made this way
    """The stand-in for Groq, with the limits that the product's own limiter was told; none told means plenty."""
    limits = Limits(
        rpm=settings.sparky_llm_rpm,
        rpd=settings.sparky_llm_rpd or Limits.rpd,
        tpm=settings.sparky_llm_tpm or Limits.tpm,
    )
    app = groq.create_groq(groq.Groq(limits))
    return HttpService(app, HOST, settings.sparky_sim_groq_port, "SPARKY_SIM_GROQ_PORT", groq.HEALTH)


def make_aster(settings: Settings, argument: str) -> HttpService:  # noqa: ARG001 - every service is made this way
    """The stand-in for Aster. Raises BadConfiguration when the candles cannot be used."""
    app = aster.create_aster(open_exchange(series_of(settings), settings.sparky_sim_speed))
    return HttpService(app, HOST, settings.sparky_sim_aster_port, "SPARKY_SIM_ASTER_PORT", aster.HEALTH)


def series_of(settings: Settings) -> Mapping[str, Series]:
    """The file's symbol alone when candles are named, else the three synthetic ones."""
    path = settings.sparky_candles
    return synthetic(settings.sparky_sim_seed) if path is None else {symbol_of(path): read_candles(path)}


def open_exchange(series: Mapping[str, Series], speed: float) -> Exchange:
    """A venue that trades `series`, its clock starting now: at the real time, or in a file after its history."""
    first = next(iter(series.values()))
    now_ms = time.time_ns() // 1_000_000
    start_ms = start_of(first, now_ms - now_ms % MINUTE_MS)
    clock = MarketClock(start_ms, speed, first.end_ms)
    return Exchange({symbol: Market(one) for symbol, one in series.items()}, clock)
