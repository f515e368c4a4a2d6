"""TERM at the worst moments, on the real product."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from engine.platform.settings.settings import Settings
from engine.store.embedded import command_database
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.faults.conftest import FleetMaker
from tests.support.processes.crowding import slowed
from tests.support.processes.fleet import Fleet
from tests.support.processes.supervised import wait_until_gone

PATIENCE_S = 180.0


def stopped(fleet: Fleet) -> tuple[int, float]:
    """TERM to the supervisor; its exit code and how long it took. Nobody is left."""
    assert fleet.process is not None
    family = [process.pid for process in fleet.family()]
    began = time.monotonic()
    fleet.process.send_signal(signal.SIGTERM)
    code = fleet.process.wait(PATIENCE_S)
    took_s = time.monotonic() - began
    wait_until_gone(family)
    return code, took_s


def test_a_cycle_in_its_groq_call_is_abandoned(fleet_of: FleetMaker, measured: Callable[[str], None]) -> None:
    fleet = fleet_of(10, 1.0)
    fleet.launch()
    fleet.order("groq", {"kind": "hang", "path": "chat/completions", "seconds": 60, "times": None})

    def all_hang() -> bool:
        return any(state["used"].get("concurrency", 0) >= fleet.count for state in fleet.status()["limiter"].values())

    fleet.wait_for(all_hang, "every strategy in its call")
    with fleet.store() as store:
        before = len(store.list_decisions(limit=10_000))
    code, took_s = stopped(fleet)
    assert code == 0
    assert took_s < slowed(20)
    with command_database.open_database(Settings(sparky_home=fleet.home)) as dsn, Store(PostgresRpc(dsn)) as store:
        assert len(store.list_decisions(limit=10_000)) == before
    measured(f"TERM with every strategy in its Groq call: stopped in {took_s:.1f} s")


class Hanging(ThreadingHTTPServer):
    """Takes each POST and answers only when it is let go."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[bytes] = []
        self.let_go = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Hanging

    def do_POST(self) -> None:
        self.server.got.append(self.rfile.read(int(self.headers["content-length"])))
        self.server.let_go.wait(PATIENCE_S)
        answer = b'{"success":true,"action":"opened"}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Says nothing."""


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    server = Hanging()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_post_under_way_is_finished_before_the_dispatcher_ends(fleet_of: FleetMaker, hanging: Hanging) -> None:
    url = f"http://127.0.0.1:{hanging.server_address[1]}/webhook/ai-signal"
    fleet = fleet_of(10, 1.0, WEBHOOK_URL=url)
    fleet.launch(without=("webhook",))
    fleet.wait_for(lambda: len(hanging.got) > 0, "a POST under way")
    assert fleet.process is not None
    fleet.process.send_signal(signal.SIGTERM)
    fleet.wait_for(lambda: stops(fleet), "the dispatcher flushing")
    hanging.let_go.set()
    assert fleet.process.wait(PATIENCE_S) == 0
    with command_database.open_database(Settings(sparky_home=fleet.home)) as dsn, Store(PostgresRpc(dsn)) as store:
        rows = {str(row.id): row.status for row in store.list_signals(limit=10_000)}
    posted = len(hanging.got)
    assert posted > 0
    assert sum(status == "delivered" for status in rows.values()) >= 1
    assert "leased" not in rows.values()


def stops(fleet: Fleet) -> bool:
    """Whether the dispatcher has been told to stop."""
    return any('"stopping"' in line and '"dispatcher"' in line for line in fleet.log_path.read_text().splitlines())


def test_a_post_that_never_ends_does_not_hold_the_stop_and_is_sent_again_after_a_restart(
    fleet_of: FleetMaker, hanging: Hanging
) -> None:
    url = f"http://127.0.0.1:{hanging.server_address[1]}/webhook/ai-signal"
    fleet = fleet_of(5, 1.0, WEBHOOK_URL=url, SPARKY_SIGNAL_TTL_S="300")
    fleet.launch(without=("webhook",))
    fleet.wait_for(lambda: len(hanging.got) > 0, "a POST under way")
    first = hanging.got[0]
    _, took_s = stopped(fleet)
    assert took_s < slowed(30)
    sent = len(hanging.got)
    hanging.let_go.set()
    fleet.start("--no-demo")
    fleet.wait_for(lambda: first in hanging.got[sent:], "the same signal again, when its lease has run out", 240)
