"""How a strategy is named where a person is to type it. Pure."""

from typing import Any

from engine.platform.plain_text import is_plain
from engine.platform.text_encoding import encode_text


def is_typable(name: str, encoding: str) -> bool:
    """Whether a stream of that `encoding` shows `name` as it is, so that a person can type it again."""
    return is_plain(name) and encode_text(name, encoding).decode(encoding) == name


def typable_name(switch: dict[str, Any], encoding: str) -> str:
    """The name of the strategy that a kill switch is for, or its id where the name cannot be typed."""
    name, strategy_id = switch["strategy_name"], switch["strategy_id"]
    return str(name if is_typable(name, encoding) else strategy_id)
