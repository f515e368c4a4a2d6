"""Types of single values in rows (booked decimals, JSON documents, moments), and texts of validation errors."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from engine.domain import decimals
from engine.platform.validation_errors import fault_message
from engine.platform.values import Row, Utc

BookedDecimal = Annotated[Decimal, AfterValidator(decimals.round_for_books)]


def convert_decimals_to_floats(value: Any) -> Any:
    """A JSON document for `json.dumps`: with floats instead of Decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: convert_decimals_to_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [convert_decimals_to_floats(inner) for inner in value]
    return value


Document = Annotated[dict[str, Any], BeforeValidator(convert_decimals_to_floats)]


AnyDocument = Annotated[Any, BeforeValidator(convert_decimals_to_floats)]  # any JSON value, not only an object

# PostgreSQL has infinite moments and years that Python lacks: those stay text.
Moment = Annotated[Utc | str, Field(union_mode="left_to_right")]


class ShownRow(Row):
    """Base of rows that are displayed even with invalid figures: NaN and infinity are allowed."""

    model_config = ConfigDict(allow_inf_nan=True)


def format_validation_errors(error: ValidationError) -> str:
    """Every fault with its field's name, in one line, without the values."""
    messages = []
    for entry in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in entry["loc"])
        messages.append(f"{where}: {'is unknown' if entry['type'] == 'extra_forbidden' else fault_message(entry)}")
    return "; ".join(messages)
