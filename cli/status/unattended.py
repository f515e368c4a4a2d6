"""What people are told of positions that nobody steers: what is held, why, and what closes it. Pure."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from cli import output
from cli.commands.strategy_names import is_typable
from cli.output import format_duration
from engine.domain.decimals import format_plain
from engine.platform.plain_text import one_line
from engine.platform.text_encoding import UTF8

MAX_BREAKER_OPEN_S: Final = 600.0  # a breaker that is open for less is probed soon
MAX_NAMED: Final = 5
_MAX_NAME_LENGTH: Final = 100
_REASONS: Final = {
    "gone": "has no row any more",
    "other book": "trades in the other book now (paper or live)",
    "other exchange": "trades on another exchange now",
    "other symbols": "trades other symbols now",
    "parked": "is parked",
}


def describe_position(position: dict[str, Any]) -> str:
    """What is held, its entry, and what protects it, as in ``LONG 0.5 BTCUSDT (paper), entry 100, stop 95``."""
    book = "paper" if position["is_paper"] else "live"
    what = f"{position['side']} {format_decimal(position['quantity'])} {position['symbol']} ({book})"
    stop, target = position.get("stop_loss_price"), position.get("take_profit_price")
    protected = "no stop" if stop is None else f"stop {format_decimal(stop)}"
    beyond = "" if target is None else f", target {format_decimal(target)}"
    return one_line(f"{what}, entry {output.price_cell('entry_price')(position)}, {protected}{beyond}")


def close_command(position: dict[str, Any], encoding: str = UTF8) -> str:
    """The command that closes it, as it can be typed at a stream of that `encoding`."""
    if position["why"] == "gone":
        return "" if position["strategy_id"] is None else f"sparky strategy delete {position['strategy_id']} --close"
    if position["why"] == "terminated":  # by its id: a name is free for another strategy once it has ended
        return f"sparky strategy delete {str(position['strategy_id'])[:8]} --close"
    name = position["strategy_name"] or ""
    typed = shlex.quote(name) if is_typable(name, encoding) and name else str(position["strategy_id"])[:8]
    return f"sparky strategy pause {typed} --close"


def describe_unattended(position: dict[str, Any], encoding: str = UTF8) -> str:
    """One position that nobody steers, with the command that closes it."""
    name = one_line(position["strategy_name"] or f"strategy {position['strategy_id'] or 'unknown'}", _MAX_NAME_LENGTH)
    command = close_command(position, encoding)
    closes = f"`{command}` closes it" if command else "a CLOSE by its owner's webhook closes it"
    return (
        f"{name} {_describe_reason(position)} and still holds {describe_position(position)}; nobody steers it: {closes}"
    )


def unattended_warnings(positions: Sequence[dict[str, Any]], encoding: str = UTF8) -> list[str]:
    """A sentence for each of the first few positions, and one that counts the others."""
    sentences = [describe_unattended(each, encoding) for each in positions[:MAX_NAMED]]
    rest = len(positions) - MAX_NAMED
    return (
        [*sentences, f"nobody steers {rest} more positions; `sparky status --json` names them"]
        if rest > 0
        else sentences
    )


def find_unattended(strategies: Sequence[dict[str, Any]], now: float, *, is_engine_here: bool) -> list[dict[str, Any]]:
    """What strategies hold that should run and decide nothing, out of the rows of `sparky status` at Unix `now`.

    Nothing unless this home's engine holds the lease: another one may steer what has no process here. A strategy
    without a process is not meant either, since it may just have been started.
    """
    found = []
    for row in strategies if is_engine_here else ():
        why = _find_trouble(row, now)
        since = row.get("breaker_since") if why == "breaker open" else None
        lasting_s = None if since is None else round(now - since, 3)
        at = None if since is None else datetime.fromtimestamp(since, UTC).isoformat()
        of_whom = {"strategy_id": row["id"], "strategy_name": row["name"], "why": why, "since": at}
        found += [each | of_whom | {"lasting_s": lasting_s} for each in row["positions"] or () if why is not None]
    return found


def _find_trouble(row: dict[str, Any], now: float) -> str | None:
    if row["status"] != "running":
        return None
    if row["state"] == "parked":
        return "parked"
    since = row.get("breaker_since")
    return "breaker open" if since is not None and now - since >= MAX_BREAKER_OPEN_S else None


def _describe_reason(position: dict[str, Any]) -> str:
    if position["why"] == "breaker open":
        return f"has had its breaker open for {format_duration(position['lasting_s'])}"
    return _REASONS.get(position["why"], f"is {position['why']}")


def format_decimal(value: object) -> str:
    """A number as people read it: without trailing zeros; what is none is told as it is."""
    try:
        return format_plain(Decimal(str(value)))
    except InvalidOperation:  # a text that is no number
        return str(value)
