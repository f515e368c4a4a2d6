"""Any Groq-compatible endpoint and any address of the venue go through the same code: only the settings differ."""

from collections.abc import Iterator

import pytest

from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from simulator.service import make_aster, make_groq
from tests.e2e.conftest import SparkyMaker
from tests.support.processes.directories import short_directory
from tests.support.processes.sparky import Sparky
from tests.support.servers.ports import free_ports


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, str]]:
    """The addresses of a model and a venue that Sparky has not started."""
    groq_port, aster_port = free_ports(2)
    with short_directory() as home:
        settings = Settings(sparky_home=home, sparky_sim_groq_port=groq_port, sparky_sim_aster_port=aster_port)
        services: list[HttpService] = [make_groq(settings, ""), make_aster(settings, "")]
        for service in services:
            service.start()
        yield f"http://127.0.0.1:{groq_port}", f"http://127.0.0.1:{aster_port}"
        for service in services:
            service.stop(5.0)


def has_booked(sparky: Sparky) -> bool:
    with sparky.store() as store:
        return len(store.list_open_positions()) + len(store.list_trades(limit=1)) > 0


def test_a_named_model_and_venue_are_used_and_no_simulator_is_started(
    sparky_at: SparkyMaker, elsewhere: tuple[str, str]
) -> None:
    model, venue = elsewhere
    sparky = sparky_at(
        GROQ_API_KEY="gsk_of_somebody", GROQ_BASE_URL=model, SPARKY_MARKET="aster", SPARKY_MARKET_URL=venue
    )
    sparky.start()
    sparky.wait_for(lambda: has_booked(sparky), "a booked fill")
    children = {row["name"] for row in sparky.json("status")["shared"]}
    assert "webhook" in children
    assert not children & {"sim-groq", "sim-aster"}
    assert sparky.press_ctrl_c() == 0
    assert "gsk_of_somebody" not in sparky.log()
