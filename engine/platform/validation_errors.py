"""Messages of pydantic's validation errors, without its own prefixes."""

from collections.abc import Mapping
from typing import Any, Final

VALUE_ERROR: Final = "Value error, "  # pydantic puts it before the words of our own checks


def fault_message(fault: Mapping[str, Any]) -> str:
    """The message of one entry of pydantic's `errors()`, without the prefix that it puts before messages of ours."""
    return str(fault["msg"]).removeprefix(VALUE_ERROR)
