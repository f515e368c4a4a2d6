"""Warnings about kill switches and unattended positions, with the commands that a person can type. Pure."""

import shlex
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from cli import output
from engine.domain.decimals import format_plain
from engine.platform.plain_text import is_plain, one_line
from engine.platform.text_encoding import UTF8, encode_text

MAX_NAMED: Final = 5
_MAX_NAME_LENGTH: Final = 100
_MAX_TEXT_LENGTH: Final = 500
_REASONS: Final = {
    "gone": "has no row any more",
    "other book": "trades in the other book now (paper or live)",
    "other exchange": "trades on another exchange now",
    "other symbols": "trades other symbols now",
    "parked": "is parked",
}


def is_typable(name: str, encoding: str) -> bool:
    """Whether a stream of that `encoding` shows `name` unchanged, so that a person can type it."""
    return is_plain(name) and encode_text(name, encoding).decode(encoding) == name


def get_typable_name(switch: dict[str, Any], encoding: str) -> str:
    """The name of the strategy that a kill switch is for, or its id where the name cannot be typed."""
    name, strategy_id = switch["strategy_name"], switch["strategy_id"]
    return str(name if is_typable(name, encoding) else strategy_id)


def describe_kill_switch(switch: dict[str, Any], encoding: str = UTF8) -> str:
    """One kill switch as a sentence with the command that lifts it, as it can be typed at a stream of `encoding`."""
    name, email = switch["strategy_name"], switch["email"]
    narrowed = f" --user {shlex.quote(email)}" if email else ""
    if name:
        narrowed = f" --strategy {shlex.quote(get_typable_name(switch, encoding))}"
    reason = f" ({one_line(switch['reason'])})" if switch["reason"] else ""
    whom = one_line(name or email or "everybody", _MAX_TEXT_LENGTH)
    sentence = f"the kill switch is on for {whom}{reason}: no entries; `sparky kill --off{narrowed}` lifts it"
    return one_line(sentence, 4 * _MAX_TEXT_LENGTH)


def describe_position(position: dict[str, Any]) -> str:
    """A position, its entry and its protection, as in ``LONG 0.5 BTCUSDT (paper), entry 100, stop 95``."""
    book = "paper" if position["is_paper"] else "live"
    what = f"{position['side']} {format_decimal(position['quantity'])} {position['symbol']} ({book})"
    stop, target = position.get("stop_loss_price"), position.get("take_profit_price")
    protected = "no stop" if stop is None else f"stop {format_decimal(stop)}"
    beyond = "" if target is None else f", target {format_decimal(target)}"
    return one_line(f"{what}, entry {output.price_cell('entry_price')(position)}, {protected}{beyond}")


def build_close_command(position: dict[str, Any], encoding: str = UTF8) -> str:
    """The command that closes it, as it can be typed at a stream of that `encoding`."""
    if position["why"] == "gone":
        return "" if position["strategy_id"] is None else f"sparky strategy delete {position['strategy_id']} --close"
    if position["why"] == "terminated":  # by its id: a name is free for another strategy once it has ended
        return f"sparky strategy delete {str(position['strategy_id'])[:8]} --close"
    name = position["strategy_name"] or ""
    typed = shlex.quote(name) if is_typable(name, encoding) and name else str(position["strategy_id"])[:8]
    return f"sparky strategy pause {typed} --close"


def describe_unattended(position: dict[str, Any], encoding: str = UTF8) -> str:
    """One unattended position, with the command that closes it."""
    name = one_line(position["strategy_name"] or f"strategy {position['strategy_id'] or 'unknown'}", _MAX_NAME_LENGTH)
    command = build_close_command(position, encoding)
    closes = f"`{command}` closes it" if command else "a CLOSE by its owner's webhook closes it"
    return (
        f"{name} {_describe_reason(position)} and still holds {describe_position(position)}; nobody steers it: {closes}"
    )


def build_unattended_warnings(positions: Sequence[dict[str, Any]], encoding: str = UTF8) -> list[str]:
    """A sentence for each of the first `MAX_NAMED` positions, and one that counts the others."""
    sentences = [describe_unattended(position, encoding) for position in positions[:MAX_NAMED]]
    rest = len(positions) - MAX_NAMED
    return (
        [*sentences, f"nobody steers {rest} more positions; `sparky status --json` names them"]
        if rest > 0
        else sentences
    )


def _describe_reason(position: dict[str, Any]) -> str:
    if position["why"] == "breaker open":
        return f"has had its breaker open for {output.format_duration(position['lasting_s'])}"
    return _REASONS.get(position["why"], f"is {position['why']}")


def format_decimal(value: object) -> str:
    """A number without trailing zeros; text that is not a number unchanged."""
    try:
        return format_plain(Decimal(str(value)))
    except InvalidOperation:  # a text that is no number
        return str(value)
