"""Both simulators on free ports, over real HTTP, in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.http.service import HttpService
from simulator.aster import aster_app
from simulator.groq import groq_app
from simulator.groq.quota import Limits
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.simulator.account_owner import Person
from tests.support.factories.markets import START_MS, Hands, flat_then_rising

Serve = Callable[[ASGIApp], str]


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def exchange(hands: Hands) -> SimulatedVenue:
    """BTCUSDT that stands at 28,000 and, from minute 110 on, rises by 100 a minute; the test moves the clock."""
    series = flat_then_rising()
    return SimulatedVenue(
        {"BTCUSDT": Market(series)}, MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, hands)
    )


class Stage:
    """One server for all tests, as a server takes a fifth of a second to stop; each test brings its own application."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    service = HttpService(stage, "127.0.0.1", 0, "SPARKY_TEST_PORT", "/")
    service.start()
    yield stage, service.url
    service.stop(1)


@pytest.fixture
def serve(stage: tuple[Stage, str]) -> Serve:
    """Puts an application on the server; returns the server's address."""

    def put(app: ASGIApp) -> str:
        stage[0].app = app
        return stage[1]

    return put


@pytest.fixture
def aster_url(serve: Serve, exchange: SimulatedVenue) -> str:
    """The venue of the `exchange` fixture."""
    return serve(aster_app.create_aster(exchange))


@pytest.fixture
def person(aster_url: str) -> Person:
    return Person(aster_url)


@pytest.fixture
def groq_url(serve: Serve) -> str:
    return serve(groq_app.create_groq(groq_app.Groq(Limits()), api_key="right-key"))


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
