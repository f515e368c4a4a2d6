"""A venue over real HTTP: the simulator on a free port, its clock in the test's hands."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from eth_account import Account
from pydantic import SecretStr

from engine.platform.http.service import HttpService
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.market_data.client import MarketData
from simulator.aster import aster_app
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from simulator.venue.weight_meter import WeightMeter
from tests.support.factories.markets import START_MS, Hands, flat_then_rising
from tests.support.servers.simulated import Keys
from tests.support.servers.stage import Stage

Misbehave = Callable[..., None]
TIMEOUT_S: Final = 120.0  # of a request to the venue


def keys_of(number: int, **more: str) -> Keys:
    """A key pair that is the same in every run."""
    secret = f"{number:064x}"
    return Keys(private_key=SecretStr(secret), **{"signer_address": Account.from_key(secret).address, **more})


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    service = HttpService(stage, "127.0.0.1", 0, "SPARKY_TEST_PORT", aster_app.HEALTH)
    service.start()
    yield stage, service.url
    service.stop(1)


@pytest.fixture
def exchange(hands: Hands) -> SimulatedVenue:
    """BTCUSDT only; market time starts at minute 105 and goes on when the test moves `hands`."""
    series = flat_then_rising()
    clock = MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, hands)
    return SimulatedVenue({"BTCUSDT": Market(series)}, clock, meter=WeightMeter(monotonic=hands))


@pytest.fixture
def venue_url(stage: tuple[Stage, str], exchange: SimulatedVenue) -> str:
    """The venue of the `exchange` fixture."""
    stage[0].app = aster_app.create_aster(exchange)
    return stage[1]


@pytest.fixture
def market_data(venue_url: str, backoff: RequestWeightLimiter) -> Iterator[MarketData]:
    data = MarketData("aster", venue_url, TIMEOUT_S, backoff)
    yield data
    data.close()


@pytest.fixture
def backoff(hands: Hands) -> RequestWeightLimiter:
    """What this test's clients know of the venue's limits."""
    return RequestWeightLimiter(hands)


@pytest.fixture
def open_venue(venue_url: str, hands: Hands, backoff: RequestWeightLimiter) -> Iterator[Callable[..., CcxtVenue]]:
    """Accounts at the venue. What they wait passes in no time."""
    opened: list[CcxtVenue] = []

    def sleep(seconds: float) -> None:
        hands.now += seconds

    def open_one(keys: Keys | None = None, timeout_s: float = TIMEOUT_S) -> CcxtVenue:
        opened.append(CcxtVenue("aster", keys or keys_of(7), venue_url, timeout_s, sleep, backoff))
        return opened[-1]

    yield open_one
    for venue in opened:
        venue.close()


@pytest.fixture
def venue(open_venue: Callable[..., CcxtVenue]) -> CcxtVenue:
    """One account at the venue."""
    return open_venue()


@pytest.fixture
def misbehave(venue_url: str) -> Misbehave:
    """What the venue shall do wrong next; see `simulator.faults`."""

    def order(*faults: dict[str, object]) -> None:
        httpx.post(f"{venue_url}/_control/faults", json=faults, timeout=30).raise_for_status()

    return order


@pytest.fixture
def direct(venue_url: str) -> Callable[..., dict[str, Any]]:
    """What the market shall do next; see `simulator.control.market_control`."""

    def wish(**wishes: object) -> dict[str, Any]:
        answer = httpx.post(f"{venue_url}/_control/market", json=wishes, timeout=30)
        return dict(answer.raise_for_status().json())

    return wish


@pytest.fixture
def happens(venue_url: str) -> Callable[..., dict[str, Any]]:
    """What happens at the venue beside the account's API; see `simulator.control.account_control`."""

    def wish(**wishes: object) -> dict[str, Any]:
        answer = httpx.post(f"{venue_url}/_control/account", json=wishes, timeout=30)
        return dict(answer.raise_for_status().json())

    return wish


@pytest.fixture
def make_keys() -> Callable[..., Keys]:
    """Key pair number n, and whatever else the credentials shall say."""
    return keys_of
