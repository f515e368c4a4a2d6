"""What starts Sparky never gives up for good after an outage, and leaves the stop of its children to the supervisor."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

OPS = Path(__file__).parents[2] / "ops"
UNITS = sorted((OPS / "systemd").glob("*.service"))
WAITS_FOR_A_PERSON = "78"
ANALYZE = shutil.which("systemd-analyze")


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # systemd's names have capitals
    parser.read(path)
    return parser


def seconds(text: str) -> float:
    return float("inf") if text == "infinity" else float(text)


def options() -> dict[str, str]:
    """What the two applications of the PM2 file have in common, as it is written there."""
    text = (OPS / "pm2" / "ecosystem.config.js").read_text()
    common = text.partition("const common = {")[2].partition("};")[0]
    return dict(re.findall(r"^\s+(\w+): ([^/\n]+?),", common, re.MULTILINE))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_started_again_however_often_it_has_failed(path: Path) -> None:
    found = unit(path)
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    assert "StartLimitBurst" not in found["Unit"]
    assert found["Service"]["Restart"] == "always"
    assert 1 <= seconds(found["Service"]["RestartSec"]) <= 10


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_waits_for_a_person_after_a_fault_of_the_configuration_alone(path: Path) -> None:
    assert unit(path)["Service"]["RestartPreventExitStatus"].split() == [WAITS_FOR_A_PERSON]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_an_engine_that_waits_is_not_killed_for_it(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["Type"] == "exec" or service["TimeoutStartSec"] == "infinity"


def test_systemd_tells_the_supervisor_alone_to_stop_and_survives_a_child_that_the_kernel_killed() -> None:
    service = unit(OPS / "systemd" / "sparky.service")["Service"]
    assert service["KillMode"] == "mixed"
    assert service["OOMPolicy"] == "continue"
    assert seconds(service["TimeoutStopSec"]) >= 60


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_understands_every_line(path: Path, tmp_path: Path) -> None:
    assert ANALYZE is not None
    text = re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", path.read_text(), flags=re.MULTILINE)
    copy = tmp_path / path.name
    copy.write_text(text.replace("file:/opt/sparky", "file:/usr"))
    done = subprocess.run([ANALYZE, "verify", copy], check=False, capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if copy.name in line], done.stderr


def test_pm2_tries_for_ever_and_waits_for_a_person_after_a_fault_of_the_configuration_alone() -> None:
    found = options()
    assert found["autorestart"] == "true"
    assert found["stop_exit_codes"] == f"[{WAITS_FOR_A_PERSON}]"
    # 16 unless it is set; 0 would allow none, and Infinity becomes null on its way to PM2's daemon.
    assert int(found["max_restarts"].replace("_", "")) >= 1_000_000_000
    assert int(found["exp_backoff_restart_delay"]) > 0


def test_pm2_tells_the_supervisor_alone_to_stop() -> None:
    assert options()["treekill"] == "false"


def test_a_full_stop_is_never_cut_short_by_pm2() -> None:
    text = (OPS / "pm2" / "ecosystem.config.js").read_text()
    assert [int(found) for found in re.findall(r"kill_timeout: (\d+)", text)] == [30000, 60000]
