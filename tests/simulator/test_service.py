"""The simulators as the host starts them: from settings, and with one sentence when they cannot run."""

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from engine.errors import BadConfiguration
from engine.settings import Settings
from simulator.candles import MINUTE_MS
from simulator.service import make_aster, make_groq


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_both_start_from_settings_and_are_healthy_until_they_stop() -> None:
    settings = Settings(sparky_sim_groq_port=free_port(), sparky_sim_aster_port=free_port())
    services = [make_groq(settings, ""), make_aster(settings, "")]
    for service in services:
        service.start()
    assert [service.healthy() for service in services] == [True, True]
    info = httpx.get(f"{services[1].url}/fapi/v3/exchangeInfo", timeout=30).json()
    assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    for service in services:
        service.stop(2)
    assert [service.healthy() for service in services] == [False, False]


def test_a_taken_port_names_the_port_and_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for make, name in ((make_groq, "SPARKY_SIM_GROQ_PORT"), (make_aster, "SPARKY_SIM_ASTER_PORT")):
            service = make(Settings(sparky_sim_groq_port=port, sparky_sim_aster_port=port), "")
            with pytest.raises(BadConfiguration, match=f"Port {port} .*{name}"):
                service.start()


def test_candles_from_a_file_are_its_symbol_alone(write_csv: Callable[..., Path]) -> None:
    start = 1_677_628_800_000
    rows = [f"{start + index * MINUTE_MS},10,12,9,11,1" for index in range(120)]
    path = write_csv("open_time_ms,open,high,low,close,volume\n" + "\n".join(rows), "SOLUSDT-1m.csv")
    service = make_aster(Settings(sparky_candles=path, sparky_sim_aster_port=free_port()), "")
    service.start()
    info = httpx.get(f"{service.url}/fapi/v3/exchangeInfo", timeout=30).json()
    assert [row["symbol"] for row in info["symbols"]] == ["SOLUSDT"]
    assert start + 100 * MINUTE_MS <= info["serverTime"] <= start + 120 * MINUTE_MS
    service.stop(2)


def test_a_faulty_file_stops_the_start(write_csv: Callable[..., Path]) -> None:
    with pytest.raises(BadConfiguration, match="line 1"):
        make_aster(Settings(sparky_candles=write_csv("nonsense")), "")
