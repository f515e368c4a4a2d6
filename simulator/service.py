"""The simulators as HTTP services, built from the settings."""

import time
from collections.abc import Mapping
from typing import Any, Final

from engine.platform.http.service import HttpService
from engine.platform.settings.component_settings import AsterSimulatorSettings, GroqSimulatorSettings
from simulator.market.candle_file import parse_symbol, read_candles
from simulator.market.candles import MINUTE_MS, Series, create_synthetic_series
from simulator.market.market import Market, MarketClock, find_start_ms
from simulator.market.market_time_file import MarketTimeFile
from simulator.venue.account_file import AccountFile
from simulator.venue.funding import FundingSchedule
from simulator.venue.venue import SimulatedVenue
from simulator.venue.weight_meter import WEIGHT_PER_MINUTE, WeightMeter

HOST: Final = "127.0.0.1"
YEAR_2200_MS: Final = 7_258_118_400_000  # a fast clock starts over before dates run out


class AsterService(HttpService):
    """Writes the market's time at each health check and when it stops."""

    def __init__(self, app: Any, port: int, health: str, clock: MarketClock, market_time_file: MarketTimeFile) -> None:
        super().__init__(app, HOST, port, "SPARKY_SIM_ASTER_PORT", health)
        self._clock = clock
        self._market_time_file = market_time_file

    def is_healthy(self) -> bool:
        self._market_time_file.write(self._clock.now_ms())
        return super().is_healthy()

    def stop(self, grace_s: float) -> None:
        self._market_time_file.write(self._clock.now_ms())
        super().stop(grace_s)


def make_groq(settings: GroqSimulatorSettings, argument: str) -> HttpService:  # noqa: ARG001 - every service is made this way
    """The stand-in for Groq, with the limits of the settings; large ones where they are unset."""
    from simulator.groq.groq_app import HEALTH, Groq, create_groq
    from simulator.groq.quota import Limits

    limits = Limits(
        rpm=settings.sparky_llm_rpm,
        rpd=settings.sparky_llm_rpd or Limits.rpd,
        tpm=settings.sparky_llm_tpm or Limits.tpm,
        tpd=settings.sparky_llm_tpd or Limits.tpd,
    )
    return HttpService(create_groq(Groq(limits)), HOST, settings.sparky_sim_groq_port, "SPARKY_SIM_GROQ_PORT", HEALTH)


def make_aster(settings: AsterSimulatorSettings, argument: str) -> HttpService:  # noqa: ARG001 - every service is made this way
    """The stand-in for Aster. Raises ConfigurationError if the candles cannot be used.

    Market time and accounts continue where the same market stopped in `sparky_home`; a file of candles that was played
    to its end starts over, with the accounts as they were.
    """
    # Here, because eth-account takes 20 MB of memory, which the simulated Groq does not need.
    from simulator.aster.aster_app import HEALTH, create_aster

    series = load_series(settings)
    path = settings.sparky_candles
    name = f"synthetic {settings.sparky_sim_seed}" if path is None else f"{path.name} {path.stat().st_size}"
    market_time_file = MarketTimeFile(settings.sparky_home / "simulated-market.json", name)
    account_file = AccountFile(settings.sparky_home / "simulated-accounts.jsonl", name)
    schedule = FundingSchedule(settings.sparky_home / "simulated-funding.json")
    venue = open_venue(series, settings.sparky_sim_speed, market_time_file.read(), account_file, schedule)
    return AsterService(create_aster(venue), settings.sparky_sim_aster_port, HEALTH, venue.clock, market_time_file)


def load_series(settings: AsterSimulatorSettings) -> Mapping[str, Series]:
    """Series by symbol: that of the file if one is set, else the three synthetic ones."""
    path = settings.sparky_candles
    return (
        create_synthetic_series(settings.sparky_sim_seed) if path is None else {parse_symbol(path): read_candles(path)}
    )


def open_venue(
    series: Mapping[str, Series],
    speed: float,
    left_at_ms: int | None = None,
    account_file: AccountFile | None = None,
    funding: FundingSchedule | None = None,
) -> SimulatedVenue:
    """A venue that trades `series`, its clock starting now.

    It starts at `left_at_ms` if that is in the series, else at the real time or, with a file, after its history. The
    limit of requests is per minute of market time.
    """
    first = next(iter(series.values()))
    now_ms = time.time_ns() // 1_000_000
    start_ms = find_start_ms(first, now_ms - now_ms % MINUTE_MS)
    if left_at_ms is not None and start_ms <= left_at_ms < (first.end_ms or YEAR_2200_MS):
        start_ms = left_at_ms
    clock = MarketClock(start_ms, speed, first.end_ms)
    meter = WeightMeter(round(WEIGHT_PER_MINUTE * max(1.0, speed)))
    return SimulatedVenue({symbol: Market(one) for symbol, one in series.items()}, clock, account_file, meter, funding)
