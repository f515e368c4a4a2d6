"""The simulated venues as tests need them: how each is started, who may trade there, and where its orders live."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.aster import aster_app
from simulator.binance import binance_app
from simulator.binance.algo_orders import get_plain_order_id
from simulator.binance.binance_auth import KEYS
from simulator.venue.trading_account import Order
from simulator.venue.venue import SimulatedVenue
from tests.support.factories.keys import aster_keys


class Keys(Frozen):
    """Credentials as the store hands them out."""

    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    user_address: str | None = None
    signer_address: str | None = None
    private_key: SecretStr | None = None


@dataclass(frozen=True)
class Simulated:
    """One simulated venue. `stop_path` ends the path at which conditional orders are placed, `order_path` the others'.

    `keys` are as `Store.put_credentials` takes them; `order_number` is the id that a fill of an order shows.
    """

    name: str
    app: Callable[[SimulatedVenue], ASGIApp]
    health: str
    order_path: str
    stop_path: str
    keys: Mapping[str, SecretStr]
    order_number: Callable[[Order], int]

    def credentials(self) -> Keys:
        """As the store hands them out."""
        return Keys.model_validate({name: secret.get_secret_value() for name, secret in self.keys.items()})


def binance_keys() -> dict[str, SecretStr]:
    """Of the first account of the simulated Binance."""
    api_key, known = next(iter(KEYS.items()))
    return {"api_key": SecretStr(api_key), "api_secret": SecretStr(known.secret)}


ASTER: Final = Simulated(
    name="aster",
    app=aster_app.create_aster,
    health=aster_app.HEALTH,
    order_path="/fapi/v3/order",
    stop_path="/fapi/v3/order",
    keys=aster_keys(),
    order_number=lambda order: order.order_id,
)
BINANCE: Final = Simulated(
    name="binance",
    app=binance_app.create_binance,
    health=binance_app.HEALTH,
    order_path="/fapi/v1/order",
    stop_path="/fapi/v1/algoOrder",
    keys=binance_keys(),
    order_number=get_plain_order_id,
)
VENUES: Final = {venue.name: venue for venue in (ASTER, BINANCE)}
