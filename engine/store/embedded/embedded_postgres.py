"""The embedded PostgreSQL server; its data persist in the state directory."""

import os
import pwd
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psycopg
import structlog

from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.platform.settings.component_settings import EmbeddedDatabaseSettings
from engine.store.embedded import postgres_process, stale_files, usage_locks
from engine.store.schema.migrate import migrate
from engine.store.transport.postgres import connect

logger = structlog.get_logger()

DATABASE: Final = "sparky"
START_TIMEOUT_S: Final = 60.0
LOCK_TIMEOUT_S: Final = 10.0
EVICTION_TIMEOUT_S: Final = 30.0  # of the 60 s that the database child has for its start

_OPTIONS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",  # strategies connect only while they call
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",  # no replication, so less is written
    "max_wal_senders": "0",  # demanded by wal_level minimal
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # a failed statement may contain user input
    "jit": "off",
    "io_method": "sync",  # saves three worker processes
    "max_parallel_workers_per_gather": "0",
}


def build_dsn(home: Path, database: str = DATABASE) -> str:
    """The server's DSN: a Unix socket in the data directory, which only its owner may enter."""
    return f"postgresql://postgres@/{database}?host={quote(str(get_data_dir(home)), safe='')}"


def get_data_dir(home: Path) -> Path:
    return home / "postgres"


def is_running(home: Path) -> bool:
    """True if the server of `home` answers a query, whichever process started it."""
    return os.access(get_data_dir(home), os.F_OK) and is_answering(build_dsn(home, "postgres"))


def always_false() -> bool:
    return False


class EmbeddedPostgres:
    """The server of one state directory. It shuts down when the process that started it ends, however that ends.

    `options` override PostgreSQL's settings; `lock_timeout_s` is how long a start waits for another owner to end, and
    with `evicts` it ends one that stays. `is_forbidden` is checked under the owner's lock before the start. Call
    `start` on a thread that lives as long as the server, because the death signal is tied to the thread.
    """

    def __init__(
        self,
        home: Path,
        options: Mapping[str, str] | None = None,
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        evicts: bool = False,
        is_forbidden: Callable[[], bool] = always_false,
    ) -> None:
        self._home = home
        self._lock_timeout_s = lock_timeout_s
        self._evicts = evicts
        self._is_forbidden = is_forbidden
        self._data = get_data_dir(home)
        self._log = home / "postgres.log"
        self._options = {**_OPTIONS, "unix_socket_directories": str(self._data), **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def dsn(self) -> str:
        return build_dsn(self._home)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Returns when queries are answered and the database exists.

        Raises ConfigurationError if the server cannot be started, DatabaseInUse if another process owns this directory
        or may alone start it.
        """
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_lock()
            user = postgres_process.ensure_server_user(self._home)
            stale_pid = stale_files.clear_stale_server(self._data, os.getuid() if user is None else user.pw_uid)
            postgres_process.ensure_data_dir(self._data, user)
            self._start_until_ready(user, stale_pid, time.monotonic() + START_TIMEOUT_S)
            _ensure_database(self._home)
        except OSError as error:
            self.stop()
            where = self._home if error.filename is None else error.filename
            raise ConfigurationError(f"The embedded database cannot start in {where}: {error.strerror}.") from None
        except BaseException:
            self.stop()
            raise

    def is_healthy(self) -> bool:
        """True if a query is answered now."""
        return self._process is not None and self._process.poll() is None and is_answering(self.dsn)

    @property
    def is_stopped_by_others(self) -> bool:
        """Whether the started server has ended, or is shutting down, without `stop`."""
        if self._process is None:
            return False
        return self._process.poll() is not None or postgres_process.is_shutting_down(self._data)

    def stop(self, grace_s: float = 3.0) -> None:
        """Fast shutdown (open transactions roll back), harder after `grace_s`. The data stay."""
        if self._process is not None:
            postgres_process.stop_process(self._process, grace_s)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        self._lock = usage_locks.acquire_owner_lock(
            self._home / "postgres.lock", self._lock_timeout_s, evicts=self._evicts
        )
        if self._is_forbidden():
            raise usage_locks.DatabaseInUse(self._home)

    def _start_until_ready(self, user: pwd.struct_passwd | None, stale_pid: int | None, deadline: float) -> None:
        """Starts the server, again if it ends at once, because processes of a killed predecessor take a moment to
        end."""
        while True:
            self._process = self._spawn(user, stale_pid)
            while self._process.poll() is None:
                if is_answering(build_dsn(self._home, "postgres")):
                    return
                self._sleep_or_fail(deadline)
            self._sleep_or_fail(deadline)

    def _spawn(self, user: pwd.struct_passwd | None, stale_pid: int | None) -> subprocess.Popen[bytes]:
        command = [postgres_process.get_binary_path("postgres"), "-D", str(self._data)]
        for name, value in self._options.items():
            command += ["-c", f"{name}={value}"]
        environ = postgres_process.build_environ(os.environ)
        if stale_pid is not None:
            environ["PG_GRANDPARENT_PID"] = str(stale_pid)  # the pid in the pid file that PostgreSQL must ignore
        with postgres_process.open_log(self._log) as log:
            return subprocess.Popen(
                postgres_process.build_exec_command(command, user),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environ,
                start_new_session=True,  # Ctrl-C at the terminal is for its owner to pass on
            )

    def _sleep_or_fail(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            reason = postgres_process.find_error_line(self._log.read_text(encoding="utf-8", errors="replace"))
            raise ConfigurationError(f"The embedded database does not start: {reason}; {self._log} has the rest.")
        time.sleep(postgres_process.POLL_S)


class DatabaseService:
    """The embedded server as a child of the supervisor; it migrates as it starts.

    A server that ends by a signal of others (to all processes of a control group or a tree) is restarted at once,
    because other children may still have records to write.
    """

    check_every_s = 0.25

    def __init__(self, home: Path) -> None:
        self._server = EmbeddedPostgres(home, lock_timeout_s=EVICTION_TIMEOUT_S, evicts=True)
        self._is_stopping = False
        self._restart_lock = threading.Lock()

    def start(self) -> None:
        """Raises ConfigurationError if the server cannot start or a migration was edited after it ran."""
        self._server.start()
        try:
            migrate(self._server.dsn)
        except BaseException:
            self._server.stop()
            raise

    def is_healthy(self) -> bool:
        with self._restart_lock:
            if self._server.is_stopped_by_others and not self._is_stopping:
                logger.warning("embedded_database_restarted", effect="it is started again")
                self._server.stop()
                self._server.start()
        return self._server.is_healthy()

    def stop(self, grace_s: float) -> None:
        self._is_stopping = True
        began_at = time.monotonic()
        is_locked = self._restart_lock.acquire(timeout=grace_s)
        self._server.stop(max(0.0, grace_s - (time.monotonic() - began_at)))
        if is_locked:
            self._restart_lock.release()


def make(settings: EmbeddedDatabaseSettings, argument: str) -> DatabaseService:  # noqa: ARG001 - the shape of every service's entry
    return DatabaseService(settings.sparky_home)


def is_answering(address: str) -> bool:
    """True if the server at `address` answers a query now."""
    try:
        with connect(address, timeout_s=2.0) as connection:
            return connection.execute("select 1").fetchone() == (1,)
    except (UpstreamUnavailable, ConfigurationError, psycopg.Error):
        return False


def _ensure_database(home: Path) -> None:
    with connect(build_dsn(home, "postgres")) as connection:
        row = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
        if row is None:
            connection.execute(f"create database {DATABASE}")
