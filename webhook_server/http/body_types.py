"""The base of all response bodies, and the JSON forms of money, moments and absent keys."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from engine.platform.values import Frozen

T = TypeVar("T")
MAX_INTEGER: Final = 10**15  # below it, readers that parse every number as a double keep all digits


def to_number(value: Decimal) -> int | float:
    """`value` as a JSON number: an integer where it is whole, else the nearest double."""
    return int(value) if value == value.to_integral_value() and abs(value) < MAX_INTEGER else float(value)


def _to_figure(value: object) -> object:
    if isinstance(value, Decimal):
        return to_number(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _drop_default(schema: JsonDict) -> None:
    schema.pop("default", None)  # null, which would say that the key can be there with null


# A key that a body may lack and that is never null. `exclude_if` and not `exclude_unset`, so that renderers pass None.
OrAbsent = Annotated[
    T | SkipJsonSchema[None], Field(exclude_if=lambda value: value is None, json_schema_extra=_drop_default)
]
# pydantic would write a Decimal as text; senders and charting services read numbers.
Number = Annotated[Decimal, PlainSerializer(to_number), WithJsonSchema({"type": "number"})]
# pydantic would write Z where isoformat, and every response so far, has +00:00.
Timestamp = Annotated[
    datetime, PlainSerializer(lambda at: at.isoformat()), WithJsonSchema({"type": "string", "format": "date-time"})
]
# A figure of a limit: USD, percent, a count, a word such as "on", or a moment; the limit's message names the unit.
Figure = Annotated[Any, PlainSerializer(_to_figure), WithJsonSchema({"type": ["number", "string", "boolean", "null"]})]
# Bounds are described and not checked: a body that is refused after its trade was made would keep it out of the books.
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
Leverage = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
OrderId = str | SkipJsonSchema[None]  # of a filled entry, which has one; None keeps a booking from failing here


class Body(Frozen):
    """Base of all bodies. It is closed, so that a renderer cannot send a key that OpenAPI does not describe."""

    model_config = ConfigDict(use_enum_values=True)

    def to_json(self) -> dict[str, Any]:
        """The body as plain values, for `json.dumps` and for the database; keys in the order of the class."""
        return self.model_dump()
