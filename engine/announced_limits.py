"""The limits that the provider has stated, kept on disk: a restarted limiter must know them before the next answer."""

from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from engine import whole_file
from engine.types import Frozen

logger = structlog.get_logger()


class Announced(Frozen):
    """Requests a day and tokens a minute of one model; None for what was never stated."""

    requests_per_day: int | None = None
    tokens_per_minute: int | None = None


_BY_MODEL = TypeAdapter(dict[str, Announced])


class AnnouncedLimits:
    """``<SPARKY_HOME>/state/limits.json``, replaced as a whole whenever the provider states something else."""

    def __init__(self, home: Path) -> None:
        self._path = home / "state" / "limits.json"
        self._known: dict[str, Announced] = {}

    def load(self) -> dict[str, Announced]:
        """By model; nothing when there is no file, or one that cannot be read (which is logged)."""
        try:
            self._known = _BY_MODEL.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self._known = {}
        except (OSError, ValidationError) as error:
            logger.warning("announced_limits_unreadable", reason=str(error).splitlines()[0])
            self._known = {}
        return dict(self._known)

    def note(self, model: str, requests_per_day: int | None, tokens_per_minute: int | None) -> None:
        """What one answer stated; what it did not state stays as it was."""
        before = self._known.get(model, Announced())
        now = Announced(
            requests_per_day=requests_per_day or before.requests_per_day,
            tokens_per_minute=tokens_per_minute or before.tokens_per_minute,
        )
        if now == before:
            return
        self._known[model] = now
        try:
            whole_file.replace(self._path, _BY_MODEL.dump_json(self._known).decode())
        except OSError as error:  # known to this process all the same
            logger.warning("announced_limits_not_written", reason=str(error))
