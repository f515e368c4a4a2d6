"""What an SQLSTATE means for the caller, the same over every transport."""

from typing import Final

from engine.domain.errors import Superseded
from engine.platform.errors import BadConfiguration, Declined, SparkyError, UpstreamUnavailable

ABSENT: Final = {"42883", "42P01", "42703", "3F000"}  # function, table, column, schema
OURS: Final = {"SK400", "SK404", "SK409", "P0001"}  # raised by our own functions, with a sentence for people
SUPERSEDED: Final = "SK423"  # raised by our own functions towards an engine that does not hold the lease

_NO_DATABASE: Final = "3D000"
_NO_RIGHT: Final = "42501"


class DatabaseUnavailable(UpstreamUnavailable):
    """The database cannot serve now, and its SQLSTATE says why; empty if it said none."""

    def __init__(self, reason: str, state: str) -> None:
        super().__init__("database", reason)
        self.state = state


class DatabaseRefuses(BadConfiguration):
    """The database cannot do what was asked until a person mends something; `state` is its SQLSTATE."""

    def __init__(self, sentence: str, state: str) -> None:
        super().__init__(sentence)
        self.state = state


def failure(state: str, mend: str) -> SparkyError:
    """`mend`, what a person must do, as the error that it is."""
    if state == SUPERSEDED:
        return Superseded(mend)
    if state in OURS:
        return Declined(mend)
    return DatabaseRefuses(mend, state)


def is_of_value(state: str) -> bool:
    """Whether the database refuses a value (classes 22 and 23)."""
    return state.startswith(("22", "23"))


def to_mend(state: str, reason: str) -> str | None:
    """What a person must mend, in one sentence; None if it may pass by itself, or `state` does not say."""
    if state in OURS or state == SUPERSEDED:
        return reason
    if state in ABSENT:
        return f"The database has not the schema this version needs ({reason}): run `sparky migrate`."
    if is_of_value(state):
        return f"The database refuses the value: {reason}."
    if state == _NO_RIGHT:
        return (
            f"The database's login lacks a right ({reason}): grant service_role to it, "
            "or use the login that ran `sparky migrate`."
        )
    return _to_connect(state, reason)


def _to_connect(state: str, reason: str) -> str | None:
    if state == _NO_DATABASE:
        return f"The database does not exist ({reason}): make it (create database), or correct its name."
    return f"The database refuses this login: {reason}." if state.startswith("28") else None
