"""Sentences for senders, one for each type of error that pydantic finds in a field.

pydantic's own sentences name Python types and patterns, and some repeat a part of the sent value.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from pydantic_core import ErrorDetails

from engine.domain import symbol_names

ID_FORM: Final = "must be 1 to 100 letters, digits and . _ : ~ -"
UNFILLED_PLACEHOLDER: Final = "holds a placeholder that was not filled in"
NOT_STORABLE: Final = "has characters that cannot be stored"
NOT_A_TIMESTAMP: Final = "must be ISO 8601, or seconds or milliseconds since 1970"
MUST_BE_ABOVE_ZERO: Final = "must be above 0 for an entry"
_BOUNDS: Final = frozenset({"gt", "ge", "lt", "le"})
_UNUSABLE: Final = "cannot be used"
_MESSAGES_BY_FIELD: Final = {
    ("exchange", "string_pattern_mismatch"): (
        "must be 2 to 30 letters and digits, the exchange's name in ccxt, such as aster"
    ),
    ("symbol", "string_pattern_mismatch"): f"is no symbol of a linear perpetual; {symbol_names.ACCEPTED_FORMS}",
    ("signal_id", "string_pattern_mismatch"): ID_FORM,
    ("position_size_usd", "greater_than_equal"): MUST_BE_ABOVE_ZERO,
}
_MESSAGES_BY_TYPE: Final = {
    "missing": "is missing",
    "string_unicode": NOT_STORABLE,
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a number",
}
_MESSAGES_BY_TYPE_FAMILY: Final = {  # by the first word of the type: uuid_parsing, uuid_type …
    "uuid": "must be a UUID",
    "string": "must be text",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "decimal": "must be a number",
    "float": "must be a number",
    "datetime": NOT_A_TIMESTAMP,
    "date": NOT_A_TIMESTAMP,
    "time": NOT_A_TIMESTAMP,
    "timezone": NOT_A_TIMESTAMP,
}


def describe_error(fault: ErrorDetails, field: str) -> str:
    """Why `field` of the model cannot be used, in a sentence that continues the field's name."""
    kind = fault["type"]
    context = fault.get("ctx", {})
    if kind == "value_error":  # the text of a ValueError of this package's validators
        return str(context["error"])
    sentence = (
        _MESSAGES_BY_FIELD.get((field, kind))
        or _MESSAGES_BY_TYPE.get(kind)
        or _MESSAGES_BY_TYPE_FAMILY.get(kind.partition("_")[0])
    )
    return _UNUSABLE if sentence is None else sentence.format_map(_format_context(context))


def _format_context(context: Mapping[str, Any]) -> dict[str, str]:
    """pydantic's context as the sentences show it: bounds in plain digits, words without quotation marks."""
    return {
        name: f"{_parse_bound(value):f}" if name in _BOUNDS else str(value).replace("'", "")
        for name, value in context.items()
    }


def _parse_bound(value: object) -> Decimal:
    # Of some Decimal types pydantic passes the bound on as the text "Decimal('1E-8')".
    return Decimal(str(value).removeprefix("Decimal('").removesuffix("')"))
