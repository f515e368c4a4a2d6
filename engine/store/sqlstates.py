"""What an SQLSTATE means for the caller, the same over every transport."""

from typing import Final

from engine.errors import BadConfiguration, Declined, SparkyError, Superseded

ABSENT: Final = {"42883", "42P01", "42703", "3F000"}  # function, table, column, schema
OURS: Final = {"SK400", "SK404", "SK409", "P0001"}  # raised by our own functions, with a sentence for people
SUPERSEDED: Final = "SK423"  # raised by our own functions towards an engine that does not hold the lease


def failure(state: str, mend: str) -> SparkyError:
    """`mend`, what a person must do, as the error that it is."""
    if state == SUPERSEDED:
        return Superseded(mend)
    return Declined(mend) if state in OURS else BadConfiguration(mend)


def to_mend(state: str, reason: str) -> str | None:
    """What a person must mend, in one sentence; None if it may pass by itself, or `state` does not say."""
    if state in OURS or state == SUPERSEDED:
        return reason
    if state in ABSENT:
        return f"The database has not the schema this version needs ({reason}): run `sparky migrate`."
    if state.startswith(("22", "23")):
        return f"The database refuses the value: {reason}."
    if state == "42501" or state.startswith("28"):
        return f"The database refuses this login: {reason}."
    return None
