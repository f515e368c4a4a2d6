"""What an SQLSTATE means for the caller, the same over every transport."""

from typing import Final

from engine.domain.errors import Superseded
from engine.platform.errors import ConfigurationError, InvalidCommand, SparkyError

MISSING_OBJECT: Final = {"42883", "42P01", "42703", "3F000"}  # function, table, column, schema
RAISED_BY_FUNCTIONS: Final = {
    "SK400",
    "SK404",
    "SK409",
    "P0001",
}  # raised by our own functions, with a sentence for people
SUPERSEDED: Final = "SK423"  # raised by our own functions towards an engine that does not hold the lease

_INVALID_CATALOG_NAME: Final = "3D000"
_INSUFFICIENT_PRIVILEGE: Final = "42501"


class DatabaseRequestError(ConfigurationError):
    """The database rejects the request until a person fixes the cause; `state` is the SQLSTATE."""

    def __init__(self, sentence: str, state: str) -> None:
        super().__init__(sentence)
        self.state = state


def build_error(state: str, remedy: str) -> SparkyError:
    """The error for `state`, with `remedy` (what a person must do) as its text."""
    if state == SUPERSEDED:
        return Superseded(remedy)
    if state in RAISED_BY_FUNCTIONS:
        return InvalidCommand(remedy)
    return DatabaseRequestError(remedy, state)


def is_value_error(state: str) -> bool:
    """Whether the database refuses a value (classes 22 and 23)."""
    return state.startswith(("22", "23"))


def find_remedy(state: str, reason: str) -> str | None:
    """What a person must fix, in one sentence; None for temporary failures and unknown states."""
    if state in RAISED_BY_FUNCTIONS or state == SUPERSEDED:
        return reason
    if state in MISSING_OBJECT:
        return f"The database has not the schema this version needs ({reason}): run `sparky migrate`."
    if is_value_error(state):
        return f"The database refuses the value: {reason}."
    if state == _INSUFFICIENT_PRIVILEGE:
        return (
            f"The database's login lacks a right ({reason}): grant service_role to it, "
            "or use the login that ran `sparky migrate`."
        )
    return _find_connection_remedy(state, reason)


def _find_connection_remedy(state: str, reason: str) -> str | None:
    if state == _INVALID_CATALOG_NAME:
        return f"The database does not exist ({reason}): make it (create database), or correct its name."
    return f"The database refuses this login: {reason}." if state.startswith("28") else None
