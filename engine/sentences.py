"""Sentences that more than one place tells people: the log, /healthz, `sparky status`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

VALUE_ERROR: Final = "Value error, "  # pydantic puts it before the words of our own checks


def refusal_until(until: float, by: str | None) -> str:
    """A refusal that ends at `until` (Unix seconds), in the host's local time like the log."""
    return f"Groq refuses until {datetime.fromtimestamp(until).astimezone():%H:%M}: {by or 'no reason given'}"


def not_served(model: str, reason: str) -> str:
    return f"the provider does not serve {model} ({reason}): change GROQ_MODEL"


def fault_message(fault: Mapping[str, Any]) -> str:
    """What one entry of pydantic's `errors()` says, without its prefix before words of ours."""
    return str(fault["msg"]).removeprefix(VALUE_ERROR)
