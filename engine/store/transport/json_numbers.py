"""Numbers of the database's JSON, exact: a float in between would round what has more than 15 digits."""

import json
from decimal import Decimal
from typing import Any, Final

_MAX_INT_DIGITS: Final = 4_000  # Python refuses longer texts, as their conversion takes time with the square of it


def read_json(text: str | bytes) -> Any:
    """The document with integers as int and other numbers as Decimal; integers of more than 4,000 digits as Decimal.

    Raises ValueError for text that is not JSON.
    """
    return json.loads(text, parse_float=Decimal, parse_int=_parse_int)


def _parse_int(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else Decimal(digits)
