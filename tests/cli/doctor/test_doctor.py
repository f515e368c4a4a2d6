import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

import webhook_server.service
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.transport.postgres import connect
from simulator.aster import aster_app
from simulator.groq import groq_app
from simulator.groq.quota import Limits
from simulator.market.candles import create_synthetic_series
from simulator.market.market import Market, MarketClock
from simulator.venue.venue import SimulatedVenue
from tests.cli.conftest import Sparky
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.support.servers.groq_double import Answer, GroqDouble, error, raw
from tests.support.servers.ports import free_ports

KEY = "gsk_hunter2hunter2"
Serve = Callable[[ASGIApp, str], str]


def venue_at(unix_s: float) -> SimulatedVenue:
    """A venue in real time whose clock shows `unix_s` now."""
    series = create_synthetic_series(1)
    clock = MarketClock(int(unix_s * 1_000), 1.0, None)
    return SimulatedVenue({symbol: Market(one) for symbol, one in series.items()}, clock)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an application on a free port; returns its address."""
    running: list[HttpService] = []

    def start(app: ASGIApp, health: str) -> str:
        service = HttpService(app, "127.0.0.1", 0, "NONE", health)
        service.start()
        running.append(service)
        return service.url

    yield start
    for service in running:
        service.stop(1)


@pytest.fixture
def patient(sparky: Sparky) -> Sparky:
    """A healthy installation on ports of its own."""
    names = ("SPARKY_MONITOR_PORT", "SPARKY_WEBHOOK_PORT", "SPARKY_SIM_GROQ_PORT", "SPARKY_SIM_ASTER_PORT")
    sparky.environment |= {name: str(port) for name, port in zip(names, free_ports(4), strict=True)}
    sparky.environment["SPARKY_ENCRYPTION_KEY"] = ENCRYPTION_KEY.get_secret_value()
    return sparky


def examined(sparky: Sparky, **environment: str) -> Mapping[str, dict[str, Any]]:
    """The checks by name; the exit code must say whether one found a fault."""
    sparky.environment |= environment
    done = sparky("doctor", "--json")
    checks = json.loads(done.stdout)
    assert done.exit_code == int(any(check["state"] == "fault" for check in checks))
    assert all(check["remedy"] for check in checks if check["state"] == "fault")
    return {check["name"]: check for check in checks}


def test_a_healthy_installation_has_no_fault(patient: Sparky) -> None:
    found = examined(patient)
    assert {check["state"] for check in found.values()} == {"ok", "skipped"}
    assert found["migrations"]["found"] == "current"
    assert "All is well." in patient.ok("doctor")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("update public.sparky_migrations set checksum = 'x' where name ~ 'strategies'", "was edited after it ran"),
        (
            "insert into public.sparky_migrations (name, checksum) values ('29990101000000_new.sql', 'x')",
            "ahead of this version, which does not know 29990101000000_new.sql",
        ),
    ],
)
def test_a_schema_of_another_version_is_a_fault(patient: Sparky, database_url: str, change: str, words: str) -> None:
    with connect(database_url) as connection:
        connection.execute(change.encode())
    found = examined(patient)
    assert found["migrations"]["state"] == "fault"
    assert words in found["migrations"]["found"]


def test_a_kill_switch_that_is_on_is_seen(patient: Sparky) -> None:
    patient.ok("kill", "--reason", "news")
    assert "is on for everybody (news)" in examined(patient)["kill switch"]["found"]
    assert "everybody" in patient.ok("kill", "--show")


def test_switches_that_cannot_be_read_are_a_fault_and_end_no_doctor(patient: Sparky, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("alter function public.kill_switches() rename to whole_switches")
        told = b"""'[{"is_on": 1}]'::jsonb"""
        connection.execute(
            b"create function public.kill_switches() returns jsonb language sql as $$ select " + told + b" $$"
        )
    found = examined(patient)
    assert found["database"]["state"] == "fault"
    assert "cannot be read" in found["database"]["found"]
    assert "sparky" in found


def test_faulty_settings_are_the_only_finding(patient: Sparky) -> None:
    [check] = examined(patient, SPARKY_LLM_RPM="many", SPARKY_LLM_RPN="1").values()
    assert check["name"] == "settings"
    assert "SPARKY_LLM_RPM" in check["found"]
    assert "did you mean SPARKY_LLM_RPM?" in check["found"]


def test_a_database_that_is_down_is_named_with_a_remedy(patient: Sparky) -> None:
    found = examined(patient, DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/nothing")
    assert found["database"]["state"] == "fault"
    assert "hunter2" not in str(found)


def test_a_database_without_our_schema_asks_for_the_migration(patient: Sparky, empty_database_url: str) -> None:
    found = examined(patient, DATABASE_URL=empty_database_url)
    assert "sparky migrate" in found["database"]["found"] + found["database"]["remedy"]


def test_a_key_that_groq_refuses_is_told_from_a_model_it_does_not_serve(patient: Sparky, serve: Serve) -> None:
    url = serve(groq_app.create_groq(groq_app.Groq(Limits()), api_key=KEY), groq_app.HEALTH)
    good = examined(patient, GROQ_BASE_URL=url, GROQ_API_KEY=KEY, SPARKY_MARKET="simulator")
    assert (good["groq"]["state"], good["model"]["state"]) == ("ok", "ok")
    wrong_model = examined(patient, GROQ_MODEL="llama-3.1-70b-versatile")
    assert wrong_model["model"]["state"] == "fault"
    assert "openai/gpt-oss-120b" in wrong_model["model"]["remedy"]
    wrong_key = examined(patient, GROQ_API_KEY="gsk_another1another1")
    assert wrong_key["groq"]["state"] == "fault"
    assert "GROQ_API_KEY" in wrong_key["groq"]["remedy"]
    assert "another1" not in str(wrong_key)


@pytest.mark.parametrize(
    ("answer", "words", "remedy"),
    [
        (raw(403, b"<html><title>Attention Required!</title></html>"), "Attention Required!", "network"),
        (error(403, None, message="Access denied. Please check your network settings."), "Access denied", "network"),
        (error(400, "organization_restricted", message="Organization has been restricted."), "restricted", "account"),
        (error(401, "invalid_api_key", message="Invalid API Key"), "Invalid API Key", "GROQ_API_KEY"),
        (error(429, None, message="Please try again in 7m27.5s on tokens per day"), "try again in 7m27.5s", "wait"),
    ],
)
def test_what_the_provider_refuses_is_told_in_its_words_with_a_remedy_that_helps(
    patient: Sparky, answer: Answer, words: str, remedy: str
) -> None:
    with GroqDouble(answer) as double:
        found = examined(patient, GROQ_BASE_URL=double.url, GROQ_API_KEY=KEY, SPARKY_MARKET="simulator")["groq"]
    assert found["state"] == "fault"
    assert words in found["found"]
    assert remedy in found["remedy"]
    assert ("make a new key" in found["remedy"]) is (remedy == "GROQ_API_KEY")


def test_an_endpoint_that_is_not_there_or_speaks_otherwise_is_a_fault(patient: Sparky, serve: Serve) -> None:
    [port] = free_ports(1)
    gone = examined(patient, GROQ_BASE_URL=f"http://127.0.0.1:{port}", SPARKY_MARKET="simulator")
    assert gone["groq"]["state"] == "fault"
    assert "refused" in gone["groq"]["found"].lower()
    other = serve(aster_app.create_aster(venue_at(time.time())), aster_app.HEALTH)
    assert examined(patient, GROQ_BASE_URL=other)["groq"]["state"] == "fault"


def test_a_venue_is_asked_and_its_clock_compared(patient: Sparky, serve: Serve) -> None:
    url = serve(aster_app.create_aster(venue_at(time.time())), aster_app.HEALTH)
    found = examined(patient, SPARKY_MARKET="aster", SPARKY_MARKET_URL=url)
    assert (found["venue"]["state"], found["clock"]["state"]) == ("ok", "ok")
    ahead = serve(aster_app.create_aster(venue_at(time.time() + 3_600)), aster_app.HEALTH)
    clock = examined(patient, SPARKY_MARKET_URL=ahead)["clock"]
    assert clock["state"] == "fault"
    assert "behind the venue" in clock["found"]


def test_a_venue_that_is_down_or_unknown_is_a_fault(patient: Sparky) -> None:
    [port] = free_ports(1)
    down = examined(patient, SPARKY_MARKET="aster", SPARKY_MARKET_URL=f"http://127.0.0.1:{port}")
    assert down["venue"]["state"] == "fault"
    unknown = examined(patient, SPARKY_MARKET="nowhere", SPARKY_MARKET_URL="")
    assert unknown["venue"]["state"] == "fault"


def test_a_taken_port_names_the_setting_that_moves_it(patient: Sparky) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        found = examined(patient, SPARKY_MONITOR_PORT=str(port))
    assert found[f"port {port}"]["state"] == "fault"
    assert "SPARKY_MONITOR_PORT" in found[f"port {port}"]["remedy"]


def test_a_webhook_elsewhere_must_answer(patient: Sparky) -> None:
    [port] = free_ports(1)
    found = examined(patient, WEBHOOK_URL=f"http://127.0.0.1:{port}/webhook/ai-signal")
    assert found["webhook"]["state"] == "fault"


def test_a_home_that_others_may_enter_or_that_cannot_be_made_is_a_fault(patient: Sparky, home: Path) -> None:
    (home / "run").mkdir(mode=0o755)
    (home / "run").chmod(0o755)
    assert "chmod 700" in examined(patient)["home directory"]["remedy"]
    (home / "file").write_text("")
    assert examined(patient, SPARKY_HOME=f"{home}/file/x")["home directory"]["state"] == "fault"


def test_the_webhook_server_of_these_settings_is_no_foreign_program(patient: Sparky, home: Path) -> None:
    names = {name.lower(): value for name, value in patient.environment.items() if value}
    service = webhook_server.service.make(Settings.model_validate(names | {"sparky_home": home}), "")
    service.start()
    try:
        port = patient.environment["SPARKY_WEBHOOK_PORT"]
        found = examined(patient)
        assert found[f"port {port}"] == {
            "name": f"port {port}",
            "state": "ok",
            "found": "the webhook server",
            "remedy": None,
        }
    finally:
        service.stop(1)


def test_a_foreign_program_on_the_port_of_the_webhook_server_is_a_fault(patient: Sparky, serve: Serve) -> None:
    url = serve(aster_app.create_aster(venue_at(time.time())), aster_app.HEALTH)
    port = url.rpartition(":")[2]
    found = examined(patient, SPARKY_WEBHOOK_PORT=port)[f"port {port}"]
    assert (found["state"], "SPARKY_WEBHOOK_PORT" in found["remedy"]) == ("fault", True)


def test_with_real_services_and_a_named_database_each_unit_is_started_by_its_own_command(
    patient: Sparky, serve: Serve
) -> None:
    url = serve(aster_app.create_aster(venue_at(time.time())), aster_app.HEALTH)
    found = examined(patient, GROQ_API_KEY=KEY, GROQ_BASE_URL=url, SPARKY_MARKET="aster", SPARKY_MARKET_URL=url)
    assert "`sparky supervise`" in found["sparky"]["found"]
    assert "`sparky serve`" in found["webhook"]["found"]
    assert "sparky up" not in found["sparky"]["found"] + found["webhook"]["found"]
