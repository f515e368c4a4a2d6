"""Keeps a breaker on disk, so that a strategy that crashes on every cycle is still counted by its next process."""

from datetime import datetime
from pathlib import Path
from uuid import UUID

import structlog
from pydantic import ValidationError

from engine.deciding.circuit_breaker import Breaker, on_restart
from engine.platform import atomic_file
from engine.platform.values import Row

logger = structlog.get_logger()


class SavedBreaker(Row):
    """A breaker and the run of the row that it belongs to: when the row was last resumed, None if it never was."""

    breaker: Breaker = Breaker()
    running_since: datetime | None = None


class BreakerFile:
    """One small file per strategy: ``<SPARKY_HOME>/state/breaker/<id>.json``, replaced as a whole.

    A file ``<id>.reset`` beside it asks the next process to begin with a breaker that waits for nothing. The process
    that ends meanwhile may save its breaker as often as it likes: only a start takes notice of the request.
    """

    def __init__(self, home: Path, strategy_id: UUID) -> None:
        self._path = home / "state" / "breaker" / f"{strategy_id}.json"
        self._reset = self._path.with_suffix(".reset")
        self._kept: SavedBreaker | None = None

    def load(self) -> SavedBreaker:
        """The breaker as it was, or as a person's restart leaves it.

        A closed one when there is no file, or one that cannot be read (which is logged).
        """
        kept = self._kept = self._read()
        if self._reset.exists():
            kept = kept.model_copy(update={"breaker": on_restart(kept.breaker)})
            self._do_reset(kept)
        return kept

    def request_reset(self) -> None:
        """Has the strategy's next process begin with a breaker that waits for nothing. Raises OSError."""
        self._reset.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._reset.touch()

    def withdraw_reset(self) -> None:
        """For a restart that was asked for and refused. Raises OSError."""
        self._reset.unlink(missing_ok=True)

    def _read(self) -> SavedBreaker:
        try:
            return SavedBreaker.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return SavedBreaker()
        except (OSError, ValidationError) as error:
            logger.warning("breaker_file_unreadable", path=str(self._path), reason=str(error).splitlines()[0])
            return SavedBreaker()

    def _do_reset(self, kept: SavedBreaker) -> None:
        """Saves first: a process that dies in between is followed by one that is asked for the same."""
        try:
            self.save(kept.breaker, kept.running_since)
            self.withdraw_reset()
        except OSError as error:
            logger.warning("breaker_not_saved", path=str(self._path), reason=str(error))

    def save(self, breaker: Breaker, running_since: datetime | None = None) -> None:
        """Writes only what differs from what is there; a breaker without failures needs no file. Raises OSError."""
        kept = SavedBreaker(breaker=breaker, running_since=running_since)
        if kept == self._kept:
            return
        if breaker == Breaker():
            self._path.unlink(missing_ok=True)
        else:
            atomic_file.write_atomic(self._path, kept.model_dump_json())
        self._kept = kept
