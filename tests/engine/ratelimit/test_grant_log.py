"""The limiter's journal: what was granted is still counted by the next process, whatever became of the last one."""

import subprocess
import sys
import time
from pathlib import Path

from engine.ratelimit.grant_log import GrantLog, GrantRecord

ROOT = Path(__file__).parents[3]


def journal_of(home: Path) -> Path:
    return home / "state" / "permits.journal"


def test_grants_of_a_killed_process_are_found_by_the_next(tmp_path: Path) -> None:
    first, now = GrantLog(tmp_path), time.monotonic()
    assert first.open() == []
    first.append("openai/gpt-oss-120b", now - 5, 900)
    first.append("a model with spaces", now - 4, 100)
    found = GrantLog(tmp_path)  # the first one never closed its file
    assert [(sent.model, sent.tokens, sent.requests) for sent in found.open()] == [
        ("openai/gpt-oss-120b", 900, 1),
        ("a model with spaces", 100, 1),
    ]
    first.close()
    found.close()


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    journal = GrantLog(tmp_path)
    journal.open()
    journal.append("m", time.monotonic(), 1)
    journal.close()
    with journal_of(tmp_path).open("a") as file:
        file.write("4c1e 12")
    again = GrantLog(tmp_path)
    assert len(again.open()) == 1
    again.close()
    assert "4c1e" not in journal_of(tmp_path).read_text()


def test_after_a_reboot_the_wall_clock_tells_how_long_ago_it_was(tmp_path: Path) -> None:
    journal_of(tmp_path).parent.mkdir(parents=True)
    unix = time.time()
    lines = [
        f"another-boot 999999999.0 {unix - 30:.3f} 500 1 m",
        f"another-boot 999999998.0 {unix + 3600:.3f} 1 1 m",  # the clock was set back meanwhile
        f"another-boot 1.0 {unix - 100_000:.3f} 2 1 m",
    ]
    journal_of(tmp_path).write_text("\n".join(lines) + "\n")
    journal = GrantLog(tmp_path)
    now = time.monotonic()
    found = journal.open()
    journal.close()
    assert [sent.tokens for sent in found] == [500, 1]
    assert 25 < now - found[0].at < 60
    assert found[1].at <= time.monotonic()


def test_what_only_a_day_counts_is_added_up_by_minute(tmp_path: Path) -> None:
    journal = GrantLog(tmp_path)
    journal.open()
    now = time.monotonic()
    minute = (now // 60) * 60 - 3_600
    for second in range(50):
        journal.append("m", minute + second, 10)
    journal.append("m", now, 7)
    journal.close()
    again = GrantLog(tmp_path)
    old, fresh = again.open()
    again.close()
    assert (old.requests, old.tokens) == (50, 500)
    assert abs(old.at - (minute + 49)) < 0.01
    assert fresh == GrantRecord("m", fresh.at, 7, 1)


def test_a_grant_counts_with_what_it_used_once_that_is_known(tmp_path: Path) -> None:
    journal, now = GrantLog(tmp_path), time.monotonic()
    journal.open()
    for second in range(4):
        journal.append("m", now - second, 3_000)
    journal.append("m", now - 3, -2_100, 0)  # used 900
    journal.append("m", now - 2, -3_000, -1)  # never left
    journal.close()
    again = GrantLog(tmp_path)
    assert [(sent.tokens, sent.requests) for sent in again.open()] == [(900, 1), (3_000, 1), (3_000, 1)]
    again.close()


def test_what_one_provider_was_asked_is_nothing_to_another(tmp_path: Path) -> None:
    standin = GrantLog(tmp_path, "http://127.0.0.1:3901")
    standin.open()
    standin.append("m", time.monotonic(), 3_000)
    standin.close()
    groq, again = GrantLog(tmp_path), GrantLog(tmp_path, "http://127.0.0.1:3901")
    assert groq.open() == []
    assert len(again.open()) == 1
    groq.close()
    again.close()


FULL_DISK = """
import pathlib, resource, sys, time
from engine.ratelimit.grant_log import GrantLog
home, now = pathlib.Path(sys.argv[1]), time.monotonic()
path = home / "state" / "permits.journal"
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
journal = GrantLog(home)
journal.open()
journal.append("m", now, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
journal.append("m", now, 2)
journal.append("m", now, 4)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
during = GrantLog(home)
assert sum(sent.tokens for sent in during.open()) == 1
assert not during.is_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.append("m", now, 8)
after = GrantLog(home)
assert sum(sent.tokens for sent in after.open()) == 15
assert after.is_whole
"""


def test_what_a_full_disk_did_not_take_is_written_as_soon_as_it_does(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


FULL_FROM_THE_START = """
import pathlib, resource, sys, time
from engine.ratelimit.grant_log import GrantLog
home, began_at = pathlib.Path(sys.argv[1]), time.monotonic()
path = home / "state" / "permits.journal"
before = GrantLog(home)
before.append("m", began_at, 1)
before.close()
with path.open("a") as file:
    file.write("torn")
held = path.read_text()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
journal = GrantLog(home)
journal.open()
for granted in range(1, 5_000):
    journal.append("m", began_at - granted / 100, 1)
    if granted == 200:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if granted > 200:
        if path.read_text() != held:
            break
        time.sleep(0.02)
assert path.read_text().count(' 1 1 "m"') == granted + 1
print("elapsed", time.monotonic() - began_at)
"""


def test_a_disk_that_stays_full_is_told_once_and_not_asked_at_every_grant(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_FROM_THE_START, str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("permit_journal_not_written") == 1
    assert done.stdout.count("permit_journal_recovered") == 1
    elapsed_s = float(done.stdout.split()[-1])
    assert done.stdout.count("permit_journal_line_ignored") <= elapsed_s + 2, "read at more than each second's grant"
