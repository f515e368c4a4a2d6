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
        self._saved: SavedBreaker | None = None

    def load(self) -> SavedBreaker:
        """The saved breaker, reset where a person has requested that.

        A closed one when there is no file, or one that cannot be read (which is logged).
        """
        saved = self._saved = self._load_saved()
        if self._reset.exists():
            saved = saved.model_copy(update={"breaker": on_restart(saved.breaker)})
            self._complete_reset(saved)
        return saved

    def request_reset(self) -> None:
        """Has the strategy's next process begin with a breaker that waits for nothing. Raises OSError."""
        self._reset.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._reset.touch()

    def withdraw_reset(self) -> None:
        """For a restart that was asked for and refused. Raises OSError."""
        self._reset.unlink(missing_ok=True)

    def _load_saved(self) -> SavedBreaker:
        try:
            return SavedBreaker.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return SavedBreaker()
        except (OSError, ValidationError) as error:
            logger.warning("breaker_file_unreadable", path=str(self._path), reason=str(error).splitlines()[0])
            return SavedBreaker()

    def _complete_reset(self, saved: SavedBreaker) -> None:
        # The breaker before the request: a process that dies in between is followed by one that resets again.
        try:
            self.save(saved.breaker, saved.running_since)
            self.withdraw_reset()
        except OSError as error:
            logger.warning("breaker_not_saved", path=str(self._path), reason=str(error))

    def save(self, breaker: Breaker, running_since: datetime | None = None) -> None:
        """Writes only what differs from what is there; a breaker without failures needs no file. Raises OSError."""
        saved = SavedBreaker(breaker=breaker, running_since=running_since)
        if saved == self._saved:
            return
        if breaker == Breaker():
            self._path.unlink(missing_ok=True)
        else:
            atomic_file.write_atomic(self._path, saved.model_dump_json())
        self._saved = saved
