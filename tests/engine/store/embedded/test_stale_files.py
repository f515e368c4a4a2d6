"""What a crash, a reboot, a backup or another container leaves in the embedded server's directory stops no start."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import psycopg
import pytest

from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings
from engine.store.embedded import postgres_process
from engine.store.embedded.embedded_postgres import EmbeddedPostgres, build_dsn, get_data_dir, make
from tests.support.processes.directories import short_directory
from tests.support.servers.clusters import answers_in_time

ROOT: Final = Path(__file__).parents[4]
NOBODY: Final = 65534
LEFT: Final = ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432")
NEEDS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of a second user")
START: Final = """
import pathlib, sys
from engine.store.embedded.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
server.start()
assert any(server.is_healthy() for _ in range(30))
server.stop()
print("started")
"""


@pytest.fixture(scope="module")
def one_home() -> Iterator[Path]:
    """A state directory whose cluster is made; the tests here share it, one after the other."""
    with short_directory() as home:
        service = make(Settings(sparky_home=home), "")
        service.start()
        service.stop(3)
        yield home


@pytest.fixture
def made_home(one_home: Path) -> Iterator[Path]:
    """It, without a trace of what the test left there."""
    yield one_home
    for name in LEFT:
        path = get_data_dir(one_home) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def starts(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    try:
        assert answers_in_time(server)
    finally:
        server.stop()


def pid_file(home: Path, pid: object) -> Path:
    """A `postmaster.pid` as a server of that pid leaves it, owned by the server's user."""
    data = get_data_dir(home)
    path = data / "postmaster.pid"
    path.write_text(f"{pid}\n{data}\n1700000000\n5432\n{data}\n\n 123456    654321\nready   \n")
    give_to_the_server(path, home)
    return path


def give_to_the_server(path: Path, home: Path) -> None:
    if os.geteuid() == 0:
        user = postgres_process.ensure_server_user(home)
        assert user is not None
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def as_second_user(*words: str) -> list[str]:
    """Which may pass through directories of root, where the interpreter may be, and nothing more."""
    passes = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *passes, *words]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "garbage", "-1\n", "0\n", "1", "99999999999999999999\n", "\u0661\u0662\n", "\x00\x00\x00", "12 34\n"],
)
@pytest.mark.parametrize("name", ["postmaster.pid", ".s.PGSQL.5432.lock"])
def test_a_file_of_any_text_stops_no_start(name: str, text: str, made_home: Path) -> None:
    path = get_data_dir(made_home) / name
    path.write_bytes(text.encode())
    give_to_the_server(path, made_home)
    starts(made_home)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def an_unreadable_file(path: Path) -> None:
    path.write_text("1\n")
    path.chmod(0)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


@pytest.mark.parametrize("left", [a_directory, a_dangling_link, a_pipe, an_unreadable_file, a_socket])
@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_file_of_a_server_stops_no_start(name: str, left: Callable[[Path], None], made_home: Path) -> None:
    left(get_data_dir(made_home) / name)
    starts(made_home)


def test_a_directory_in_its_place_that_holds_files_is_named(made_home: Path) -> None:
    path = get_data_dir(made_home) / "postmaster.pid"
    path.mkdir()
    (path / "kept").write_text("x")
    try:
        with pytest.raises(ConfigurationError, match=r"postmaster\.pid"):
            EmbeddedPostgres(made_home).start()
        assert (path / "kept").exists()
    finally:
        shutil.rmtree(path)


@pytest.mark.parametrize("beside", ["postmaster.pid", None])
def test_a_lock_of_the_socket_that_names_a_living_process_stops_no_start(beside: str | None, made_home: Path) -> None:
    if beside is not None:
        pid_file(made_home, os.getpid())
    path = get_data_dir(made_home) / ".s.PGSQL.5432.lock"
    path.write_text(f"{os.getpid()}\n{get_data_dir(made_home)}\n1\n5432\n{get_data_dir(made_home)}\n")
    give_to_the_server(path, made_home)
    starts(made_home)


def living(words: list[str], home: Path) -> "subprocess.Popen[bytes]":
    """A process that lives as the server's user, to whom PostgreSQL would leave a pid file that names it."""
    user = postgres_process.ensure_server_user(home)
    ids = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **ids)  # type: ignore[call-overload,no-any-return]  # the ids are numbers


def test_the_pid_of_a_living_process_of_the_servers_own_user_stops_no_start_and_ends_no_process(
    made_home: Path,
) -> None:
    with living(["cat"], made_home) as other:
        pid_file(made_home, other.pid)
        starts(made_home)
        assert other.poll() is None
        other.kill()


def test_the_pid_of_a_process_that_has_ended_and_was_not_reaped_stops_no_start(made_home: Path) -> None:
    with living(["true"], made_home) as ended:
        assert ended.stdout is not None
        ended.stdout.read()
        while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        pid_file(made_home, ended.pid)
        starts(made_home)


def test_a_program_that_is_only_called_postgres_is_left_alone(made_home: Path) -> None:
    with short_directory() as elsewhere:
        elsewhere.chmod(0o755)
        program = elsewhere / "postgres"
        shutil.copy(shutil.which("cat") or "/bin/cat", program)
        with living([str(program)], made_home) as other:
            pid_file(made_home, other.pid)
            starts(made_home)
            assert other.poll() is None
            other.kill()


def test_leftover_processes_of_a_killed_server_keep_another_from_their_files(made_home: Path) -> None:
    server = EmbeddedPostgres(made_home)
    server.start()
    postmaster = psutil.Process(server.pid)
    with psycopg.connect(build_dsn(made_home), autocommit=True) as connection:
        (backend,) = connection.execute("select pg_backend_pid()").fetchone() or (0,)
        others = [each for each in postmaster.children() if each.pid != backend]
        psutil.Process(backend).suspend()  # it does not notice that its server has gone
        postmaster.kill()
        psutil.wait_procs(others, 60)
        server.stop()
        left = psutil.Process(backend)
        probe = subprocess.Popen([sys.executable, "-c", START, str(made_home)], stdout=subprocess.PIPE, cwd=ROOT)
        log = made_home / "postgres.log"
        size = log.stat().st_size
        try:
            while b"still in use" not in log.read_bytes()[size:]:
                assert probe.poll() is None, log.read_text()[-2_000:]
        finally:
            left.resume()
            left.kill()
        assert probe.communicate(timeout=120)[0] == b"started\n"


@NEEDS_ROOT
def test_a_second_users_start_is_not_stopped_by_a_process_of_root() -> None:
    with short_directory() as root:
        root.chmod(0o755)
        home = root / "home"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        start = as_second_user(sys.executable, "-c", START, str(home))
        run = {"cwd": ROOT, "env": {**os.environ, "HOME": str(home)}, "capture_output": True, "text": True}
        assert subprocess.run(start, check=False, **run).stdout == "started\n"  # type: ignore[call-overload]  # a mapping
        for name in ("sleep", "postgres"):
            program = root / name
            shutil.copy(shutil.which("cat") or "/bin/cat", program)
            with subprocess.Popen([program], stdin=subprocess.PIPE, cwd="/root") as other:  # whose cwd is a secret
                path = pid_file(home, other.pid)
                os.chown(path, NOBODY, NOBODY)
                done = subprocess.run(start, check=False, **run)  # type: ignore[call-overload]  # a mapping
                assert done.stdout == "started\n", done.stderr
                assert other.poll() is None
                other.kill()
            path = pid_file(home, 1)
            path.chmod(0)  # and of root: it cannot be read
            os.chown(path, 0, 0)
            done = subprocess.run(start, check=False, **run)  # type: ignore[call-overload]  # a mapping
            assert done.stdout == "started\n", done.stderr


LIMITED: Final = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]


@NEEDS_ROOT
def test_root_without_the_right_to_look_into_processes_ends_an_orphan_all_the_same(made_home: Path) -> None:
    script = START.replace("server.stop()", "print(server.pid, flush=True); sys.stdin.read()")
    words = [sys.executable, "-c", script, str(made_home)]
    owner = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert owner.stdout is not None
    orphan = psutil.Process(int(owner.stdout.readline()))
    orphan.suspend()  # so that the death of its owner does not reach it
    owner.kill()
    owner.communicate()
    try:
        done = subprocess.run(
            [*LIMITED, sys.executable, "-c", START, str(made_home)],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.stdout == "started\n", done.stderr
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    finally:
        if orphan.is_running():
            orphan.send_signal(signal.SIGKILL)


def test_a_copy_of_a_data_directory_that_was_running_starts(made_home: Path) -> None:
    server = EmbeddedPostgres(made_home)
    server.start()
    with short_directory() as other:
        user = postgres_process.ensure_server_user(other)
        # Sockets are not copied, and what changes meanwhile is PostgreSQL's to recover.
        copy = ["/bin/cp", "-a", str(get_data_dir(made_home)), str(get_data_dir(other))]
        subprocess.run(copy, check=False, stderr=subprocess.DEVNULL)
        assert (get_data_dir(other) / "postmaster.pid").exists()
        assert user is None or get_data_dir(other).stat().st_uid == user.pw_uid
        starts(other)
    assert answers_in_time(server)
    server.stop()


@pytest.mark.parametrize("left", ["postgres.new", "postgres.new.1"])
def test_an_interrupted_creation_of_any_draft_leaves_nothing(left: str) -> None:
    with short_directory() as home:
        (home / left / "base").mkdir(parents=True)
        starts(home)
        assert not list(home.glob("postgres.new*"))


@pytest.mark.parametrize("kind", ["directory", "pipe", "socket", "dangling link", "loop"])
def test_a_log_that_is_no_file_stops_no_start_and_is_kept(kind: str, made_home: Path) -> None:
    log = made_home / "postgres.log"
    for left in made_home.glob("postgres.log*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if kind == "directory":
        log.mkdir()
        (log / "kept").write_text("theirs")
    elif kind == "pipe":
        os.mkfifo(log)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(log))
    else:
        log.symlink_to(log if kind == "loop" else made_home / "nowhere" / "postgres.log")
    server = EmbeddedPostgres(made_home)
    server.start()
    server.stop()
    assert log.is_file()
    (aside,) = [each for each in made_home.iterdir() if each.name.startswith("postgres.log.")]
    assert kind != "directory" or (aside / "kept").read_text() == "theirs"


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing yet", "null device"])
def test_a_log_that_is_linked_to_a_place_to_write_stays_so(kind: str, made_home: Path) -> None:
    log, elsewhere = made_home / "postgres.log", made_home / "elsewhere.log"
    log.unlink(missing_ok=True)
    if kind == "link to a file":
        elsewhere.write_text("before\n")
    log.symlink_to("/dev/null" if kind == "null device" else elsewhere)
    with postgres_process.open_log(log) as opened:
        opened.write(b"told\n")
    assert log.is_symlink()
    assert kind == "null device" or elsewhere.read_text().endswith("told\n")
