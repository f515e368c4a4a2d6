"""The keys of an account are read and decrypted once for each request."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.factories.keys import vault
from tests.webhook_server.conftest import Site


class CountingRpc(PostgresRpc):
    """The real transport; `calls` counts what was asked of the database, by function."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, keep=True)
        self.calls = Counter[str]()

    def call(self, function: str, /, **arguments: object) -> Any:
        self.calls[function] += 1
        return super().call(function, **arguments)


@pytest.fixture
def rpc(database_url: str) -> CountingRpc:
    return CountingRpc(database_url)


@pytest.fixture
def store(rpc: CountingRpc) -> Iterator[Store]:
    with Store(rpc, vault()) as opened:
        yield opened


@pytest.mark.parametrize("action", ["BUY", "SELL", "CLOSE"])
def test_a_live_request_reads_them_once(site: Site, rpc: CountingRpc, action: str) -> None:
    """An addition, a reversal and an exit of a position that has a stop."""
    site.credentials()
    first = site.sender.post(environment="production", stop_loss_percent=2).json()
    rpc.calls.clear()
    answer = site.sender.post(environment="production", action=action).json()
    assert (first["action"], answer["success"]) == ("opened", True)
    assert rpc.calls["venue_credentials"] == 1


def test_keys_that_were_changed_are_read_by_the_next_request(site: Site, rpc: CountingRpc) -> None:
    site.credentials()
    assert site.sender.post(environment="production").json()["action"] == "opened"
    site.sql("delete from bot_credentials where exchange = 'aster'")
    assert site.sender.post(environment="production").status_code == 400
