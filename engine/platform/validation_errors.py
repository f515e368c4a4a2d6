"""pydantic's validation errors in our words."""

from collections.abc import Mapping
from typing import Any, Final

VALUE_ERROR: Final = "Value error, "  # pydantic puts it before the words of our own checks


def fault_message(fault: Mapping[str, Any]) -> str:
    """What one entry of pydantic's `errors()` says, without its prefix before words of ours."""
    return str(fault["msg"]).removeprefix(VALUE_ERROR)
