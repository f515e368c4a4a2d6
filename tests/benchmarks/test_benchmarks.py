"""Every benchmark of `make bench` runs to its end and prints figures that can be; how fast it was is not asked."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0


def run_small(name: str) -> str:
    """What the benchmark prints at its smallest size. It leads a group of its own, which ends with the test.

    Coverage is not counted in it: what it runs has tests of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", "--small"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith(("SPARKY_", "GROQ_", "COVERAGE_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == 0, complaints
    return printed


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_make_bench_runs_every_benchmark() -> None:
    wanted = re.findall(r"-m benchmarks\.(\w+)", (ROOT / "Makefile").read_text())
    assert set(wanted) == {path.stem for path in (ROOT / "benchmarks").glob("*.py")}


def test_an_entry_goes_through_files_by_jumps_between_them() -> None:
    found = re.search(r"^(\d+) files, (\d+) jumps between them, (\d+) calls$", run_small("entry_path"), re.MULTILINE)
    assert found is not None
    files, jumps, calls = map(int, found.groups())
    assert 10 < files <= jumps + 1 <= calls


def test_a_limiter_that_is_not_busy_lets_two_strategies_keep_their_cadence() -> None:
    lines = run_small("limiter").splitlines()
    (row,) = (line.split() for line in lines if line.split()[:1] == ["2"])
    need, use, most, missed, jain = (float(row[index].rstrip("%")) for index in (1, 2, 3, 7, 10))
    assert need == pytest.approx(2 * 60 / 45, abs=0.05)
    assert (missed, 0 < use < 100, 0 < most <= 30, 0.9 < jain <= 1) == (0, True, True, True)
    costs = [[float(figure) for figure in line.split()[1:]] for line in lines if line.startswith("openai/")]
    assert costs
    assert all(0 < each < cached < fresh for each, fresh, cached in costs)


def test_the_costs_of_an_entry_weigh_more_with_a_deeper_book_and_nothing_once_they_are_known() -> None:
    rows = [cells(line) for line in run_small("entry_costs").splitlines()[2:]]
    assert [venue for venue, *_ in rows] == ["aster"] * 4 + ["binance"] * 4
    for four in (rows[:4], rows[4:]):
        _, now, deep, alone = (float(row[2]) for row in four)
        assert 0 == alone < now < deep
        assert all(0 < float(row[3]) <= float(row[4]) for row in four)


def test_a_cycle_has_pages_of_its_own() -> None:
    head, row = run_small("memory").splitlines()
    assert head.split()[0] == "cycles"
    cycles, private_kb, *kinds = (int(figure) for figure in row.split()[:5])
    assert (cycles, private_kb) == (1, sum(kinds))
    assert 1_000 < private_kb < 200_000


def test_signals_become_fills_paced_and_at_once() -> None:
    rows = {cells(line)[0]: [float(cell) for cell in cells(line)[1:]] for line in table(run_small("execution"))}
    assert {name: row[0] for name, row in rows.items()} == {"paced, 10/s": 10, "saturated": 6}
    for _, per_s, median_ms, late_ms, max_ms in rows.values():
        assert per_s > 0
        assert 0 < median_ms <= late_ms <= max_ms


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("|")][2:]


def test_two_strategies_start_tick_and_stop_as_a_thousand_do() -> None:
    rows = [re.split(r"\s{2,}", line) for line in run_small("scale").splitlines()]
    found = {row[0]: row[-1] for row in rows}
    assert (found["strategies"], found["restarts"]) == ("2", "0")
    assert int(found["ticks watched"]) >= 1
    assert found["stopped in, exit code"].endswith(", 0")
    assert 0 < float(found["private memory of all strategies"].removesuffix(" MiB")) < 500
