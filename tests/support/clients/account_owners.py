"""People with an account at the simulated venue of a running product, their strategies, and the signals of those."""

import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import requests

from engine.admin.demo_data import generate_webhook_secret
from engine.store.store import Store
from engine.venues.live.ccxt_venue import CcxtVenue
from tests.support.clients.trading import silent
from tests.support.factories.keys import aster_keys
from tests.support.processes.sparky import PATIENCE_S, Sparky


@dataclass(frozen=True)
class Person:
    """Somebody with an account, which the venue calls `address`; strategies are long and short by turns."""

    user_id: UUID
    secret: str
    address: str
    venue: CcxtVenue
    strategies: tuple[UUID, ...]

    def send(self, product: Sparky, strategy_id: UUID, **fields: Any) -> dict[str, Any]:
        """The last answer to a live signal, which is sent again while the server asks for that."""
        body = {"secret": self.secret, "user_id": str(self.user_id), "exchange": "aster", "environment": "production",
                "strategy_id": str(strategy_id), "signal_id": uuid.uuid4().hex} | fields  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(requests.ConnectionError):  # it was killed, and is started again
                answer = requests.post(f"{product.url('webhook')}/webhook", json=body, timeout=PATIENCE_S)
                if answer.status_code != 503 or time.monotonic() > deadline:
                    told: dict[str, Any] = answer.json()
                    return told
            assert time.monotonic() < deadline, "no server answers"
            time.sleep(0.5)


@contextmanager
def person(product: Sparky, store: Store, private_key: str, count: int) -> Iterator[Person]:
    keys, secret = aster_keys(private_key), generate_webhook_secret()
    user_id = store.ensure_user(f"{private_key[-6:]}@example.org")
    store.set_webhook_secret(user_id, secret)
    store.put_credentials(user_id, "aster", keys)
    credentials, address = (
        store.get_venue_credentials(user_id, "aster"),
        keys["user_address"].get_secret_value().lower(),
    )
    assert credentials is not None
    made = tuple(silent(store, user_id, f"{address[:6]}-{number}", is_paper=False) for number in range(count))
    with closing(CcxtVenue("aster", credentials, product.url("sim_aster"))) as venue:
        venue.fetch_balance()  # the account is opened on first sight
        yield Person(user_id, secret.get_secret_value(), address, venue, made)
