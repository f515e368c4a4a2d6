"""The limits that the provider has stated, kept on disk: a restarted limiter must know them before the next answer."""

import time
from pathlib import Path
from typing import Final

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from engine.domain.completion import KnownLimit, LimitName
from engine.platform import atomic_file
from engine.platform.values import Frozen

logger = structlog.get_logger()

REFUSED_LASTS_S: Final = 86_400.0
_TOLD_ANEW_S: Final = 3_600.0  # the file is not written at every refusal


class RefusedLimit(Frozen):
    """A limit that only the words of a refusal told, `at` Unix seconds.

    Of requests a minute and tokens a day no answer's headers tell, so what a refusal told is believed for a day and
    learned anew.
    """

    size: int
    at: float


class ProviderLimits(Frozen):
    """Limits of one model as they were stated; None for what never was."""

    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    from_refusals: dict[LimitName, RefusedLimit] = Field(default_factory=dict)

    def by_name(self, unix_now: float) -> dict[LimitName, int | None]:
        """Sizes of the limits that hold now, in requests or tokens."""
        stated: dict[LimitName, int | None] = {"rpd": self.requests_per_day, "tpm": self.tokens_per_minute}
        for name, told in self.from_refusals.items():
            if abs(unix_now - told.at) < REFUSED_LASTS_S:
                stated[name] = told.size
        return stated


_BY_MODEL = TypeAdapter(dict[str, ProviderLimits])


class ProviderLimitsFile:
    """``<SPARKY_HOME>/state/limits.json``, replaced as a whole whenever the provider states something else.

    Each `provider` (its address, None for Groq's own) has a file of its own.
    """

    def __init__(self, home: Path, provider: str | None = None) -> None:
        self._path = atomic_file.of_provider(home / "state" / "limits.json", provider)
        self._known: dict[str, ProviderLimits] = {}

    def load(self) -> dict[str, ProviderLimits]:
        """By model; nothing when there is no file, or one that cannot be read (which is logged)."""
        try:
            self._known = _BY_MODEL.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self._known = {}
        except (OSError, ValidationError) as error:
            logger.warning("announced_limits_unreadable", reason=str(error).splitlines()[0])
            self._known = {}
        return dict(self._known)

    def of(self, model: str) -> ProviderLimits:
        return self._known.get(model, ProviderLimits())

    def update(
        self,
        model: str,
        requests_per_day: int | None,
        tokens_per_minute: int | None,
        refused_by: KnownLimit | None = None,
    ) -> None:
        """What one answer stated, in its headers or as what it was `refused_by`; what it did not state stays."""
        before = self.of(model)
        stated = {"requests_per_day": requests_per_day, "tokens_per_minute": tokens_per_minute}
        now = before.model_copy(update={name: value for name, value in stated.items() if value})
        by_header = {"rpd": requests_per_day, "tpm": tokens_per_minute}
        kept = {name: told for name, told in now.from_refusals.items() if not by_header.get(name)}
        if refused_by is not None and refused_by.size:
            at, known = round(time.time()), kept.get(refused_by.name)
            if known is None or known.size != refused_by.size or abs(at - known.at) > _TOLD_ANEW_S:
                kept[refused_by.name] = RefusedLimit(size=refused_by.size, at=at)
        now = now.model_copy(update={"from_refusals": kept})
        if now == before:
            return
        self._known[model] = now
        try:
            atomic_file.write_atomic(self._path, _BY_MODEL.dump_json(self._known).decode())
        except OSError as error:  # known to this process all the same
            logger.warning("announced_limits_not_written", reason=str(error))
