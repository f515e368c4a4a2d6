"""Several webhook servers: the one that executes is killed, and a sender that tries again loses nothing."""

import itertools
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import requests
from pydantic import SecretStr

from engine.admin.demo_data import generate_webhook_secret
from engine.store.embedded.embedded_postgres import build_dsn
from tests.support.processes.sparky import PATIENCE_S, Sparky, without_strategies
from tests.support.servers.ports import free_port, free_ports


class Servers:
    """Two `sparky serve` on one database, neither of them watched by a supervisor."""

    def __init__(self, sparky: Sparky) -> None:
        self._sparky = sparky
        self.ports = free_ports(2)
        self._processes = [self._start(port) for port in self.ports]

    def role(self, number: int) -> str:
        answer = requests.get(f"{self.url(number)}/health/executing", timeout=PATIENCE_S)
        assert answer.status_code == (200 if answer.json()["status"] == "executing" else 503)
        return str(answer.json()["status"])

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.ports[number]}"

    def kill(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait(PATIENCE_S)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(PATIENCE_S)

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        command = Path(sys.executable).with_name("sparky")
        environ = {**self._sparky.environ, "SPARKY_WEBHOOK_PORT": str(port)}
        with self._sparky.log_path.open("ab") as log:
            return subprocess.Popen([command, "serve"], env=environ, stdout=log, stderr=log)


@pytest.fixture
def sparky() -> Iterator[Sparky]:
    with without_strategies(WEBHOOK_URL=f"http://127.0.0.1:{free_port()}") as made:
        yield made


@pytest.fixture
def servers(sparky: Sparky) -> Iterator[Servers]:
    made = Servers(sparky)
    try:
        sparky.wait_for(lambda: {made.role(0), made.role(1)} == {"executing", "standing by"}, "one of two executing")
        yield made
    finally:
        made.close()


def delivered(servers: Servers, name: str, secret: SecretStr) -> None:
    """Sends one signal to both in turn, as a proxy would that knows nothing of them, until it is accepted.

    It expires, and is refused from then on.
    """
    expires_at = (datetime.now(UTC) + timedelta(seconds=PATIENCE_S)).isoformat()
    body = {"secret": secret.get_secret_value(), "exchange": "aster", "symbol": "BTCUSDT", "signal_id": name,
            "action": "buy", "size": 100, "expires_at": expires_at}  # fmt: skip
    for number in itertools.cycle((0, 1)):
        try:
            answer = requests.post(f"{servers.url(number)}/webhook", json=body, timeout=PATIENCE_S)
        except requests.ConnectionError:
            time.sleep(0.1)
            continue
        if answer.status_code == 200:
            assert answer.json()["action"] == "opened"
            return
        assert answer.status_code == 503, answer.text
        time.sleep(float(answer.headers["Retry-After"]))


def test_when_the_executing_server_is_killed_the_other_takes_over_before_any_signal_expires(
    sparky: Sparky, servers: Servers
) -> None:
    with sparky.store() as store:
        user_id, secret = store.ensure_user("trader@example.org"), generate_webhook_secret()
        store.set_webhook_secret(user_id, secret)
        names = [uuid.uuid4().hex for _ in range(15)]
        for name in names[:5]:
            delivered(servers, name, secret)
        servers.kill(0 if servers.role(0) == "executing" else 1)
        for name in names[5:]:
            delivered(servers, name, secret)
        (position,) = store.list_open_positions()
        assert store.list_unfinished_requests() == ()
    assert position.quantity == sum_of_fills(sparky, len(names))


def sum_of_fills(sparky: Sparky, count: int) -> Decimal:
    """What `count` fills, each of another signal, come to."""
    with psycopg.connect(build_dsn(sparky.home)) as connection:
        row = connection.execute("select count(distinct request_id), count(*), sum(quantity) from fills").fetchone()
    assert row is not None
    assert row[:2] == (count, count)
    return Decimal(row[2])
