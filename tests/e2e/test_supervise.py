"""`sparky supervise`, the engine alone, as a service manager starts it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from engine.store.embedded.embedded_postgres import get_data_dir
from tests.support.processes.directories import short_directory
from tests.support.processes.supervised import PATIENCE_S, wait_for
from tests.support.servers.forwarder import Forwarder
from tests.support.servers.ports import free_ports


class Unit:
    """The command with a service manager's socket, on a database at a port where nobody listens yet."""

    def __init__(self, home: Path, database: str) -> None:
        self.database_port, self._monitor_port = free_ports(2)
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(home / "notify"))
        self._manager.settimeout(PATIENCE_S)
        self._heard = ""
        environ = {
            "PATH": os.environ["PATH"],
            "SPARKY_HOME": str(home / "state"),
            "GROQ_API_KEY": "gsk_abcdefghijkl",
            "SPARKY_MARKET": "aster",
            "SPARKY_ENCRYPTION_KEY": "pc0nlz8mTuG8Zb5YhO4mIvxBqXw1d0q7sJt2KfLr9gE=",
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{self.database_port}/{database}",
            "SPARKY_MONITOR_PORT": str(self._monitor_port),
            "NOTIFY_SOCKET": str(home / "notify"),
        }
        command = [str(Path(sys.executable).with_name("sparky")), "supervise"]
        self.process = subprocess.Popen(command, env=environ, cwd=home, stderr=subprocess.DEVNULL)

    def hear(self, word: str) -> None:
        """Returns when the service manager has been told `word`."""
        while word not in self._heard:
            self._heard += self._manager.recv(4_096).decode() + "\n"

    def health(self) -> tuple[int, Any]:
        try:
            answer = requests.get(f"http://127.0.0.1:{self._monitor_port}/healthz", timeout=PATIENCE_S)
        except requests.ConnectionError:
            return 0, None
        return answer.status_code, answer.json()

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self._manager.close()


@pytest.fixture
def unit(postgres_database_url: str) -> Iterator[Unit]:
    database = psycopg.conninfo.conninfo_to_dict(postgres_database_url)["dbname"]
    with short_directory() as home:
        made = Unit(home, str(database))
        try:
            yield made
        finally:
            made.close()


def test_an_engine_waits_for_its_database_and_is_ready_meanwhile(unit: Unit, postgres_home: Path) -> None:
    unit.hear("READY=1")
    wait_for(lambda: "waits for its database" in str(unit.health()[1]), "being told what is waited for")
    assert unit.health()[0] == 503
    unit.hear("without the database's lease")
    assert unit.process.poll() is None
    with Forwarder(get_data_dir(postgres_home) / ".s.PGSQL.5432", unit.database_port):
        wait_for(lambda: unit.health()[0] == 200, "the engine being well")
        assert unit.process.poll() is None
