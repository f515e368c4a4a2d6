"""The simulators as the host starts them: from settings, and with one sentence when they cannot run."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings
from simulator.market.candles import MINUTE_MS
from simulator.market.market_time_file import MarketTimeFile
from simulator.service import make_aster, make_groq
from tests.support.processes.directories import short_directory
from tests.support.servers.ports import free_port

START_MS = 1_677_628_800_000


@pytest.fixture
def home() -> Iterator[Path]:
    """A state directory with a short name, as sockets live below it."""
    with short_directory() as path:
        yield path


def test_both_start_from_settings_and_are_healthy_until_they_stop(home: Path) -> None:
    settings = Settings(sparky_home=home, sparky_sim_groq_port=free_port(), sparky_sim_aster_port=free_port())
    services = [make_groq(settings, ""), make_aster(settings, "")]
    for service in services:
        service.start()
    # A busy machine may keep it from an answer within the limit of one look, not of all.
    assert all(any(service.is_healthy() for _ in range(30)) for service in services)
    info = httpx.get(f"{services[1].url}/fapi/v3/exchangeInfo", timeout=30).json()
    assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    for service in services:
        service.stop(2)
    assert [service.is_healthy() for service in services] == [False, False]


def test_a_taken_port_names_the_port_and_the_setting(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for make, name in ((make_groq, "SPARKY_SIM_GROQ_PORT"), (make_aster, "SPARKY_SIM_ASTER_PORT")):
            settings = Settings(sparky_home=home, sparky_sim_groq_port=port, sparky_sim_aster_port=port)
            service = make(settings, "")
            with pytest.raises(ConfigurationError, match=f"Port {port} .*{name}"):
                service.start()


@pytest.fixture
def candles(write_csv: Callable[..., Path]) -> Path:
    rows = [f"{START_MS + index * MINUTE_MS},10,12,9,11,1" for index in range(120)]
    return write_csv("open_time_ms,open,high,low,close,volume\n" + "\n".join(rows), "SOLUSDT-1m.csv")


def market_time(settings: Settings) -> int:
    """Starts the venue, asks for its time, and stops it."""
    service = make_aster(settings, "")
    service.start()
    info = httpx.get(f"{service.url}/fapi/v3/exchangeInfo", timeout=30).json()
    service.stop(2)
    if settings.sparky_candles is not None:
        assert [row["symbol"] for row in info["symbols"]] == ["SOLUSDT"]
    return int(info["serverTime"])


def test_candles_from_a_file_are_its_symbol_alone(home: Path, candles: Path) -> None:
    settings = Settings(sparky_home=home, sparky_candles=candles, sparky_sim_aster_port=free_port())
    assert START_MS + 100 * MINUTE_MS <= market_time(settings) <= START_MS + 120 * MINUTE_MS


def test_a_market_goes_on_where_it_was_left(home: Path, candles: Path) -> None:
    port = free_port()
    slow = Settings(sparky_home=home, sparky_candles=candles, sparky_sim_aster_port=port, sparky_sim_speed=0.001)
    (home / "simulated-market.json").write_text(
        json.dumps({"series": f"{candles.name} {candles.stat().st_size}", "market_ms": START_MS + 110 * MINUTE_MS})
    )
    assert START_MS + 110 * MINUTE_MS <= market_time(slow) < START_MS + 111 * MINUTE_MS
    assert START_MS + 110 * MINUTE_MS <= market_time(slow) < START_MS + 111 * MINUTE_MS
    synthetic = Settings(sparky_home=home, sparky_sim_aster_port=port, sparky_sim_speed=1.0)
    assert abs(market_time(synthetic) - time.time() * 1_000) < 120_000


def test_a_file_that_was_played_to_its_end_starts_over(home: Path, candles: Path) -> None:
    port = free_port()
    fast = Settings(sparky_home=home, sparky_candles=candles, sparky_sim_aster_port=port, sparky_sim_speed=100_000)
    service = make_aster(fast, "")
    service.start()
    deadline = time.monotonic() + 60
    while httpx.get(f"{service.url}/fapi/v3/time", timeout=30).json()["serverTime"] < START_MS + 120 * MINUTE_MS:
        assert time.monotonic() < deadline
    service.stop(2)
    slow = fast.model_copy(update={"sparky_sim_speed": 0.001})
    assert START_MS + 100 * MINUTE_MS <= market_time(slow) < START_MS + 101 * MINUTE_MS


@pytest.mark.parametrize("content", ["", "{", "[]", '{"series": 1}', '{"series": "synthetic 1", "market_ms": "x"}'])
def test_a_damaged_bookmark_is_no_bookmark(tmp_path: Path, content: str) -> None:
    path = tmp_path / "market.json"
    path.write_text(content)
    bookmark = MarketTimeFile(path, "synthetic 1")
    assert bookmark.read() is None
    bookmark.write(7)
    assert bookmark.read() == 7
    assert MarketTimeFile(path, "synthetic 2").read() is None


def test_a_faulty_file_stops_the_start(write_csv: Callable[..., Path]) -> None:
    with pytest.raises(ConfigurationError, match="line 1"):
        make_aster(Settings(sparky_candles=write_csv("nonsense")), "")
