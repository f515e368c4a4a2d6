"""Actors of one process, and servers they may reach."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from simulator.aster import aster_app
from simulator.groq import groq_app
from simulator.groq.quota import Limits
from simulator.market.candles import create_synthetic_series
from simulator.service import open_venue
from tests.actors.scene import MakeScene, Scene
from tests.support.clients.local_peers import LocalPeers
from tests.support.processes.directories import short_directory

Serve = Callable[..., str]


@pytest.fixture
def home() -> Iterator[Path]:
    """A state directory whose path is short enough for sockets."""
    with short_directory() as path:
        yield path


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def peers(home: Path) -> Iterator[LocalPeers]:  # whose home must outlive them
    local = LocalPeers()
    yield local
    local.stop()


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[HttpService] = []

    def start(app: object, health: str) -> str:
        service = HttpService(app, "127.0.0.1", 0, "SPARKY_TEST_PORT", health)
        service.start()
        started.append(service)
        return service.url

    yield start
    for service in started:
        service.stop(1)


@pytest.fixture
def aster_url(serve: Serve) -> str:
    """The three synthetic markets at 60 times the real speed."""
    return serve(aster_app.create_aster(open_venue(create_synthetic_series(seed=1), speed=60)), aster_app.HEALTH)


@pytest.fixture
def real_time_url(serve: Serve) -> str:
    """The same in real time: what was read stays fresh while a busy machine does other things."""
    return serve(aster_app.create_aster(open_venue(create_synthetic_series(seed=1), speed=1)), aster_app.HEALTH)


@pytest.fixture
def groq_url(serve: Serve) -> str:
    return serve(groq_app.create_groq(groq_app.Groq(Limits())), groq_app.HEALTH)


@pytest.fixture
def scene(
    peers: LocalPeers, store: Store, database_url: str, home: Path, real_time_url: str, groq_url: str
) -> Iterator[MakeScene]:
    def make_scene(groq: str | None = None, **changes: Any) -> Scene:
        values: dict[str, Any] = {
            "groq_api_key": "gsk_test",
            "groq_base_url": groq or groq_url,
            "database_url": database_url,
            "sparky_home": home,
            "sparky_market": "aster",
            "sparky_market_url": real_time_url,
            "sparky_llm_rpm": 10_000,
        }
        return Scene(peers, store, Settings.model_validate({**values, **changes}))

    yield make_scene
    peers.stop()  # before their database is dropped
