"""Texts about differences between books and venue, and about adoption plans. Pure."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from cli.output import format_average, format_utc
from cli.reconcile.adoption_plan import (
    AccountSymbol,
    AdoptionOptions,
    AdoptionPlan,
    Observation,
    list_protective_orders,
)
from cli.warning_texts import format_decimal, is_typable
from engine.admin.adoption import Exit, Opening, Source
from engine.platform.plain_text import one_line
from engine.platform.text_encoding import UTF8
from engine.store.adoption import OutsideHolding
from engine.venues.account_record import AccountTrade

MAX_TRADES: Final = 10
MAX_WARNINGS: Final = 5
_UNEXPLAINED: Final = "nothing has explained it"
_SOURCES: Final = {
    Source.RECORD: "as the account's record has it",
    Source.ENTRY_PRICE: "the venue's entry price, since the record does not explain it",
    Source.LAST_PRICE: "the venue's last price, since the record does not explain it",
    Source.GIVEN: "as given",
    Source.ORDER: "as its order at the venue has filled",
}


def build_reconcile_command(row: dict[str, Any], rows: Iterable[dict[str, Any]], encoding: str = UTF8) -> str:
    """The command that shows the difference `row`; it names account and venue if `rows` has others of the symbol."""
    same = [other for other in rows if other["symbol"] == row["symbol"]]
    words = ["sparky", "reconcile", shlex.quote(str(row["symbol"]))]
    if len({other["user_id"] for other in same}) > 1:
        email = row.get("email") or ""
        words += ["--user", shlex.quote(email if is_typable(email, encoding) and email else str(row["user_id"]))]
    if len({other["exchange"] for other in same if other["user_id"] == row["user_id"]}) > 1:
        words += ["--exchange", shlex.quote(str(row["exchange"]))]
    return one_line(" ".join(words))


def build_difference_warnings(
    rows: Sequence[dict[str, Any]], encoding: str = UTF8, *, names_commands: bool = True
) -> list[str]:
    """A sentence for each of the first few open differences, and one that counts the others; with the command that
    settles it where nothing else `names_commands`."""
    sentences = [
        f"{_format_account(row)}: the books hold {format_decimal(row['booked'])}, "
        f"the venue {format_decimal(_compute_venue_net(row))}{_format_outside(row)}; "
        "live entries there are refused"
        + (f" until `{build_reconcile_command(row, rows, encoding)}` settles it" if names_commands else "")
        for row in rows[:MAX_WARNINGS]
    ]
    hidden_count = len(rows) - MAX_WARNINGS
    if hidden_count <= 0:
        return sentences
    return [*sentences, f"{hidden_count} more differences; `sparky reconcile` lists them"]


def describe_difference(row: dict[str, Any], rows: Sequence[dict[str, Any]], encoding: str = UTF8) -> list[str]:
    """One open difference in several lines; all but the first are indented."""
    held = ", ".join(_format_position(position) for position in row["held"]) or "nothing"
    at_venue = f"{format_decimal(_compute_venue_net(row))} at the venue{_format_outside(row)}"
    nets = f"{format_decimal(row['booked'])} in the books, {at_venue}"
    return [
        f"{_format_account(row)}: {nets}, difference {_format_signed(row['difference'])}",
        f"  since {format_utc(str(row['first_seen_at']))} UTC: {one_line(row.get('reason') or _UNEXPLAINED)}",
        f"  in the books: {held}",
        f"  `{build_reconcile_command(row, rows, encoding)}` shows what would settle it",
    ]


def describe_note(row: OutsideHolding) -> str:
    """One line on what a person has noted."""
    where = _format_account(row.model_dump())
    since = f"noted at {format_utc(str(row.noted_at))} UTC"
    return f"{where}: {format_decimal(row.quantity)} is held outside Sparky ({since})"


def describe_observation(observation: Observation) -> list[str]:
    """Lines about what books and venue hold now, and about trades that are not booked."""
    held = ", ".join(_format_position(position.model_dump()) for position in observation.books.held) or "nothing"
    at = (
        ""
        if observation.position is None
        else f" at an entry price of {format_average(observation.position.entry_price)}"
    )
    key = observation.account_symbol
    lines = [
        f"{key.symbol} at {key.exchange}, {one_line(key.person)}",
        f"  in the books: {format_decimal(observation.books_net)} ({held})",
        f"  at the venue: {format_decimal(observation.venue_net)}{at}",
    ]
    if observation.books.outside != 0:
        lines.append(f"  of that outside Sparky, as noted: {format_decimal(observation.books.outside)}")
    if observation.books.is_under_way:
        lines.append("  a signal is being executed, so that this may change by itself: look again in a minute")
    if observation.difference == 0:
        return [*lines, "Books and venue agree."]
    return [
        *lines,
        f"  difference: {_format_signed(observation.difference)}{_format_since(observation)}",
        *_describe_record(observation),
    ]


def describe_plan(observation: Observation, plan: AdoptionPlan, options: AdoptionOptions) -> list[str]:
    """Lines about the steps of the plan, in their order."""
    if plan.is_empty:
        return []
    orders = {
        name: f"{_hyphenate(reason)} {name}"
        for position in observation.books.held
        for reason, name in list_protective_orders(position)
    }
    lines = ["Adopting the venue's state would"]
    lines += [f"  cancel {orders[name]} at the venue" for name in plan.cancels if observation.is_listed]
    lines += [f"  book {_format_exit(line)}" for line in plan.exits]
    if plan.opening is not None:
        is_protected = _is_protected(observation, plan.opening)
        lines.append(f"  book {_format_opening(plan.opening, options)}{'' if is_protected else ', no stop'}")
        if is_protected:
            lines.append("  place the orders anew that protect the position that it adds to")
    if any(list_protective_orders(line.position) and not line.ends for line in plan.exits):
        lines.append("  place the orders anew that protect what is left")
    if plan.outside != plan.noted:
        lines.append(f"  note that {_describe_note_change(plan.noted, plan.outside)}")
    return lines


def _describe_note_change(noted: Decimal, outside: Decimal) -> str:
    if noted == 0:
        return f"{format_decimal(outside)} is the person's own, outside Sparky"
    return f"the note of {format_decimal(noted)} {'ends' if outside == 0 else f'becomes {format_decimal(outside)}'}"


def suggest_commands(observation: Observation, plan: AdoptionPlan, options: AdoptionOptions) -> list[str]:
    """The commands that settle it. --outside is one only where what would be noted can be on the account."""
    base = shlex.join(["sparky", "reconcile", observation.account_symbol.symbol, *options.named])
    with_words = shlex.join(["sparky", "reconcile", observation.account_symbol.symbol, *options.named, *options.given])
    price = " --price P" if plan.lacks_price else ""
    does = (
        "books this (--price, --fee and --strategy change it)" if plan.has_bookings else "does this, and books nothing"
    )
    ways = [f"`{with_words} --adopt{price}` {does}."]
    if observation.can_be_noted and observation.difference != 0 and observation.unbooked_net != plan.outside:
        change = _describe_note_change(observation.books.outside, observation.unbooked_net)
        ways.append(f"`{base} --outside` books nothing: {change}.")
    return ways


def suggest_note_commands(observation: Observation, options: AdoptionOptions) -> list[str]:
    """The command that books a note, where books and venue agree."""
    if observation.books.outside == 0:
        return []
    base = shlex.join(["sparky", "reconcile", observation.account_symbol.symbol, *options.named])
    return [f"`{base} --adopt --noted` books what is noted as held outside Sparky, and ends the note."]


def explain_outside_refusal(observation: Observation, options: AdoptionOptions) -> str:
    """Why --outside is refused."""
    base = shlex.join(["sparky", "reconcile", observation.account_symbol.symbol, *options.named])
    return (
        f"The books hold {format_decimal(observation.books_net)} and the venue holds "
        f"{format_decimal(observation.venue_net)}: {format_decimal(observation.unbooked_net)} "
        f"cannot be held there outside Sparky, and nothing was noted. `{base} --adopt` books what the venue holds."
    )


def format_account_symbol(account_symbol: AccountSymbol) -> str:
    return f"{account_symbol.symbol} at {account_symbol.exchange} ({one_line(account_symbol.person)})"


def _format_account(row: dict[str, Any]) -> str:
    return one_line(f"{row['symbol']} at {row['exchange']}, {row.get('email') or row['user_id']}")


def _format_position(row: dict[str, Any]) -> str:
    name = _format_strategy(row.get("strategy_name"), row.get("strategy_id"))
    return one_line(f"{name} {row['side']} {format_decimal(row['quantity'])} at {_format_price(row['entry_price'])}")


def _format_strategy(name: object, strategy_id: object) -> str:
    if name:
        return one_line(str(name), 60)
    return "the person's own" if strategy_id is None else f"strategy {strategy_id}"


def _format_owner(name: object, strategy_id: object) -> str:
    """The owner of a position, within a sentence."""
    if strategy_id is None:
        return "the person (no strategy)"
    return f"strategy {_format_strategy(name, None)}" if name else f"strategy {strategy_id}"


def _format_since(observation: Observation) -> str:
    difference = observation.books.difference
    if difference is None:
        return " (the webhook server has not reported it)"
    return f", since {format_utc(str(difference.first_seen_at))} UTC: {one_line(difference.reason or _UNEXPLAINED)}"


def _describe_record(observation: Observation) -> list[str]:
    if observation.record_trouble is not None:
        return [f"  the account's record cannot be read: {one_line(observation.record_trouble)}"]
    if not observation.unbooked_trades:
        return ["  the account's record has no trade of late that the books do not know"]
    more = len(observation.unbooked_trades) - MAX_TRADES
    earlier = f" (and {more} before)" if more > 0 else ""
    return [
        f"  trades that the books do not know{earlier}:",
        *map(_format_trade, observation.unbooked_trades[-MAX_TRADES:]),
    ]


def _format_trade(trade: AccountTrade) -> str:
    side = "BUY" if trade.is_buy else "SELL"
    at = datetime.fromtimestamp(trade.at_ms / 1000, UTC)
    traded = f"{side} {format_decimal(trade.quantity)} at {format_decimal(trade.price)}"
    return f"    {at:%Y-%m-%d %H:%M:%S} UTC {traded}, {_format_fee(trade.fee_usd)}"


def _format_exit(line: Exit) -> str:
    position = line.position
    part = "all that" if line.ends else "a part of what"
    of_whom = _format_owner(getattr(position, "strategy_name", None), position.strategy_id)
    what = f"the exit of {format_decimal(line.quantity)} {position.side} ({part} {of_whom} holds)"
    return one_line(f"{what} {_format_execution_price(line)}, {_format_fee(line.fee_usd)}; reason: {line.exit_reason}")


def _format_opening(line: Opening, options: AdoptionOptions) -> str:
    whose = _format_owner(options.strategy_name, line.strategy_id)
    return one_line(
        f"a {line.side} of {format_decimal(line.quantity)} for {whose} {_format_execution_price(line)}, "
        f"{_format_fee(line.fee_usd)}"
    )


def _is_protected(observation: Observation, line: Opening) -> bool:
    """Whether it adds to a position with protective orders, which then are for the whole of it."""
    own = (
        position
        for position in observation.books.held
        if (position.strategy_id, position.side) == (line.strategy_id, line.side)
    )
    return any(list_protective_orders(position) for position in own)


def _format_execution_price(line: Exit | Opening) -> str:
    if line.price is None or line.source is None:
        return "at a price that nothing tells (--price says it)"
    return f"at {format_average(line.price)} ({_SOURCES[line.source]})"


def _format_fee(fee_usd: Decimal | None) -> str:
    if fee_usd is None:
        return "no known fee (0 is booked; --fee says it)"
    return f"a rebate of {format_decimal(-fee_usd)} USD" if fee_usd < 0 else f"fee {format_decimal(fee_usd)} USD"


def _compute_venue_net(row: dict[str, Any]) -> Decimal:
    """The venue's whole net quantity, including what is noted as held outside Sparky."""
    return Decimal(str(row["at_venue"])) + Decimal(str(row["outside"]))


def _format_outside(row: dict[str, Any]) -> str:
    return "" if _is_zero(row["outside"]) else f" (of that {format_decimal(row['outside'])} outside Sparky, as noted)"


def _format_price(value: object) -> str:
    """To 15 digits, because averages have more; text that is not a number unchanged."""
    try:
        return format_average(Decimal(str(value)))
    except InvalidOperation:
        return str(value)


def _hyphenate(reason: str) -> str:
    return reason.replace("_", "-")


def _format_signed(value: object) -> str:
    text = format_decimal(value)
    return text if text.startswith("-") or _is_zero(value) else f"+{text}"


def _is_zero(value: object) -> bool:
    return format_decimal(value) in {"0", "-0"}
