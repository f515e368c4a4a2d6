"""`sparky decisions|signals|positions|trades`."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import output
from cli.arguments import AsJson, find_strategy
from cli.commands.decision_report import render_decision
from cli.context import load_settings, open_store_for
from cli.output import Column
from engine.platform.errors import SparkyError
from engine.store.admin_rows import SignalHistory
from engine.store.store import Store

Strategy = Annotated[str | None, typer.Option("--strategy", "-s", help="Only of this strategy (name or id).")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first.")]

decisions = typer.Typer(no_args_is_help=True, help="What the strategies decided, HOLDs too.")
signals = typer.Typer(
    no_args_is_help=True,
    help="What the strategies sent, and where it ended; signals of people are in the log (`executed`).",
)


def _format_funding(row: dict[str, Any]) -> object:
    """Empty where none was paid or received."""
    return output.usd_cell("funding_usd")(row) if Decimal(str(row["funding_usd"])) else None


DECISIONS = (
    Column("id", output.short_id_cell("id")),
    Column("at (UTC)", output.time_cell("created_at"), is_time=True),
    Column("strategy", "strategy_name"),
    Column("action", "signal_action"),
    Column("symbol", "symbol"),
    Column("size USD", output.usd_cell("size_usd"), is_number=True),
    Column("confidence", "confidence_score", is_number=True, drop_order=1),
    Column("reasoning", lambda row: row["suppressed"] or row["reason"] or row["reasoning"], wraps=True),
)
SIGNALS = (
    Column("id", output.short_id_cell("id")),
    Column("at (UTC)", output.time_cell("created_at"), is_time=True),
    Column("strategy", "strategy_name"),
    Column("action", "action"),
    Column("symbol", "symbol"),
    Column("status", "status"),
    Column("attempts", "attempts", is_number=True, drop_order=1),
    Column("reason", "last_reason", wraps=True),
)
POSITIONS = (
    Column("strategy", "strategy_name"),
    Column("symbol", "symbol"),
    Column("side", "side"),
    Column("quantity", output.decimal_cell("quantity"), is_number=True),
    Column("entry", output.price_cell("entry_price", "current_price"), is_number=True, drop_order=2),
    Column("now", output.price_cell("current_price"), is_number=True, drop_order=1),
    Column("funding USD", _format_funding, is_number=True, drop_order=3),
    Column("P&L USD", output.usd_cell("unrealized_pnl_usd"), is_number=True),
    Column("liquidated at", output.price_cell("liquidation_price"), is_number=True, drop_order=3),
    Column("since (UTC)", output.time_cell("entry_time"), is_time=True),
    Column("paper", "is_paper"),
)
TRADES = (
    Column("closed (UTC)", output.time_cell("exit_time"), is_time=True),
    Column("strategy", "strategy_name"),
    Column("symbol", "symbol"),
    Column("side", "side"),
    Column("quantity", output.decimal_cell("quantity"), is_number=True),
    Column("entry", output.price_cell("entry_price", "exit_price"), is_number=True, drop_order=2),
    Column("exit", output.price_cell("exit_price", "entry_price"), is_number=True, drop_order=3),
    Column("fees USD", output.usd_cell("fees_usd"), is_number=True, drop_order=1),
    Column("funding USD", _format_funding, is_number=True, drop_order=5),
    Column("P&L USD", output.usd_cell("pnl_usd"), is_number=True),
    Column("reason", "exit_reason", wraps=True, drop_order=4),
    Column("paper", "is_paper"),
)


class SignalStatus(StrEnum):
    """The states of a signal that can be listed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"


@decisions.command("list")
def list_decisions(strategy: Strategy = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the latest decisions."""
    with open_store_for(load_settings()) as store:
        rows = store.list_decisions(None if strategy is None else find_strategy(store, strategy).id, limit)
    output.print_rows(rows, DECISIONS, as_json=as_json, empty="Nothing has been decided yet.")


@decisions.command("show")
def show_decision(
    which: Annotated[str, typer.Argument(metavar="ID", help="A decision's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show one decision: what the model saw, what it said, what the code made of it, and what became of the signal."""
    with open_store_for(load_settings()) as store:
        decision_trace = store.get_decision_trace(
            _resolve_id(which, [row.id for row in store.list_decisions(None, 1_000)], "decision")
        )
    if decision_trace is None:
        raise SparkyError(f"There is no decision {which}.")
    trace = output.to_json_data(decision_trace)
    if as_json:
        output.print_json(trace.pop("decision") | trace)
    else:
        output.say_lines(render_decision(trace))


@signals.command("list")
def list_signals(
    strategy: Strategy = None,
    status: Annotated[SignalStatus | None, typer.Option(help="Only those that are so.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the latest signals."""
    with open_store_for(load_settings()) as store:
        rows = store.list_signals(None if strategy is None else find_strategy(store, strategy).id, status, limit)
    output.print_rows(rows, SIGNALS, as_json=as_json, empty="No such signal has been sent yet.")


@signals.command("show")
def show_signal(
    which: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show one signal with every attempt to deliver it."""
    with open_store_for(load_settings()) as store:
        signal = store.get_signal(_resolve_signal_id(store, which))
    if signal is None:
        raise SparkyError(f"There is no signal {which}.")
    output.print_row(signal, as_json=as_json)


@signals.command("retry")
def retry_signal(
    which: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or its beginning.")],
    ttl_s: Annotated[float, typer.Option("--ttl", min=1, max=3_600, help="Seconds in which it may still go.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Send a signal again that was not delivered (expired, dead, or refused before the server kept it)."""
    with open_store_for(load_settings()) as store:
        signal_id = _resolve_signal_id(store, which)
        store.retry_signal(signal_id, ttl_s)
        signal = store.get_signal(signal_id)
    _print_signal(signal, f"Signal {signal_id} goes out again within {ttl_s:g} s.", as_json=as_json)


@signals.command("drop")
def drop_signal(
    which: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or its beginning.")],
    reason: Annotated[str, typer.Option(help="Kept with the signal.")] = "dropped by hand",
    as_json: AsJson = False,
) -> None:
    """End a signal that waits, unsent."""
    with open_store_for(load_settings()) as store:
        signal_id = _resolve_signal_id(store, which)
        store.drop_signal(signal_id, reason)
        signal = store.get_signal(signal_id)
    _print_signal(signal, f"Signal {signal_id} is dropped.", as_json=as_json)


def positions(strategy: Strategy = None, as_json: AsJson = False) -> None:
    """List open positions."""
    with open_store_for(load_settings()) as store:
        names = {row.id: row.name for row in store.list_strategies()}
        whose = None if strategy is None else find_strategy(store, strategy, may_have_ended=True).id
        held = store.list_held_positions(strategy_id=whose)
    rows = [
        output.to_json_data(position) | {"strategy_name": position.strategy_id and names.get(position.strategy_id)}
        for position in held
    ]
    output.print_rows(rows, POSITIONS, as_json=as_json, empty="Nothing is held.")


def trades(strategy: Strategy = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the latest closed trades."""
    with open_store_for(load_settings()) as store:
        rows = store.list_trades(None if strategy is None else find_strategy(store, strategy).id, limit)
    output.print_rows(rows, TRADES, as_json=as_json, empty="Nothing has been closed yet.")


def _print_signal(signal: SignalHistory | None, sentence: str, *, as_json: bool) -> None:
    if as_json:
        output.print_row(signal, as_json=True)
    else:
        output.say(sentence)


def _resolve_signal_id(store: Store, which: str) -> UUID:
    return _resolve_id(which, [row.id for row in store.list_signals(None, None, 1_000)], "signal")


def _resolve_id(which: str, ids: list[UUID], noun: str) -> UUID:
    """The id that `which` is, or the one in `ids` that begins with it. Raises SparkyError."""
    try:
        return UUID(which)
    except ValueError:
        matches = [candidate for candidate in ids if str(candidate).startswith(which.lower())]
    if len(matches) != 1:
        raise SparkyError(f"{'No' if not matches else 'More than one'} {noun} of the last 1000 begins with {which}.")
    return matches[0]
