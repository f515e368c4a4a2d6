"""The base of all response bodies, and the JSON forms of money, moments and absent keys."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from engine.platform.values import Frozen

T = TypeVar("T")
MAX_EXACT_INTEGER: Final = 10**15  # below, JavaScript and other readers of doubles keep every digit


def to_number(value: Decimal) -> int | float:
    """`value` as a JSON number: an integer where it is whole, else the nearest double."""
    return int(value) if value == value.to_integral_value() and abs(value) < MAX_EXACT_INTEGER else float(value)


def _to_figure(value: object) -> object:
    if isinstance(value, Decimal):
        return to_number(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _drop_default(schema: JsonDict) -> None:
    """A key that is absent is not null."""
    schema.pop("default", None)


OrAbsent = Annotated[
    T | SkipJsonSchema[None], Field(exclude_if=lambda value: value is None, json_schema_extra=_drop_default)
]
# A Decimal stays one until it is sent: pydantic would write it as text, and senders read numbers.
Number = Annotated[Decimal, PlainSerializer(to_number), WithJsonSchema({"type": "number"})]
# isoformat, since pydantic would write Z for +00:00.
Timestamp = Annotated[
    datetime, PlainSerializer(lambda at: at.isoformat()), WithJsonSchema({"type": "string", "format": "date-time"})
]
# The figures of a limit are in the unit of its message: USD, a count, a word such as "on", a moment.
Figure = Annotated[Any, PlainSerializer(_to_figure), WithJsonSchema({"type": ["number", "string", "boolean", "null"]})]
Count = Annotated[int, Field(ge=0)]
OrderId = str | SkipJsonSchema[None]  # of an order that was filled; only dust ends without one


class Body(Frozen):
    """Base of all bodies: closed, so that no renderer sends a key that OpenAPI does not have."""

    model_config = ConfigDict(use_enum_values=True)

    def to_json(self) -> dict[str, Any]:
        """What `json.dumps` turns into the bytes of the body."""
        return self.model_dump()
