"""Keeps a breaker on disk, so that a strategy that crashes on every cycle is still counted by its next process."""

from datetime import datetime
from pathlib import Path
from uuid import UUID

import structlog
from pydantic import ValidationError

from engine import whole_file
from engine.breaker import Breaker
from engine.types import Row

logger = structlog.get_logger()


class Kept(Row):
    """A breaker and the run of the row that it belongs to: when the row was last resumed, None if it never was."""

    breaker: Breaker = Breaker()
    running_since: datetime | None = None


class BreakerFile:
    """One small file per strategy: ``<SPARKY_HOME>/state/breaker/<id>.json``, replaced as a whole."""

    def __init__(self, home: Path, strategy_id: UUID) -> None:
        self._path = home / "state" / "breaker" / f"{strategy_id}.json"
        self._kept: Kept | None = None

    def load(self) -> Kept:
        """The breaker as it was; a closed one when there is no file, or one that cannot be read (which is logged)."""
        try:
            self._kept = Kept.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self._kept = Kept()
        except (OSError, ValidationError) as error:
            logger.warning("breaker_file_unreadable", path=str(self._path), reason=str(error).splitlines()[0])
            self._kept = Kept()
        return self._kept

    def save(self, breaker: Breaker, running_since: datetime | None = None) -> None:
        """Writes only what differs from what is there; a breaker without failures needs no file. Raises OSError."""
        kept = Kept(breaker=breaker, running_since=running_since)
        if kept == self._kept:
            return
        if breaker == Breaker():
            self._path.unlink(missing_ok=True)
        else:
            whole_file.replace(self._path, kept.model_dump_json())
        self._kept = kept
