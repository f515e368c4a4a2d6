"""Sentences about the model's provider, the same in the log, in /healthz and in `sparky status`."""

from datetime import datetime


def describe_refusal(until: float, by: str | None) -> str:
    """The sentence for a refusal until `until` (Unix seconds), shown in the host's local time as in the log."""
    return f"Groq refuses until {datetime.fromtimestamp(until).astimezone():%H:%M}: {by or 'no reason given'}"


def describe_unserved_model(model: str, reason: str) -> str:
    """The sentence for a model that the provider does not serve, with the provider's `reason`."""
    return f"the provider does not serve {model} ({reason}): change GROQ_MODEL"
