"""The installed command as its own process: exit codes, streams and sentences."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import typer
from typer.testing import CliRunner

from cli.app import app
from tests.support.servers.ports import free_port, free_ports

PATIENCE_S = 300.0  # only for what hangs; a busy machine takes a minute to load a command
SPARKY = [sys.executable, "-c", "import cli.main; cli.main.main()"]


def environment_of(home: Path, given: dict[str, str]) -> dict[str, str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return clean | {"SPARKY_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])} | given


def run(home: Path, *words: str, **given: str) -> "subprocess.CompletedProcess[str]":
    environment = environment_of(home, given)
    return subprocess.run(
        [*SPARKY, *words], check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=home, env=environment
    )


def test_the_version_and_help_need_no_settings(home: Path) -> None:
    done = run(home, "version", SPARKY_LOG_LEVEL="loud")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sparky ")
    assert "Run everything on this host" in run(home, "--help").stdout


def test_faulty_settings_end_every_command_with_78_and_all_faults(home: Path) -> None:
    (home / ".env").write_text("SPARKY_MONITOR_PORT=x\nSPARKY_LOG_LEVL=info\n")
    done = run(home, "up")
    assert (done.returncode, done.stdout) == (78, "")
    assert "SPARKY_MONITOR_PORT" in done.stderr
    assert "did you mean SPARKY_LOG_LEVEL?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("BTCUSDT.csv", "open_time_ms,open,high,low,close,volume\n1,a,2,1,1,1\n", ("line 2",)),
        ("BTCUSDT.csv", "time,price\n", ("line 1",)),
        ("candles.csv", "", ("symbol",)),
    ],
)
def test_faulty_candles_are_one_sentence_before_anything_starts(
    home: Path, name: str, text: str, words: tuple[str, ...]
) -> None:
    (home / name).write_text(text)
    done = run(home, "up", "--candles", name)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("sparky: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in (name, *words))
    assert sorted(path.name for path in home.iterdir()) == [name]


def test_candles_that_are_not_there_are_one_sentence(home: Path) -> None:
    done = run(home, "up", "--candles", "BTCUSDT-none.csv")
    assert done.returncode == 78
    assert "BTCUSDT-none.csv" in done.stderr


def test_a_taken_port_is_one_sentence_before_anything_starts(home: Path) -> None:
    others = ("SPARKY_WEBHOOK_PORT", "SPARKY_SIM_GROQ_PORT", "SPARKY_SIM_ASTER_PORT")
    free = {name: str(port) for name, port in zip(others, free_ports(3), strict=True)}
    with socket.create_server(("127.0.0.1", 0)) as holder:
        done = run(home, "up", SPARKY_MONITOR_PORT=str(holder.getsockname()[1]), **free)
    assert (done.returncode, done.stdout) == (78, "")
    assert "SPARKY_MONITOR_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(home.iterdir()) == []


def test_a_home_in_use_is_refused_with_the_others_pid(home: Path) -> None:
    (home / "run").mkdir()
    with (home / "run" / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242")
        lock.flush()
        done = run(home, "up")
    assert (done.returncode, done.stdout) == (75, "")
    assert "already runs" in done.stderr
    assert "4242" in done.stderr


def test_production_without_a_key_says_what_is_missing(home: Path) -> None:
    done = run(home, "supervise")
    assert done.returncode == 78
    assert "GROQ_API_KEY" in done.stderr


def test_a_home_without_a_database_is_told_how_to_make_one(home: Path) -> None:
    done = run(home, "strategy", "list")
    assert done.returncode == 78
    assert "`sparky up`" in done.stderr


def test_an_unknown_command_and_a_wrong_option_are_usage_errors(home: Path) -> None:
    assert run(home, "upp").returncode == 2
    assert run(home, "trades", "--limit", "0").returncode == 2


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR2", "SIGHUP"])
def test_the_webhook_server_alone_serves_until_told_to_stop(home: Path, database_url: str, number: str) -> None:
    port = str(free_port())
    given = {"DATABASE_URL": database_url, "SPARKY_WEBHOOK_PORT": port}
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite itself may run after nohup, which is inherited
    try:
        server = subprocess.Popen(
            [*SPARKY, "serve"], stderr=subprocess.PIPE, text=True, cwd=home, env=environment_of(home, given)
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        assert server.stderr is not None
        assert '"listening"' in server.stderr.readline()
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S).ok
        server.send_signal(signal.Signals[number])
        assert server.wait(PATIENCE_S) == 0
    finally:
        server.kill()
        server.communicate()


def test_the_webhook_server_alone_needs_a_database(home: Path) -> None:
    done = run(home, "serve")
    assert done.returncode == 78
    assert "DATABASE_URL" in done.stderr


def test_the_version_is_an_option_too(home: Path) -> None:
    assert run(home, "--version").stdout == run(home, "version").stdout


def test_an_answer_that_cannot_be_written_is_one_sentence(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*SPARKY, "status", "--json"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            cwd=home,
            env=environment_of(home, {}),
        )
    assert done.returncode == 1
    assert done.stderr == "sparky: The answer cannot be written: No space left on device.\n"


def test_ctrl_c_while_the_command_still_loads_leaves_no_traceback(home: Path) -> None:
    hang = "import sys, time; import cli.main, builtins\n"
    wait = (
        "real = builtins.__import__\n"
        "def slow(name, *rest, **more):\n"
        "    if name == 'cli.app':\n"
        "        print('loading', flush=True); time.sleep(60)\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = slow; cli.main.main()\n"
    )
    loading = subprocess.Popen(
        [sys.executable, "-c", hang + wait],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env=environment_of(home, {}),
    )
    assert loading.stdout is not None
    assert loading.stdout.readline() == "loading\n"
    loading.send_signal(signal.SIGINT)
    assert loading.communicate(timeout=PATIENCE_S)[1] == ""
    assert loading.returncode == -signal.SIGINT


def test_a_fault_of_another_kind_is_not_told_as_an_answer_that_cannot_be_written() -> None:
    faulty = typer.Typer(cls=app.info.cls)

    @faulty.command()
    def fail() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    @faulty.command()
    def pass_by() -> None:
        """Two commands make a group."""

    result = CliRunner().invoke(faulty, ["fail"])
    assert isinstance(result.exception, OSError)
    assert result.exception.errno == errno.EMFILE
