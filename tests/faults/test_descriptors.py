"""Standard streams that are closed, full, left by their reader or no terminal: work is done, and trading goes on."""

import fcntl
import json
import os
import signal
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.store.store import Store
from tests.support.commands import COMMANDS, NAME, ROOT, SPARKY, environment, run, write_the_world
from tests.support.directories import short_directory
from tests.support.sparky import Sparky
from tests.support.supervised import wait_for
from tests.support.terminal import Terminal

CLOSED = {"<&-": (0,), ">&-": (1,), "2>&-": (2,), "<&- >&- 2>&-": (0, 1, 2)}
FULL = "/dev/full"


@pytest.fixture
def home() -> Iterator[Path]:
    with short_directory() as root:
        yield root


@pytest.fixture
def world(home: Path, database_url: str, store: Store) -> dict[str, str]:
    """The environment of a home whose database holds something to tell."""
    write_the_world(store)
    return environment(home, database_url)


def closing(*numbers: int) -> Callable[[], None]:
    """For `preexec_fn`: closes these as a shell's ``>&-`` does."""

    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


# commands


@pytest.mark.parametrize("closed", CLOSED)
def test_a_command_does_its_work_without_its_streams(
    home: Path, world: dict[str, str], store: Store, closed: str
) -> None:
    words = ["strategy", "create", "--name", "new", "--user", "a@example.org"]
    done = run(words, world, home, preexec_fn=closing(*CLOSED[closed]))
    assert (done.code, "Traceback" in done.text) == (0, False), done.text
    assert {row.name for row in store.list_strategies()} == {NAME, "new"}
    done = run(["status"], world, home, preexec_fn=closing(*CLOSED[closed]))
    assert (done.code, "Traceback" in done.text) == (1, False), done.text
    for path in home.rglob("*"):
        assert path.suffix != ".lock" or b"sparky" not in path.read_bytes()


@pytest.mark.parametrize(
    "words",
    [["strategy", "list"], ["trades", "--json"], ["--help"], ["--version"]],
)
def test_an_answer_that_finds_no_room_is_an_error_in_one_line(
    home: Path, world: dict[str, str], words: list[str]
) -> None:
    with Path(FULL).open("wb") as full:
        done = run(words, world, home, stdout=full)
    assert (done.code, done.stderr.count(b"\n"), "Traceback" in done.text) == (1, 1, False), done.text
    assert b"No space left on device" in done.stderr


def test_a_sentence_on_stderr_that_finds_no_room_changes_no_exit_code(home: Path, world: dict[str, str]) -> None:
    with Path(FULL).open("wb") as full:
        assert run(["credentials", "set", "webhook", "--new"], world, home, stderr=full).code == 0
        assert run(["status"], world, home, stderr=full).code == 1
        assert run(["upp"], world, home, stderr=full).code == 2
        assert run(["status"], world | {"SPARKY_LLM_RPM": "0"}, home, stderr=full).code == 78
        assert run(["strategy", "list"], world, home, stdout=full, stderr=full).code == 1


@pytest.mark.parametrize("words", [["strategy", "list"], ["status"], ["--help"]])
def test_a_reader_that_has_gone_is_no_failure(home: Path, world: dict[str, str], words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    usual = run(words, world, home)
    done = run(words, world, home, stdout=writer)
    os.close(writer)
    assert (done.code, done.stderr) == (usual.code, usual.stderr)


def test_the_first_line_is_enough_for_head(home: Path, world: dict[str, str]) -> None:
    line = f"{' '.join(f'{chr(39)}{word}{chr(39)}' for word in SPARKY)} decisions show 11111111 --json | head -1; "
    shell = subprocess.run(
        ["/bin/bash", "-c", line + 'echo "${PIPESTATUS[0]}"'], env=world, cwd=home, capture_output=True, check=True
    )
    assert shell.stdout.split() == [b"{", b"0"]
    assert shell.stderr == b""


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_the_whole_answer(
    home: Path, world: dict[str, str], store: Store
) -> None:
    user = store.ensure_user("a@example.org")
    for number in range(70):
        store.create_strategy(_large(user, number))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4_096)
    told: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb") as file:
            told.append(file.read())

    thread = threading.Thread(target=read)
    thread.start()
    done = run(["strategy", "list", "--json"], world, home, stdout=writer)
    os.close(writer)
    thread.join()
    assert (done.code, done.stderr) == (0, b"")
    assert len(json.loads(told[0])) == 71


def _large(user: Any, number: int) -> Any:
    from engine.store.people_rows import NewStrategy

    return NewStrategy(user_id=user, name=f"s{number}", custom_prompt="x" * 1_000)


# terminals


@pytest.mark.parametrize(
    ("columns", "more"),
    [
        (20, {"TERM": "dumb"}),
        (0, {"COLUMNS": "0", "NO_COLOR": "1"}),
        (80, {"COLUMNS": "many", "LINES": "-3", "TERM": ""}),
        (1, {"COLUMNS": "1", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    ],
)
def test_a_terminal_of_any_kind_gets_something(
    home: Path, world: dict[str, str], columns: int, more: dict[str, str]
) -> None:
    terminal = Terminal(columns)
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
    given = {"TERM": "xterm"} | world | more
    for words in (["strategy", "list"], ["status", "--once"], ["decisions", "list"]):
        assert run(words, given, home, **streams).code == COMMANDS.get(" ".join(words), ([], 1))[1]
    terminal.close()
    assert b"Traceback" not in terminal.told
    assert terminal.told.strip()


def test_a_question_without_a_terminal_names_the_option_and_waits_for_nobody(
    home: Path, world: dict[str, str], store: Store
) -> None:
    reader, writer = os.pipe()  # open, and nobody writes
    done = run(["strategy", "delete", NAME], world, home, stdin=reader)
    os.close(reader)
    os.close(writer)
    assert (done.code, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"--yes" in done.stderr
    assert [row.status for row in store.list_strategies()] == ["running"]


# what runs until it is told to stop


def started(sparky: Sparky, *words: str, **streams: Any) -> None:
    sparky.process = subprocess.Popen(
        [*SPARKY, *words], env=sparky.environ | {"PYTHONPATH": str(ROOT)}, cwd=sparky.home.parent, **streams
    )


def has_traded(sparky: Sparky) -> bool:
    with sparky.store() as store:
        return any(row.status == "delivered" for row in store.signals(limit=100))


def standard_streams(process: psutil.Process) -> set[str]:
    return {str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in (0, 1, 2)}


def stopped(sparky: Sparky) -> int:
    assert sparky.process is not None
    sparky.process.terminate()
    return sparky.process.wait(120)


def with_terminal(slave: int) -> Callable[[], None]:
    """For `preexec_fn`: a session of its own with this terminal, as at a login."""

    def take() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    return take


def test_up_starts_trades_and_stops_as_usual_without_its_streams() -> None:
    with short_directory() as root:
        tried = [closed for closed in CLOSED if closed != "<&-"]
        made = {closed: Sparky(root / f"h{number}", SPARKY_SIM_SPEED="120") for number, closed in enumerate(tried)}
        try:
            for closed, sparky in made.items():
                with sparky.log_path.open("wb") as log:
                    streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                    started(sparky, "up", **streams, preexec_fn=closing(*CLOSED[closed]))
            for closed, sparky in made.items():
                sparky.wait_for(partial(has_traded, sparky), f"a delivered signal with {closed}")
            wholly = made["<&- >&- 2>&-"]
            assert {name for process in wholly.family() for name in standard_streams(process)} <= {
                "/dev/null",
                str(wholly.home / "postgres.log"),
            }
            assert {closed: stopped(sparky) for closed, sparky in made.items()} == dict.fromkeys(tried, 0)
            assert (wholly.home / "run" / "supervisor.lock").read_text().isdigit()
            assert not any("child_died" in sparky.log() for sparky in made.values())
        finally:
            for sparky in made.values():
                sparky.close()


def test_up_goes_on_when_its_terminal_after_nohup_its_reader_or_its_disk_is_gone() -> None:
    terminal = Terminal(80)
    reader, writer = os.pipe()
    with short_directory() as root, Path(FULL).open("wb") as full:
        made = [Sparky(root / f"h{number}", SPARKY_SIM_SPEED="120", SPARKY_LOG_FORMAT="auto") for number in range(3)]
        try:
            on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
            started(made[0], "up", **on_terminal, preexec_fn=after_nohup(with_terminal(terminal.slave)))
            started(made[1], "up", stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
            started(made[2], "up", stdin=subprocess.DEVNULL, stdout=full, stderr=full)
            os.close(writer)
            for sparky in made:
                sparky.wait_for(lambda: sparky.json("status")["shared"], "the monitor")  # noqa: B023 - called here
            os.close(reader)
            terminal.hang_up()
            before = [_decided(sparky) for sparky in made]
            for sparky, decided in zip(made, before, strict=True):
                sparky.wait_for(lambda: _decided(sparky) > decided + 2, "decisions after that")  # noqa: B023 - as above
                sparky.wait_for(partial(has_traded, sparky), "a delivered signal after that")
            assert [stopped(sparky) for sparky in made] == [0, 0, 0]
        finally:
            for sparky in made:
                sparky.close()
            terminal.close()


def after_nohup(prepare: Callable[[], None]) -> Callable[[], None]:
    """As ``nohup`` starts a program: it is not to hear of its terminal's end."""

    def ignoring() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        prepare()

    return ignoring


@pytest.mark.parametrize("command", ["up", "serve"])
def test_what_a_terminal_runs_stops_in_order_when_it_hangs_up(database_url: str, command: str) -> None:
    terminal = Terminal(80)
    with short_directory() as root:
        sparky = Sparky(root / "home", DATABASE_URL=database_url)
        try:
            on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)
            started(sparky, command, **on_terminal, preexec_fn=with_terminal(terminal.slave))
            process = sparky.process
            assert process is not None
            sparky.wait_for(lambda: _answers(sparky), "the webhook server")
            terminal.hang_up()
            assert process.wait(60) == 0
        finally:
            sparky.close()
            terminal.close()


def _decided(sparky: Sparky) -> int:
    with sparky.store() as store:
        return len(store.decisions(limit=1_000))


@pytest.mark.parametrize("closed", [(), (2,)])
def test_serve_goes_on_after_nohup_when_its_terminal_is_gone(database_url: str, closed: Sequence[int]) -> None:
    terminal = Terminal(80)
    with short_directory() as root:
        sparky = Sparky(root / "home", DATABASE_URL=database_url)
        try:
            on_terminal = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)

            def prepare() -> None:
                after_nohup(with_terminal(terminal.slave))()
                closing(*closed)()

            started(sparky, "serve", **on_terminal, preexec_fn=prepare)
            process = sparky.process
            assert process is not None
            sparky.wait_for(lambda: _answers(sparky), "the webhook server")
            terminal.hang_up()
            wait_for(lambda: process.poll() is not None or not _is_pending(process.pid, signal.SIGHUP), "the signal")
            assert _answers(sparky)
            assert stopped(sparky) == 0
        finally:
            sparky.close()
            terminal.close()


def _answers(sparky: Sparky) -> bool:
    import requests

    return requests.get(f"{sparky.url('webhook')}/health", timeout=10).ok


def _is_pending(pid: int, number: int) -> bool:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(status["ShdPnd"], 16) | int(status["SigPnd"], 16)) >> (number - 1) & 1)
