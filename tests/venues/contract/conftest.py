"""Every test of this directory runs at each simulated venue: what passes here at a venue may be traded there live."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx
import pytest

from engine.domain.positions import Side
from engine.platform.http.service import HttpService
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import PROTECTIVE_LETTERS, OrderRequest, OrderStatus, Protection, build_client_order_id
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from simulator.venue.weight_meter import WeightMeter
from tests.support.factories.markets import START_MS, Hands, flat_then_rising
from tests.support.servers.simulated import VENUES, Simulated
from tests.support.servers.stage import Stage

TIMEOUT_S: Final = 120.0  # of a request to the venue
STOP, TARGET = (build_client_order_id("1", letter) for letter in PROTECTIVE_LETTERS)


@dataclass
class Bench:
    """An account at a simulated venue, where BTCUSDT stands at 28,000 until the test moves it. What the account waits
    passes in no time."""

    venue: CcxtVenue
    simulated: Simulated
    exchange: SimulatedVenue
    url: str
    hands: Hands = field(repr=False)
    backoff: RequestWeightLimiter = field(repr=False)

    def another(self, timeout_s: float = TIMEOUT_S) -> CcxtVenue:
        """The same account in another process."""
        return CcxtVenue(
            self.simulated.name,
            self.simulated.credentials(),
            self.url,
            timeout_s,
            self.sleep,
            RequestWeightLimiter(self.hands),
        )

    def sleep(self, seconds: float) -> None:
        self.hands.now += seconds

    def misbehave(self, *faults: dict[str, Any]) -> None:
        """What the venue shall do wrong; see `simulator.faults`."""
        httpx.post(f"{self.url}/_control/faults", json=list(faults), timeout=30).raise_for_status()

    def direct(self, **wishes: Any) -> dict[str, Any]:
        """What the market shall do; see `simulator.control.market_control`."""
        answer = httpx.post(f"{self.url}/_control/market", json=wishes, timeout=30)
        return dict(answer.raise_for_status().json())

    def direct_algo(self, **wishes: Any) -> None:
        """What the algo service of a simulated Binance shall do; see `simulator.binance.algo_control`."""
        httpx.post(f"{self.url}/_control/algo", json=wishes, timeout=30).raise_for_status()

    def buy(self, name: str = "entry", quantity: str = "0.01", *, is_buy: bool = True) -> None:
        assert self.venue.place_market_order(order(name, quantity, is_buy=is_buy)).status is OrderStatus.FILLED

    def names(self) -> list[str | None]:
        return [each.client_order_id for each in self.venue.fetch_open_orders("BTCUSDT")]

    def stops(self) -> list[str]:
        """Client ids of the conditional orders that really wait at the venue, whatever it answers."""
        (account,) = self.exchange._accounts.values()
        return [each.client_order_id for each in account.open_orders() if each.stop_price]

    def net(self) -> Decimal:
        return next((held.net for held in self.venue.fetch_positions()), Decimal(0))

    def number_of(self, client_id: str) -> str:
        """The id that the venue's fill of that order shows."""
        (account,) = self.exchange._accounts.values()
        (fill,) = [each for each in account.fills if each.order.client_order_id == client_id]
        return str(self.simulated.order_number(fill.order))


def order(name: str = "1", quantity: str = "0.01", **more: Any) -> OrderRequest:
    given = {"symbol": "BTCUSDT", "is_buy": True, "leverage": None, **more}
    return OrderRequest(client_order_id=build_client_order_id(name), quantity=Decimal(quantity), **given)


def wanted(**more: Any) -> Protection:
    """Of a long of 0.01 BTC: a stop at 27,000 and a target at 28,250."""
    given = {
        "signal_id": "1",
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "quantity": Decimal("0.01"),
        "stop_loss_price": Decimal(27_000),
        "take_profit_price": Decimal(28_250),
    }
    return Protection(**(given | more))


@pytest.fixture(params=sorted(VENUES))
def simulated(request: pytest.FixtureRequest) -> Simulated:
    return VENUES[request.param]


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    service = HttpService(stage, "127.0.0.1", 0, "SPARKY_TEST_PORT", "/")
    service.start()
    yield stage, service.url
    service.stop(1)


@pytest.fixture
def bench(simulated: Simulated, stage: tuple[Stage, str]) -> Iterator[Bench]:
    hands, series = Hands(), flat_then_rising()
    clock = MarketClock(START_MS + 105 * MINUTE_MS, 1.0, series.end_ms, hands)
    exchange = SimulatedVenue({"BTCUSDT": Market(series)}, clock, meter=WeightMeter(monotonic=hands))
    stage[0].app = simulated.app(exchange)

    def sleep(seconds: float) -> None:
        hands.now += seconds

    backoff = RequestWeightLimiter(hands)
    venue = CcxtVenue(simulated.name, simulated.credentials(), stage[1], TIMEOUT_S, sleep, backoff)
    yield Bench(venue, simulated, exchange, stage[1], hands, backoff)
    venue.close()


@pytest.fixture
def long(bench: Bench) -> Bench:
    """An account that holds 0.01 BTC, bought at 28,001.4."""
    bench.buy()
    return bench
