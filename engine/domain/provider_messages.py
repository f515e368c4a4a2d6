"""Sentences about the model's provider that the log, /healthz and `sparky status` all show."""

from datetime import datetime


def refusal_until(until: float, by: str | None) -> str:
    """A refusal that ends at `until` (Unix seconds), in the host's local time like the log."""
    return f"Groq refuses until {datetime.fromtimestamp(until).astimezone():%H:%M}: {by or 'no reason given'}"


def not_served(model: str, reason: str) -> str:
    return f"the provider does not serve {model} ({reason}): change GROQ_MODEL"
