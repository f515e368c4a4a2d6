"""Remembers the market's time, so that a restarted simulator continues from there."""

import json
from pathlib import Path
from typing import Final

import structlog

from engine.platform import atomic_file

log: Final = structlog.get_logger()


class MarketTimeFile:
    """A file with the market time of the series named `series`."""

    def __init__(self, path: Path, series: str) -> None:
        self._path = path
        self._series = series

    def read(self) -> int | None:
        """The market time last written for this series; None when there is none or the file is damaged."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return int(kept["market_ms"]) if kept["series"] == self._series else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, market_ms: int) -> None:
        """Replaces the file atomically. A write that fails is logged only, because the market can go on without it."""
        try:
            atomic_file.write_atomic(self._path, json.dumps({"series": self._series, "market_ms": market_ms}))
        except OSError as error:
            log.warning("market_time_not_written", path=str(self._path), error=str(error))
