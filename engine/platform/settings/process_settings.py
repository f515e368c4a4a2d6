"""Settings that every process has, those of its log, and the base of all models of settings."""

import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict


class ProcessSettings(BaseModel):
    """Settings of one process: frozen, closed, checked once.

    A subclass adds the settings that its process reads, and no others: a process is restarted exactly when its own
    model has changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    sparky_log_level: Literal["debug", "info", "warning", "error"] = "info"
    sparky_log_format: Literal["auto", "console", "json"] = "auto"

    def to_child_json(self) -> str:
        """JSON of every field, with secrets in the clear: for the private pipe to a child only."""
        return self.model_dump_json()

    @classmethod
    def from_child_json(cls, text: str) -> Self:
        """The settings that `to_child_json` wrote. Raises pydantic's ValidationError for a field that is not ours."""
        # Not model_validate_json: in that mode the default of a Path is refused for not being text.
        return cls.model_validate(json.loads(text))
