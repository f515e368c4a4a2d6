"""What the limiter has granted, kept on disk: a restarted limiter must not grant the same minute twice."""

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
_TRY_AGAIN_S: Final = 1.0  # each attempt reads the whole file


class GrantRecord(NamedTuple):
    """`requests` that were granted at monotonic `at` or a little earlier, for `tokens` together."""

    model: str
    at: float
    tokens: int
    requests: int = 1


class GrantLog:
    """An append-only file: boot, monotonic and Unix seconds, tokens, requests and model of each grant.

    The model is JSON in ASCII, so that a grant is one line whatever its model is called; older versions wrote it bare.

    A grant counts with all that it reserved until a second line of the same time says how much less was used. The
    monotonic clock is right within one boot, however the wall clock is set; after a reboot the wall clock must do. Each
    `provider` (its address, None for Groq's own) has a file of its own: what one was asked is nothing to another.
    """

    def __init__(self, home: Path, provider: str | None = None) -> None:
        self._path = atomic_file.of_provider(home / "state" / "permits.journal", provider)
        self._boot = boot_id()
        self._file: FileIO | None = None
        self._lines = 0
        self._unwritten: list[GrantRecord] = []
        self._is_torn = False
        self._is_written = True
        self._open_again_at = 0.0
        self.is_whole = True

    def open(self) -> list[GrantRecord]:
        """The grants of the last day, oldest first; the file is rewritten with only those.

        When it cannot be (the disk is full), `is_whole` is False: the process before may have granted what it could not
        write down either.
        """
        self.close()
        now = time.monotonic()
        recent = list(_by_minute(_by_moment(self._recent(now, time.time())), now))
        try:
            self._rewrite(recent)
            self.is_whole = True
            self._log_fault(None)
        except OSError as error:
            self.is_whole = False
            self._open_again_at = now + _TRY_AGAIN_S
            self._log_fault(str(error))
        return recent

    def append(self, model: str, at: float, tokens: int, requests: int = 1) -> None:
        """Adds one grant; it is in the file when this returns, or with a later one when that can be written again.

        Of the grant at the same `at`, negative `tokens` and `requests` take back what was not used.
        """
        self._unwritten.append(GrantRecord(model, at, tokens, requests))
        must_open = self._file is None or self._lines >= _LINES_BEFORE_REWRITE
        if must_open and time.monotonic() >= self._open_again_at:
            self.open()
        if self._file is not None:
            self._write_line(self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self, recent: Iterable[GrantRecord]) -> None:
        atomic_file.write_atomic(self._path, "".join(map(self._line, recent)))
        self._file = self._path.open("ab", buffering=0)
        self._lines = 0

    def _write_line(self, file: FileIO) -> None:
        # A line that was torn must end before the next one begins.
        data = ("\n" * self._is_torn + "".join(map(self._line, self._unwritten))).encode()
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

    def _line(self, sent: GrantRecord) -> str:
        unix = time.time() - (time.monotonic() - sent.at)
        return f"{self._boot} {sent.at:.3f} {unix:.3f} {sent.tokens} {sent.requests} {json.dumps(sent.model)}\n"

    def _recent(self, now: float, unix_now: float) -> Iterator[GrantRecord]:
        if not self._path.exists():
            return
        # Of all line breaks only LF ends a line: an older version wrote the others inside a model's name.
        for line in filter(None, self._path.read_bytes().decode("utf-8", "replace").split("\n")):
            sent = self._parse_line(line, now, unix_now)
            if sent is not None and now - sent.at < DAY_S + MARGIN_S:
                yield sent

    def _parse_line(self, line: str, now: float, unix_now: float) -> GrantRecord | None:
        try:
            boot, monotonic, unix, tokens, requests, model = line.split(" ", 5)
            at = float(monotonic) if boot == self._boot else now - (unix_now - float(unix))
            sent = GrantRecord(_model(model), min(at, now), int(tokens), int(requests))
        except ValueError:  # the last line of a process that was killed while writing it
            sent = None
        if sent is None or not math.isfinite(at):
            logger.warning("permit_journal_line_ignored", line=line[:80])
            return None
        return sent


def _model(written: str) -> str:
    """The name as `_line` wrote it, or bare. Raises ValueError for a name that was torn."""
    return str(json.loads(written)) if written.startswith('"') else written


def _by_moment(sents: Iterable[GrantRecord]) -> list[GrantRecord]:
    """Grants together with what was taken back of them, oldest first."""
    sums: dict[tuple[str, float], GrantRecord] = {}
    for sent in sents:
        key = sent.model, round(sent.at, 3)
        held = sums.get(key, GrantRecord(sent.model, sent.at, 0, 0))
        sums[key] = held._replace(tokens=held.tokens + sent.tokens, requests=held.requests + sent.requests)
    used = (sent._replace(tokens=max(0, sent.tokens)) for sent in sums.values() if sent.requests > 0)
    return sorted(used, key=lambda sent: sent.at)


def _by_minute(sents: Iterable[GrantRecord], now: float) -> Iterator[GrantRecord]:
    """Adds up, per model and minute, what only a day's window can still count; the newest time stands for all."""
    sums: dict[tuple[str, int], GrantRecord] = {}
    fresh = []
    for sent in sents:
        if now - sent.at <= 2 * MINUTE_S:
            fresh.append(sent)
            continue
        key = sent.model, int(sent.at // MINUTE_S)
        held = sums.get(key, GrantRecord(sent.model, sent.at, 0, 0))
        sums[key] = GrantRecord(sent.model, sent.at, held.tokens + sent.tokens, held.requests + sent.requests)
    yield from sums.values()
    yield from fresh
