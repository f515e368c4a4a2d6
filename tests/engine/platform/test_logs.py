"""Logging is a property of a whole process, so each test runs one."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.factories.hostile import HOSTILE, forged, unsafe

PRELUDE = """
import logging, threading, warnings
import structlog
from pydantic import SecretStr
from engine.platform import logs
"""


def logged(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


def events(program: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(program).splitlines()]


def test_one_event_is_one_json_line_with_the_ids_that_were_bound_once() -> None:
    [event] = events(
        """
        logs.configure("info", "auto", "strategy-1")
        with structlog.contextvars.bound_contextvars(strategy="s", cycle=7):
            structlog.get_logger().info("decided", action="LONG", note="two\\nlines")
        structlog.get_logger().debug("unseen")
        """
    )
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "info",
        "actor": "strategy-1",
        "event": "decided",
        "strategy": "s",
        "cycle": 7,
        "action": "LONG",
        "note": "two\nlines",
    }


def test_stdlib_logging_warnings_and_uncaught_exceptions_go_the_same_way() -> None:
    found = events(
        """
        logs.configure("info", "json", "market")
        logging.getLogger("some.library").warning("slow %s", "gsk_abcdefgh")
        logging.getLogger("httpx").info("a request, which is no news")
        warnings.warn("old")
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start(); thread.join()
        raise ValueError("whsec_abcdefgh")
        """
    )
    assert [event["event"] for event in found] == ["slow gsk_[hidden]", "old", *["uncaught exception"] * 2]
    assert all(event["actor"] == "market" for event in found)
    assert [event["where"] for event in found[2:]] == ["worker", "main thread"]
    assert "ZeroDivisionError" in found[2]["exception"]
    assert found[3]["exception"].endswith("ValueError: whsec_[hidden]")


def test_tracebacks_and_fields_never_carry_a_secret_of_this_process() -> None:
    text = logged(
        """
        secret = SecretStr("correct horse battery")
        logs.configure("info", "json", None, [secret])
        try:
            raise RuntimeError("refused: correct horse battery")
        except RuntimeError:
            structlog.get_logger().exception("failed", why={"deep": ["correct horse battery"]}, given=secret)
        """
    )
    assert "correct horse" not in text
    assert json.loads(text)["exception"].endswith("RuntimeError: refused: [hidden]")


def test_the_console_form_is_one_readable_line_with_short_ids() -> None:
    line = logged(
        """
        logs.configure("info", "console", "strategy-0b7d6f4e-0b7d-4f4e-8b7d-0b7d6f4e0b7d")
        structlog.get_logger().info("signal_delivered", symbol="BTCUSDT", price=22000.12345, api_key="abc")
        """
    ).rstrip("\n")
    assert "\n" not in line
    assert "\x1b" not in line
    assert "strategy-0b7d6f4e signal delivered" in line
    assert line.endswith("symbol=BTCUSDT price=22000.1 api_key=[hidden]")


DERIVED = "body/b0400826405b77aa10c5b0400826405b77aa10c5"


@pytest.mark.parametrize("signal", [DERIVED, f"{DERIVED}/1795787483.052-58b77615"])
def test_the_id_that_was_derived_from_a_body_is_short_on_the_console_and_whole_in_json(signal: str) -> None:
    program = f"""
        logs.configure("info", {{!r}})
        structlog.get_logger().info("signal_executed", symbol="BTCUSDT", signal={signal!r}, url="/body/{"a" * 40}x")
        """
    shown = logged(program.format("console")).rstrip("\n")
    assert shown.endswith(f"symbol=BTCUSDT url=/body/{'a' * 40}x signal=body/b0400826")
    [event] = events(program.format("json"))
    assert event["signal"] == signal


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_holds_for_both_kinds_of_loggers(level: str) -> None:
    program = f"""
        logs.configure({level!r}, "json")
        for name in ("debug", "info", "warning", "error"):
            getattr(structlog.get_logger(), name)(name)
            getattr(logging.getLogger("library"), name)(name)
        """
    order = ["debug", "info", "warning", "error"]
    expected = [name for name in order[order.index(level) :] for _ in range(2)]
    assert [event["event"] for event in events(program)] == expected


def test_a_reader_that_went_away_stops_nobody() -> None:
    program = """
        import os, sys
        logs.configure("info", "json")
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.close(reading); os.close(writing)
        structlog.get_logger().info("nobody hears this")
        """
    assert logged(program) == ""


def test_concurrent_processes_never_mix_their_lines() -> None:
    found = events(
        """
        import os
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                logs.configure("info", "json", f"child-{child}")
                for number in range(200):
                    structlog.get_logger().info("line", number=number, padding="x" * 500)
                os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        """
    )
    assert len(found) == 800


HOSTILE_EVENT = """
        import os
        from tests.support.factories.hostile import HOSTILE
        logs.configure("info", os.environ["FORM"], HOSTILE)
        structlog.get_logger().info(HOSTILE, name=HOSTILE, deep={HOSTILE: [HOSTILE]}, **{HOSTILE: "value"})
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            structlog.get_logger().exception("failed")
        logging.getLogger("library").warning("said %s", HOSTILE)
        warnings.warn(HOSTILE)
        raise RuntimeError(HOSTILE)
        """


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_text_of_others_commands_the_reader_of_a_log_or_forges_a_line_of_it(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORM", form)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    text = logged(HOSTILE_EVENT)
    assert unsafe(text) == []
    assert forged(text) == []
    assert "FORGED" in text


def test_the_json_form_loses_nothing_of_what_it_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORM", "json")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    found = events(HOSTILE_EVENT)
    assert len(found) == 5
    assert found[0]["name"] == found[0]["event"] == found[0]["actor"] == HOSTILE
    assert found[0]["deep"] == {HOSTILE: [HOSTILE]}


def test_the_lines_of_a_traceback_are_marked_as_belonging_to_their_event() -> None:
    first, *rest = logged(
        """
        logs.configure("info", "console")
        raise ValueError("12:00:00 x supervisor        all is lost")
        """
    ).splitlines()
    assert "uncaught exception" in first
    assert rest
    assert all(line.startswith("  | ") for line in rest)
