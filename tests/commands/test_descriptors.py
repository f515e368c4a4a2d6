"""Commands whose standard streams are closed, full, left by their reader or no terminal: their work is done."""

import fcntl
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.store.store import Store
from tests.support.processes.commands import COMMANDS, NAME, SPARKY, environment, run, write_the_world
from tests.support.processes.descriptors import CLOSED, FULL, closing
from tests.support.processes.directories import short_directory
from tests.support.processes.terminal import Terminal


@pytest.fixture
def home() -> Iterator[Path]:
    with short_directory() as root:
        yield root


@pytest.fixture
def world(home: Path, database_url: str, store: Store) -> dict[str, str]:
    """The environment of a home whose database holds something to tell."""
    write_the_world(store)
    return environment(home, database_url)


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
    from engine.admin.strategy_checks import NewStrategy

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
