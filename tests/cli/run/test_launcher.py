from dataclasses import replace
from pathlib import Path

import pytest

from actors.runtime.child_spec import ChildSpec, RestartPolicy
from actors.runtime.restart_policy import Child, ChildState
from cli.run import launcher, process_plan
from cli.run.progress import StartupProgress
from engine.platform.settings.process_settings import ProcessSettings
from engine.platform.settings.settings import read_environment


def shown(**environment: str) -> str:
    settings = read_environment({"SPARKY_HOME": "/tmp/spk"} | environment)  # noqa: S108 - a name only
    return launcher.build_startup_banner(
        settings, process_plan.resolve_endpoints(settings), "sparky up", "Look around."
    )


def test_the_header_says_honestly_what_is_simulated() -> None:
    text = shown()
    assert "stand-in, not a model" in text
    assert "simulated Aster on synthetic candles" in text
    assert "embedded PostgreSQL" in text
    assert "candles of" in shown(SPARKY_CANDLES="BTCUSDT.csv", SPARKY_SIM_SPEED="600")


@pytest.mark.parametrize("name", ["GROQ_API_KEY", "DATABASE_URL"])
def test_the_header_names_real_services_and_no_secret(name: str) -> None:
    text = shown(**{"GROQ_API_KEY": "k", name: "postgresql://me:hunter2hunter2@h/d"})
    assert "hunter2" not in text
    assert "at Groq" in text
    assert "aster, live" in text


def test_what_a_child_said_before_it_could_not_run_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "monitor.txt").write_text("Port 9108 is taken.")
    spec = ChildSpec("monitor", "actors.monitor.actor:make", "actor", 0, ProcessSettings())
    progress = StartupProgress(["monitor"], tmp_path)
    child = Child(spec, 0)
    child.state = ChildState.PARKED
    progress(child)
    assert progress.reason == "Port 9108 is taken."


def test_the_hint_is_what_must_be_typed_from_the_same_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    spaced = "/tmp/a b"  # noqa: S108
    assert "terminal: .venv/bin/sparky status." in launcher.build_status_hint(".venv/bin/sparky")
    assert "SPARKY_HOME='/tmp/a b' .venv/bin/sparky status" in launcher.build_status_hint(
        ".venv/bin/sparky", Path(spaced)
    )


@pytest.mark.parametrize(("is_dynamic", "word"), [(False, "ready"), (True, "")])
def test_only_a_task_that_ended_by_itself_is_ready_when_it_is_done(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_dynamic: bool
) -> None:
    spec = ChildSpec("one", "x:make", "actor", 0, ProcessSettings(), restart=RestartPolicy.TRANSIENT)
    child = Child(replace(spec, is_dynamic=is_dynamic), 0)
    child.state = ChildState.DONE
    StartupProgress(["one"], tmp_path)(child)
    assert capsys.readouterr().out.count("ready") == (word == "ready")


def test_what_a_child_said_last_is_told_by_its_error_and_not_by_what_a_library_adds_to_it() -> None:
    told = 'Traceback:\n  File "a.py", line 1, in f\n    g()\n    ^^^\nValueError: 1 fault\nrow\n  x [y]'
    assert launcher.find_first_error_line(told) == "ValueError: 1 fault"
    assert launcher.find_first_error_line("The port is taken.\n") == "The port is taken."
    assert not launcher.find_first_error_line("")
