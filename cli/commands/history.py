"""`sparky decisions|signals|positions|trades`: what was decided, sent, held and earned."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import output
from cli.commands.decision_report import told
from cli.commands.strategies import AsJson, find
from cli.context import database_here
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


def _funding(row: dict[str, Any]) -> object:
    """Empty where none was paid or received."""
    return output.usd("funding_usd")(row) if Decimal(str(row["funding_usd"])) else None


DECISIONS = (
    Column("id", output.short_id("id")),
    Column("at (UTC)", output.moment("created_at"), is_time=True),
    Column("strategy", "strategy_name"),
    Column("action", "signal_action"),
    Column("symbol", "symbol"),
    Column("size USD", output.usd("size_usd"), is_number=True),
    Column("confidence", "confidence_score", is_number=True, goes=1),
    Column("reasoning", lambda row: row["suppressed"] or row["reason"] or row["reasoning"], wraps=True),
)
SIGNALS = (
    Column("id", output.short_id("id")),
    Column("at (UTC)", output.moment("created_at"), is_time=True),
    Column("strategy", "strategy_name"),
    Column("action", "action"),
    Column("symbol", "symbol"),
    Column("status", "status"),
    Column("attempts", "attempts", is_number=True, goes=1),
    Column("reason", "last_reason", wraps=True),
)
POSITIONS = (
    Column("strategy", "strategy_name"),
    Column("symbol", "symbol"),
    Column("side", "side"),
    Column("quantity", output.figure("quantity"), is_number=True),
    Column("entry", output.price("entry_price", "current_price"), is_number=True, goes=2),
    Column("now", output.price("current_price"), is_number=True, goes=1),
    Column("funding USD", _funding, is_number=True, goes=3),
    Column("P&L USD", output.usd("unrealized_pnl_usd"), is_number=True),
    Column("liquidated at", output.price("liquidation_price"), is_number=True, goes=3),
    Column("since (UTC)", output.moment("entry_time"), is_time=True),
    Column("paper", "is_paper"),
)
TRADES = (
    Column("closed (UTC)", output.moment("exit_time"), is_time=True),
    Column("strategy", "strategy_name"),
    Column("symbol", "symbol"),
    Column("side", "side"),
    Column("quantity", output.figure("quantity"), is_number=True),
    Column("entry", output.price("entry_price", "exit_price"), is_number=True, goes=2),
    Column("exit", output.price("exit_price", "entry_price"), is_number=True, goes=3),
    Column("fees USD", output.usd("fees_usd"), is_number=True, goes=1),
    Column("funding USD", _funding, is_number=True, goes=5),
    Column("P&L USD", output.usd("pnl_usd"), is_number=True),
    Column("reason", "exit_reason", wraps=True, goes=4),
    Column("paper", "is_paper"),
)


class Status(StrEnum):
    """Where a signal is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"


@decisions.command("list")
def list_decisions(strategy: Strategy = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the latest decisions."""
    with database_here() as store:
        rows = store.decisions(None if strategy is None else find(store, strategy).id, limit)
    output.answer(rows, DECISIONS, as_json=as_json, empty="Nothing has been decided yet.")


@decisions.command("show")
def show_decision(
    which: Annotated[str, typer.Argument(metavar="ID", help="A decision's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Tell one decision: what the model saw, what it said, what the code made of it, and what became of the signal."""
    with database_here() as store:
        found = store.decision_story(_whole_id(which, [row.id for row in store.decisions(None, 1_000)], "decision"))
    if found is None:
        raise SparkyError(f"There is no decision {which}.")
    story = output.plain(found)
    if as_json:
        output.print_json(story.pop("decision") | story)
    else:
        output.say_lines(told(story))


@signals.command("list")
def list_signals(
    strategy: Strategy = None,
    status: Annotated[Status | None, typer.Option(help="Only those that are so.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the latest signals."""
    with database_here() as store:
        rows = store.signals(None if strategy is None else find(store, strategy).id, status, limit)
    output.answer(rows, SIGNALS, as_json=as_json, empty="No such signal has been sent yet.")


@signals.command("show")
def show_signal(
    which: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show one signal with every attempt to deliver it."""
    with database_here() as store:
        found = store.signal(_signal_id(store, which))
    if found is None:
        raise SparkyError(f"There is no signal {which}.")
    output.answer_one(found, as_json=as_json)


@signals.command("retry")
def retry_signal(
    which: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or its beginning.")],
    ttl_s: Annotated[float, typer.Option("--ttl", min=1, max=3_600, help="Seconds in which it may still go.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Send a signal again that was not delivered (expired, dead, or refused before the server kept it)."""
    with database_here() as store:
        signal_id = _signal_id(store, which)
        store.retry_signal(signal_id, ttl_s)
        told = store.signal(signal_id)
    _told(told, f"Signal {signal_id} goes out again within {ttl_s:g} s.", as_json=as_json)


@signals.command("drop")
def drop_signal(
    which: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or its beginning.")],
    reason: Annotated[str, typer.Option(help="Kept with the signal.")] = "dropped by hand",
    as_json: AsJson = False,
) -> None:
    """End a signal that waits, unsent."""
    with database_here() as store:
        signal_id = _signal_id(store, which)
        store.drop_signal(signal_id, reason)
        told = store.signal(signal_id)
    _told(told, f"Signal {signal_id} is dropped.", as_json=as_json)


def positions(strategy: Strategy = None, as_json: AsJson = False) -> None:
    """List open positions."""
    with database_here() as store:
        names = {row.id: row.name for row in store.list_strategies()}
        whose = None if strategy is None else find(store, strategy, may_have_ended=True).id
        held = store.held_positions(strategy_id=whose)
    rows = [output.plain(each) | {"strategy_name": each.strategy_id and names.get(each.strategy_id)} for each in held]
    output.answer(rows, POSITIONS, as_json=as_json, empty="Nothing is held.")


def trades(strategy: Strategy = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the latest closed trades."""
    with database_here() as store:
        rows = store.trades(None if strategy is None else find(store, strategy).id, limit)
    output.answer(rows, TRADES, as_json=as_json, empty="Nothing has been closed yet.")


def _told(signal: SignalHistory | None, sentence: str, *, as_json: bool) -> None:
    if as_json:
        output.answer_one(signal, as_json=True)
    else:
        output.say(sentence)


def _signal_id(store: Store, which: str) -> UUID:
    return _whole_id(which, [row.id for row in store.signals(None, None, 1_000)], "signal")


def _whole_id(which: str, known: list[UUID], noun: str) -> UUID:
    """The id that `which` is, or begins. Raises SparkyError."""
    try:
        return UUID(which)
    except ValueError:
        found = [each for each in known if str(each).startswith(which.lower())]
    if len(found) != 1:
        raise SparkyError(f"{'No' if not found else 'More than one'} {noun} of the last 1000 begins with {which}.")
    return found[0]
