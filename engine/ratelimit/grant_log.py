"""The limiter's grants, saved on disk: a restarted limiter must not grant the same minute twice."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from engine.platform import atomic_file
from engine.platform.processes import boot_id
from engine.ratelimit.scheduler import DAY_S, MARGIN_S, MINUTE_S

logger = structlog.get_logger()

_LINES_BEFORE_REWRITE: Final = 10_000
_REOPEN_AFTER_S: Final = 1.0  # each attempt reads the whole file


class GrantRecord(NamedTuple):
    """`requests` that were granted up to monotonic `at`, for `tokens` together."""

    model: str
    at: float
    tokens: int
    requests: int = 1


class GrantLog:
    """An append-only file: boot, monotonic and Unix seconds, tokens, requests and model of each grant.

    The model is JSON in ASCII, so that a grant is one line whatever its model is called; older versions wrote it bare.

    A grant counts with its whole reservation until a second line of the same time corrects it by what was used. Within
    one boot the monotonic time counts, which no change of the wall clock moves; after a reboot the Unix time. Each
    `provider` (its address, None for Groq's own) has a file of its own, since each has limits of its own.
    """

    def __init__(self, home: Path, provider: str | None = None) -> None:
        self._path = atomic_file.of_provider(home / "state" / "permits.journal", provider)
        self._boot = boot_id()
        self._file: FileIO | None = None
        self._lines = 0
        self._unwritten: list[GrantRecord] = []
        self._is_torn = False
        self._is_written = True
        self._reopen_at = 0.0
        self.is_whole = True

    def open(self) -> list[GrantRecord]:
        """The grants of the last day, oldest first; the file is rewritten with only those.

        When it cannot be (the disk is full), `is_whole` is False: the process before may have made grants that it could
        not write either.
        """
        self.close()
        now = time.monotonic()
        recent = list(_merge_by_minute(_merge_by_moment(self._read_recent(now, time.time())), now))
        try:
            self._rewrite(recent)
            self.is_whole = True
            self._log_fault(None)
        except OSError as error:
            self.is_whole = False
            self._reopen_at = now + _REOPEN_AFTER_S
            self._log_fault(str(error))
        return recent

    def append(self, model: str, at: float, tokens: int, requests: int = 1) -> None:
        """Adds one grant, and writes it; where the disk is full it is written with a later one.

        Negative `tokens` and `requests` correct the grant of the same `at` by what was not used.
        """
        self._unwritten.append(GrantRecord(model, at, tokens, requests))
        must_open = self._file is None or self._lines >= _LINES_BEFORE_REWRITE
        if must_open and time.monotonic() >= self._reopen_at:
            self.open()
        if self._file is not None:
            self._write_line(self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self, recent: Iterable[GrantRecord]) -> None:
        atomic_file.write_atomic(self._path, "".join(map(self._format_line, recent)))
        self._file = self._path.open("ab", buffering=0)
        self._lines = 0

    def _write_line(self, file: FileIO) -> None:
        # A partly written line must end before the next one begins.
        data = ("\n" * self._is_torn + "".join(map(self._format_line, self._unwritten))).encode()
        try:
            fault = None if file.write(data) == len(data) else "the disk is full"
        except OSError as error:
            fault = str(error)
        if fault is None:
            self._lines += len(self._unwritten)
            self._unwritten.clear()
        self._is_torn = fault is not None
        self._log_fault(fault)

    def _log_fault(self, fault: str | None) -> None:
        if self._is_written != (fault is None):
            self._is_written = fault is None
            if fault is not None:
                logger.warning("permit_journal_not_written", reason=fault)
            else:
                logger.info("permit_journal_recovered")

    def _format_line(self, record: GrantRecord) -> str:
        unix = time.time() - (time.monotonic() - record.at)
        return f"{self._boot} {record.at:.3f} {unix:.3f} {record.tokens} {record.requests} {json.dumps(record.model)}\n"

    def _read_recent(self, now: float, unix_now: float) -> Iterator[GrantRecord]:
        if not self._path.exists():
            return
        # Only LF ends a line, not what `splitlines` takes for one: older versions wrote those inside a model's name.
        for line in filter(None, self._path.read_bytes().decode("utf-8", "replace").split("\n")):
            record = self._parse_line(line, now, unix_now)
            if record is not None and now - record.at < DAY_S + MARGIN_S:
                yield record

    def _parse_line(self, line: str, now: float, unix_now: float) -> GrantRecord | None:
        try:
            boot, monotonic, unix, tokens, requests, model = line.split(" ", 5)
            at = float(monotonic) if boot == self._boot else now - (unix_now - float(unix))
            record = GrantRecord(_parse_model(model), min(at, now), int(tokens), int(requests))
        except ValueError:  # the last line of a process that was killed while writing it
            record = None
        if record is None or not math.isfinite(at):
            logger.warning("permit_journal_line_ignored", line=line[:80])
            return None
        return record


def _parse_model(written: str) -> str:
    """The model as `_format_line` writes it, or bare. Raises ValueError for one that was partly written."""
    return str(json.loads(written)) if written.startswith('"') else written


def _merge_by_moment(records: Iterable[GrantRecord]) -> list[GrantRecord]:
    """Grants merged with their corrections, oldest first."""
    sums: dict[tuple[str, float], GrantRecord] = {}
    for record in records:
        key = record.model, round(record.at, 3)
        held = sums.get(key, GrantRecord(record.model, record.at, 0, 0))
        sums[key] = held._replace(tokens=held.tokens + record.tokens, requests=held.requests + record.requests)
    used = (record._replace(tokens=max(0, record.tokens)) for record in sums.values() if record.requests > 0)
    return sorted(used, key=lambda record: record.at)


def _merge_by_minute(records: Iterable[GrantRecord], now: float) -> Iterator[GrantRecord]:
    """Merges, by model and minute, grants that only the daily windows count; the newest time stands for all."""
    sums: dict[tuple[str, int], GrantRecord] = {}
    fresh = []
    for record in records:
        if now - record.at <= 2 * MINUTE_S:
            fresh.append(record)
            continue
        key = record.model, int(record.at // MINUTE_S)
        held = sums.get(key, GrantRecord(record.model, record.at, 0, 0))
        sums[key] = GrantRecord(record.model, record.at, held.tokens + record.tokens, held.requests + record.requests)
    yield from sums.values()
    yield from fresh
