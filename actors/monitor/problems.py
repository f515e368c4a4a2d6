"""Faults of database and provider as sentences for /healthz and /status. Pure: times are passed in."""

from collections.abc import Mapping
from typing import Final

from actors.messages import EngineState, LimiterState
from engine.domain.provider_messages import describe_refusal, describe_unserved_model

OUTAGE_GRACE_S: Final = 10.0


def find_database_problems(engine: EngineState | None, waiting_since: float | None, now: float) -> list[str]:
    """An engine that has not begun yet reports an outage at once; one at work only when it lasts for 10 s.

    `waiting_since` and `now` are monotonic seconds.
    """
    if engine is None or waiting_since is None or (engine.is_held and now - waiting_since < OUTAGE_GRACE_S):
        return []
    return [f"the engine waits for its database: {engine.reason}"]


def find_provider_problems(limiter: Mapping[str, LimiterState], unix_now: float) -> list[str]:
    """What the provider refuses, by the state of each model: every request, a model for a while, or a model that it
    does not serve."""
    account = {state.account_refused for state in limiter.values() if state.account_refused}
    found = [f"Groq refuses every request: {reason}" for reason in sorted(account)]
    for model, state in limiter.items():
        if state.refused_until is not None and state.refused_until > unix_now:
            found.append(f"{describe_refusal(state.refused_until, state.refused_by)} ({model})")
        if state.gone is not None and state.need_rpm:
            found.append(describe_unserved_model(model, state.gone))
    return found
