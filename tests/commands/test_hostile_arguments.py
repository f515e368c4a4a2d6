"""What a command refuses, and what it dies of, is told in words only."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cli.conftest import Sparky, home, own_logging, shown, sparky
from tests.support.clients.sql import Sql
from tests.support.factories.hostile import HOSTILE, forged, unsafe

__all__ = ["home", "own_logging", "sparky"]

ROOT: Final = str(Path(__file__).parent.parent.parent)


@pytest.mark.parametrize(
    "arguments",
    [
        ("strategy", "show", HOSTILE),
        ("decisions", "show", HOSTILE),
        ("signals", "list", "--status", HOSTILE),
        ("trades", "--limit", HOSTILE),
        ("kill", "--user", HOSTILE),
        ("strategy", "create", "--from-json", HOSTILE),
        (HOSTILE,),
        ("positions", HOSTILE),
        (f"--{HOSTILE}",),
        ("trades", f"--{HOSTILE}"),
    ],
)
def test_a_refusal_repeats_no_argument_as_it_came(sparky: Sparky, arguments: tuple[str, ...]) -> None:
    result = sparky(*arguments)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert unsafe(shown(result)) == []
    assert forged(shown(result)) == []


def test_settings_that_cannot_be_used_are_told_in_words_only(sparky: Sparky) -> None:
    sparky.environment |= {"SPARKY_MARKET": HOSTILE, "GROQ_BASE_URL": HOSTILE, "SPARKY_LOG_LEVEL": HOSTILE}
    for command in (["doctor"], ["status"]):
        result = sparky(*command)
        assert unsafe(shown(result)) == []
        assert forged(shown(result)) == []


def test_a_database_that_speaks_in_escape_sequences_is_told_in_words_only(sparky: Sparky, sql: Sql) -> None:
    sql("drop function public.list_strategies()")
    raised = HOSTILE.replace("'", "''").replace("%", "%%")
    sql(
        "create function public.list_strategies() returns jsonb language plpgsql as "
        f"$$ begin raise exception '{raised}' using errcode = 'SK400'; end $$"
    )
    result = sparky("strategy", "list")
    assert result.exit_code == 1
    assert unsafe(shown(result)) == []
    assert result.stderr.count("\n") == 1


CRASHING: Final = """
import sys
from cli.app import app
from tests.support.factories.hostile import HOSTILE

@app.command()
def crash() -> None:
    raise RuntimeError(HOSTILE)

app(["crash"])
"""


def test_a_command_that_crashes_before_it_has_settings_tells_it_in_words_only(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHING], env=os.environ | {"PYTHONPATH": ROOT}, capture_output=True, check=False
    )
    text = done.stderr.decode()
    assert done.returncode == 1
    assert "RuntimeError: [bold]x[/b]" in text
    assert unsafe(text) == []
    assert forged(text) == []
