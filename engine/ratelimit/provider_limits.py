"""The limits that the provider has stated, saved on disk: a restarted limiter needs them before the next answer."""

import time
from pathlib import Path
from typing import Final

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from engine.domain.completion import KnownLimit, LimitName
from engine.platform import atomic_file
from engine.platform.values import Frozen

logger = structlog.get_logger()

REFUSED_LIMIT_TTL_S: Final = 86_400.0
_REWRITE_AFTER_S: Final = 3_600.0  # the file is not written at every refusal


class RefusedLimit(Frozen):
    """A limit that only the text of a refusal has stated, at Unix seconds `at`.

    No headers state requests per minute and tokens per day, so a stated size is valid for a day and then learned anew.
    """

    size: int
    at: float


class ProviderLimits(Frozen):
    """Limits of one model as the provider stated them; None for one that it never stated."""

    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    from_refusals: dict[LimitName, RefusedLimit] = Field(default_factory=dict)

    def get_sizes(self, unix_now: float) -> dict[LimitName, int | None]:
        """Sizes of the limits that are valid now, in requests or tokens."""
        stated: dict[LimitName, int | None] = {"rpd": self.requests_per_day, "tpm": self.tokens_per_minute}
        for name, refused in self.from_refusals.items():
            if abs(unix_now - refused.at) < REFUSED_LIMIT_TTL_S:
                stated[name] = refused.size
        return stated


_BY_MODEL = TypeAdapter(dict[str, ProviderLimits])


class ProviderLimitsFile:
    """``<SPARKY_HOME>/state/limits.json``, replaced as a whole whenever the provider states something else.

    Each `provider` (its address, None for Groq's own) has a file of its own.
    """

    def __init__(self, home: Path, provider: str | None = None) -> None:
        self._path = atomic_file.of_provider(home / "state" / "limits.json", provider)
        self._by_model: dict[str, ProviderLimits] = {}

    def load(self) -> dict[str, ProviderLimits]:
        """Limits by model; empty when there is no file, or one that cannot be read (which is logged)."""
        try:
            self._by_model = _BY_MODEL.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self._by_model = {}
        except (OSError, ValidationError) as error:
            logger.warning("announced_limits_unreadable", reason=str(error).splitlines()[0])
            self._by_model = {}
        return dict(self._by_model)

    def get(self, model: str) -> ProviderLimits:
        return self._by_model.get(model, ProviderLimits())

    def update(
        self,
        model: str,
        requests_per_day: int | None,
        tokens_per_minute: int | None,
        refused_by: KnownLimit | None = None,
    ) -> None:
        """Saves what one answer stated, in its headers or as the limit it was `refused_by`; other limits stay."""
        before = self.get(model)
        stated = {"requests_per_day": requests_per_day, "tokens_per_minute": tokens_per_minute}
        after = before.model_copy(update={name: value for name, value in stated.items() if value})
        # A header is the newer statement of the same limit.
        by_header = {"rpd": requests_per_day, "tpm": tokens_per_minute}
        from_refusals = {name: limit for name, limit in after.from_refusals.items() if not by_header.get(name)}
        if refused_by is not None and refused_by.size:
            at, saved = round(time.time()), from_refusals.get(refused_by.name)
            if saved is None or saved.size != refused_by.size or abs(at - saved.at) > _REWRITE_AFTER_S:
                from_refusals[refused_by.name] = RefusedLimit(size=refused_by.size, at=at)
        after = after.model_copy(update={"from_refusals": from_refusals})
        if after == before:
            return
        self._by_model[model] = after
        try:
            atomic_file.write_atomic(self._path, _BY_MODEL.dump_json(self._by_model).decode())
        except OSError as error:  # this process has them in memory
            logger.warning("announced_limits_not_written", reason=str(error))
