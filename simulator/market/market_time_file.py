"""Where the simulated market was when it was last seen, so that a restart goes on from there and not from the start."""

import json
from pathlib import Path
from typing import Final

import structlog

from engine.platform import atomic_file

log: Final = structlog.get_logger()


class MarketTimeFile:
    """A small file that remembers the market time of one `series` (a name; another series has another history)."""

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
        """Replaces the file at once. A disk that refuses costs the memory, not the market."""
        try:
            atomic_file.write_atomic(self._path, json.dumps({"series": self._series, "market_ms": market_ms}))
        except OSError as error:
            log.warning("market_time_not_written", path=str(self._path), error=str(error))
