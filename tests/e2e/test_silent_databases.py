"""A database whose packets are swallowed: connections are made, and no byte ever comes back."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests
from pydantic import SecretStr

from engine.platform.settings.settings import Settings
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.support.processes.crowding import slowed
from tests.support.servers.ports import free_port
from webhook_server import service

__all__ = ["home", "own_logging", "sparky"]


class Silent:
    """Takes every connection and says nothing; `connections` counts them."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.held: list[socket.socket] = []
        self.url = f"postgresql://me@127.0.0.1:{self.listener.getsockname()[1]}/nothing"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self.held.append(self.listener.accept()[0])

    def close(self) -> None:
        self.listener.close()
        for each in self.held:
            each.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


def test_status_asks_a_database_that_does_not_answer_once(sparky: Sparky, silent: Silent) -> None:
    sparky.environment["DATABASE_URL"] = silent.url
    began = time.monotonic()
    view = json.loads(sparky("status", "--json").stdout)
    assert view["database"] != "ok"
    assert (view["strategies"], view["kill_switches"], view["unattended"]) == (None, None, None)
    assert len(silent.held) == 1
    assert time.monotonic() - began < slowed(9)  # by far less than what a call may take elsewhere


def test_the_webhook_servers_health_is_told_soon_whatever_the_database_does(silent: Silent) -> None:
    settings = Settings(database_url=SecretStr(silent.url), sparky_market="aster", sparky_webhook_port=free_port())
    served = service.make(settings, "")
    served.start()
    try:
        answer = requests.get(f"{served.url}/health", timeout=slowed(9))
    finally:
        served.stop(1.0)
    assert (answer.status_code, answer.json()["apiStatus"]) == (503, "database unavailable")
