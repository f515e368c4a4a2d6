"""Bases of all values: frozen, validated, and with moments in UTC."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of every value: immutable; undeclared fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(BaseModel):
    """Base of values read from the database: immutable; columns a newer schema adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def in_utc(value: datetime) -> datetime:
    """The same moment in UTC. Raises ValueError for one that lies beyond Python's years there."""
    try:
        return value if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies beyond the years that are counted with") from None


# A database returns moments in its own time zone, or in that of a role: they become UTC where rows become values.
Utc = Annotated[datetime, AfterValidator(in_utc)]
