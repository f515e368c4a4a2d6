"""The command line as a person uses it, on a database and a directory of its own."""

import json
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from cli.app import app
from engine.platform.settings.settings import Settings


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands configure logging for their whole process, which here is everybody's."""
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait longer for what they ask than people would: a busy machine is no finding of theirs."""
    for limit in ("running_instance.TIMEOUT_S", "doctor.account_checks.TIMEOUT_S", "doctor.checks.TIMEOUT_S",
                  "doctor.position_checks.WEBHOOK_TIMEOUT_S", "status.status.DATABASE_TIMEOUT_S"):  # fmt: skip
        monkeypatch.setattr(f"cli.{limit}", 60.0)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state directory, which is the working directory too: no `.env` of the machine is read."""
    with tempfile.TemporaryDirectory(prefix="spk-", dir="/tmp") as name:
        monkeypatch.chdir(name)
        yield Path(name)


class Sparky:
    """The command with a settled environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict.fromkeys((name.upper() for name in Settings.model_fields), "") | dict(environment)

    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        """Raises what the command itself would crash by."""
        return CliRunner().invoke(
            app, list(words), env=self.environment, input=stdin, prog_name="sparky", catch_exceptions=False
        )

    def ok(self, *words: str, stdin: str | None = None) -> str:
        done = self(*words, stdin=stdin)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def refused(self, *words: str, stdin: str | None = None, code: int = 1) -> str:
        """The one sentence on stderr."""
        done = self(*words, stdin=stdin)
        assert done.exit_code == code, done.output
        assert done.stdout == ""
        assert done.stderr.startswith("sparky: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("sparky: ").strip()


@pytest.fixture
def sparky(home: Path, database_url: str) -> Sparky:
    return Sparky({"SPARKY_HOME": str(home), "DATABASE_URL": database_url})


def shown(result: Result) -> str:
    """Every byte that was written, as a terminal gets it."""
    return result.stdout_bytes.decode() + result.stderr_bytes.decode()
