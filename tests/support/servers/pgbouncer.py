"""A real PgBouncer in front of a PostgreSQL that listens on a Unix socket. Where the program is missing, tests
that need it are skipped with a reason, and in CI they fail."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from engine.store.embedded import postgres_process
from engine.store.embedded.embedded_postgres import get_data_dir
from tests.support.processes.directories import short_directory
from tests.support.servers.ports import free_port

PATIENCE_S: Final = 120.0
_DEFAULTS: Final = {
    "auth_type": "any",  # every client is let in, as the user of the line in [databases]
    "pool_mode": "transaction",
    "default_pool_size": "1",
    "max_client_conn": "100",
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "server_login_retry": "0.2",
    "admin_users": "nobody",
}


def program() -> str:
    """Path of PgBouncer; skips the test without it, and fails it in CI."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is not None:
        return found
    reason = "PgBouncer is not installed (Debian: apt-get install pgbouncer)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class PgBouncer:
    """One pooler of every database of the server in `home`; `options` are those of its section [pgbouncer]."""

    def __init__(self, directory: Path, home: Path, **options: str) -> None:
        self._command = [program(), "-q", str(directory / "pgbouncer.ini")]
        self._user = postgres_process.ensure_server_user(home)
        self._log = directory / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        section = {**_DEFAULTS, **options, "listen_port": str(self.port)}
        lines = ["[databases]", f"* = host={get_data_dir(home)} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in section.items()]
        (directory / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        if self._user is not None:
            directory.chmod(0o755)

    def dsn(self, database_url: str) -> str:
        """The way through the pooler to the database that `database_url` names."""
        database = database_url.partition("?")[0].rpartition("/")[2]
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, **_identity(self._user))
        deadline = time.monotonic() + PATIENCE_S
        while not self._listens():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """Ends it at once; its clients' and its servers' connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE_S)
            self._process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True


def _identity(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """PgBouncer refuses to run as root."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def pgbouncer(home: Path, **options: str) -> Iterator[PgBouncer]:
    """A running one, gone afterwards."""
    with short_directory() as directory:
        pooler = PgBouncer(directory, home, **options)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.kill()
