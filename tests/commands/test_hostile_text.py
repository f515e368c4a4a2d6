"""Every command over a database whose every text is hostile: nothing reaches the terminal but words."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pykka
import pytest
import typer
from rich.cells import cell_len

from actors import messages
from cli.app import app
from engine.admin.strategy_checks import NewStrategy
from engine.store.store import Store
from tests.cli.conftest import Sparky, home, own_logging, shown, sparky
from tests.support.clients.sql import Sql
from tests.support.factories.hostile import HOSTILE, ORDINARY, forged, unsafe
from tests.support.factories.hostile_rows import DECISION, fill_with_hostile_text
from tests.support.factories.monitored import Running, child, cycle, report

__all__ = ["home", "own_logging", "sparky"]

ROOT: Final = str(Path(__file__).parent.parent.parent)
MARK: Final = "[bold]x[/b]:smile:"


@pytest.fixture
def hostile(store: Store, sql: Sql) -> Sql:
    fill_with_hostile_text(store, sql)
    return sql


# How each command is given what it needs. A new command must be added to one of the three.
READS: Final[dict[str, tuple[str, ...]]] = {
    "strategy list": (),
    "strategy show": ("{strategy}",),
    "credentials list": (),
    "decisions list": (),
    "decisions show": (str(DECISION),),
    "signals list": (),
    "signals show": (str(DECISION),),
    "status": ("--once",),
    "doctor": (),
    "positions": (),
    "trades": (),
    "kill": ("--show",),
    "reconcile": (),
    "version": (),
    "migrate": (),
}
WRITES: Final[dict[str, tuple[str, ...]]] = {
    "strategy start": ("{strategy}",),
    "strategy pause": ("{strategy}",),
    "strategy restart": ("{strategy}",),
    "signals retry": (str(DECISION),),
    "signals drop": (str(DECISION), "--reason", HOSTILE),
    "credentials rotate": (),
    "credentials set": (HOSTILE, "--user", HOSTILE),
    "strategy create": ("--name", HOSTILE, "--user", HOSTILE),
    "strategy delete": ("{strategy}",),
}
RUNS: Final = {"up", "supervise", "serve"}


def leaves(group: Any, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{name} ")
        else:
            yield before + name


def words(command: str, arguments: tuple[str, ...], strategy: str) -> list[str]:
    return [*command.split(), *(each.replace("{strategy}", strategy) for each in arguments)]


@pytest.fixture
def monitor(home: Path, sparky: Sparky) -> Iterator[Running]:
    running = Running(home)
    sparky.environment["SPARKY_MONITOR_PORT"] = str(running.port)
    yield running
    running.actor.close(1)
    pykka.ActorRegistry.stop_all()


@pytest.fixture
def at_width(sparky: Sparky, request: pytest.FixtureRequest) -> Sparky:
    """The command at a terminal of that many columns without colours, so that every escape sequence is foreign."""
    size = {"COLUMNS": str(request.param), "LINES": "50", "TERM": "dumb", "FORCE_COLOR": "1"}
    sparky.environment |= size
    return sparky


def test_every_command_is_tried_with_hostile_text() -> None:
    assert {*READS, *WRITES, *RUNS} == set(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("at_width", [80, 100, 160], indirect=True)
def test_what_is_read_is_words_only_at_every_width(at_width: Sparky, hostile: Sql) -> None:
    ((strategy,),) = hostile("select id::text from ai_strategies")
    for command, arguments in READS.items():
        result = at_width(*words(command, arguments, strategy))
        assert result.exit_code == int(command in ("status", "doctor", "reconcile")), (
            command,
            result.output,
            result.exception,
        )
        assert unsafe(shown(result)) == [], command
        assert forged(shown(result)) == [], command
        width = int(at_width.environment["COLUMNS"])
        if command.endswith("list") or command in ("positions", "trades", "kill", "reconcile"):
            assert all(cell_len(line) <= width for line in shown(result).split("\n")), command
            assert width < 160 or "[bold]" in shown(result), (command, result.output)


def test_the_words_of_hostile_text_are_seen_as_they_were_written(sparky: Sparky, hostile: Sql) -> None:
    ((strategy,),) = hostile("select id::text from ai_strategies")
    for command in set(READS) - {"version", "migrate"}:
        assert MARK in shown(sparky(*words(command, READS[command], strategy))), command


def test_json_keeps_all_the_data_and_escapes_it(sparky: Sparky, hostile: Sql) -> None:
    ((strategy,),) = hostile("select id::text from ai_strategies")
    for command, arguments in READS.items():
        result = sparky(*words(command, arguments, strategy), "--json")
        text = result.stdout_bytes.decode()
        assert text.isascii(), command
        assert unsafe(shown(result)) == [], command
        data = json.loads(text)
        assert command in ("version", "migrate", "doctor") or HOSTILE in strings(data), command


def strings(data: object) -> list[str]:
    if isinstance(data, dict):
        return [*data, *(each for value in data.values() for each in strings(value))]
    if isinstance(data, list):
        return [each for value in data for each in strings(value)]
    return [data] if isinstance(data, str) else []


def test_what_changes_rows_tells_it_in_words_only(sparky: Sparky, hostile: Sql) -> None:
    ((strategy,),) = hostile("select id::text from ai_strategies")
    for command, arguments in WRITES.items():
        result = sparky(*words(command, arguments, strategy), stdin="n\n")
        assert unsafe(shown(result)) == [], command
        assert forged(shown(result)) == [], command
        assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), command


def test_an_old_name_that_breaks_the_rule_never_hinders_pausing_or_ending_its_strategy(
    sparky: Sparky, hostile: Sql
) -> None:
    ((strategy,),) = hostile("select id::text from ai_strategies")
    for verb, status in (("start", "running"), ("pause", "paused"), ("delete", "terminated")):
        sparky.ok("strategy", verb, strategy, *(["--yes"] if verb == "delete" else []))
        assert hostile("select status from ai_strategies") == [(status,)]


def test_status_shows_what_the_monitor_was_told_in_words_only(sparky: Sparky, hostile: Sql, monitor: Running) -> None:
    ((strategy,),) = hostile("select id::text from ai_strategies")
    name = f"strategy-{strategy}"
    monitor.tell(
        report(child("market", "backoff", title=HOSTILE), child(name, kind="strategy", title=HOSTILE)),
        cycle(strategy_id=strategy, name=HOSTILE, symbol=HOSTILE, outcome="fault", reason=HOSTILE),
        messages.LimiterState(
            model=HOSTILE,
            queue_length=0,
            oldest_wait_s=0,
            used={HOSTILE: 1},
            limit={HOSTILE: 2},
            need_rpm=1,
            gone=HOSTILE,
            account_refused=HOSTILE,
            refused_by=HOSTILE,
            refused_until=9e9,
        ),
        messages.MarketFetched(venue=HOSTILE, symbol=HOSTILE, interval="1m", outcome="ok", duration_s=0.1),
    )
    for words_ in (["status", "--once"], ["status", "--json"], ["doctor"]):
        result = sparky(*words_)
        assert unsafe(shown(result)) == [], words_
        assert forged(shown(result)) == [], words_
        assert MARK in shown(result)
    for path in ("/healthz", "/status", "/metrics"):
        text = monitor.get(path).content.decode()
        assert unsafe(text) == [], path
        assert MARK in text, path
    assert monitor.samples()


def test_ordinary_text_of_every_language_is_shown_as_it_is(sparky: Sparky, store: Store) -> None:
    name = ORDINARY
    sparky.ok("strategy", "create", "--name", name, "--prompt", f"{ORDINARY}\nsecond line")
    assert name in sparky.ok("strategy", "list")
    told = sparky.ok("strategy", "show", name)
    assert f"{ORDINARY}\n" in told
    assert "second line" in told


@pytest.mark.parametrize("at_width", [80, 100, 160], indirect=True)
def test_columns_stay_straight_behind_wide_combining_and_long_names(at_width: Sparky, store: Store, sql: Sql) -> None:
    user = store.ensure_user("a@example.org")
    for name in ("plain", "漢字漢字", "e\u0301" * 4, "🚀🚀", "x" * 100, "漢" * 100):
        store.create_strategy(NewStrategy(user_id=user, name=name))
    lines = at_width.ok("strategy", "list").split("\n")
    starts = {cell_len(line[: line.index("paused")]) for line in lines if " paused " in line and line[0] != " "}
    (header,) = [line for line in lines if "status" in line]
    assert starts == {header.index("status")}
    assert sum(" paused " in line and line[0] != " " for line in lines) == 6
    assert all(cell_len(line) <= int(at_width.environment["COLUMNS"]) for line in lines)
    assert all(word in "\n".join(lines) for word in ("10,000.00", "45", "漢字漢字", "xxxxxxx"))


@pytest.mark.parametrize("command", [("strategy", "list"), ("decisions", "list"), ("kill", "--show")])
def test_a_terminal_gets_the_escape_sequences_of_our_own_styles_only(
    sparky: Sparky, hostile: Sql, command: tuple[str, ...]
) -> None:
    text = on_a_terminal(sparky, "import cli.main; cli.main.main()", *command)
    assert "\x1b[1m" in text  # it takes the terminal for one
    assert unsafe(re.sub("\x1b\\[[0-9;]*m", "", text)) == []
    assert forged(text) == []
    assert "[bold" in text


def on_a_terminal(sparky: Sparky, program: str, *words_: str) -> str:
    """What a terminal of 100 columns gets of a command that runs on it."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": "100", "LINES": "50", "TERM": "xterm", "PYTHONPATH": ROOT}
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words_],
        env=os.environ | sparky.environment | size,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # so the end of a terminal is told
        while more := os.read(ours, 65_536):
            written += more
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode().replace("\r\n", "\n")
