"""Both simulators on free ports, over real HTTP, in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from engine.serving import HttpService
from engine.types import Candle
from simulator import aster, groq
from simulator.candles import MINUTE_MS, FileSeries, synthetic
from simulator.exchange import Exchange
from simulator.market import Market, MarketClock
from simulator.quota import Limits
from simulator.service import open_exchange

Serve = Callable[..., HttpService]
START_MS = 1_700_000_040_000


class Hands:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def exchange(hands: Hands) -> Exchange:
    """BTCUSDT that stands at 28,000 and, from minute 110 on, rises by 100 a minute; the test moves the clock."""
    prices = [28_000.0] * 110 + [28_000.0 + 100 * step for step in range(1, 91)]
    before = [28_000.0, *prices]
    candles = [
        Candle(START_MS + index * MINUTE_MS, opened, max(opened, close), min(opened, close), close, 1.0)
        for index, (opened, close) in enumerate(zip(before, prices, strict=False))
    ]
    series = FileSeries(candles, decimals=1)
    return Exchange({"BTCUSDT": Market(series)}, MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, hands))


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[HttpService] = []

    def start(app: object, health: str) -> HttpService:
        service = HttpService(app, "127.0.0.1", 0, "SPARKY_TEST_PORT", health)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop(1)


@pytest.fixture
def aster_url(serve: Serve, exchange: Exchange) -> str:
    """The venue of the `exchange` fixture."""
    return serve(aster.create_aster(exchange), aster.HEALTH).url


@pytest.fixture
def synthetic_url(serve: Serve) -> str:
    """The three synthetic markets at 60 times the real speed."""
    return serve(aster.create_aster(open_exchange(synthetic(seed=1), speed=60)), aster.HEALTH).url


@pytest.fixture
def groq_url(serve: Serve) -> str:
    return serve(groq.create_groq(groq.Groq(Limits()), api_key="right-key"), groq.HEALTH).url


@pytest.fixture
def misbehave() -> Callable[..., None]:
    """Orders a simulator to misbehave: `misbehave(url, {"kind": "hang"}, ...)`."""

    def order(url: str, *faults: dict[str, object]) -> None:
        httpx.post(f"{url}/_control/faults", json=faults, timeout=30).raise_for_status()

    return order


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "BTCUSDT-1m-test.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
