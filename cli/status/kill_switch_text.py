"""What people are told of a kill switch that is on. Pure."""

import shlex
from typing import Any, Final

from cli.commands.strategy_names import typable_name
from engine.platform.plain_text import one_line
from engine.platform.text_encoding import UTF8

_MAX_TEXT_LENGTH: Final = 500


def describe_kill_switch(switch: dict[str, Any], encoding: str = UTF8) -> str:
    """One kill switch as a sentence with the command that lifts it, as it can be typed at a stream of `encoding`."""
    name, email = switch["strategy_name"], switch["email"]
    narrowed = f" --user {shlex.quote(email)}" if email else ""
    if name:
        narrowed = f" --strategy {shlex.quote(typable_name(switch, encoding))}"
    reason = f" ({one_line(switch['reason'])})" if switch["reason"] else ""
    whom = one_line(name or email or "everybody", _MAX_TEXT_LENGTH)
    said = f"the kill switch is on for {whom}{reason}: no entries; `sparky kill --off{narrowed}` lifts it"
    return one_line(said, 4 * _MAX_TEXT_LENGTH)
