"""`sparky strategy pause` and `delete`, with positions closed or left open."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import output
from cli.arguments import AsJson, StrategyArgument, find_strategy
from cli.commands.close_positions import COLUMNS, ClosingResult, close_positions
from cli.context import load_settings, open_store_for
from cli.streams import output_encoding
from cli.warning_texts import build_unattended_warnings
from engine.domain.positions import Position
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import SparkyError
from engine.platform.plain_text import one_line
from engine.platform.settings.settings import Settings
from engine.store.admin_rows import StrategyRow
from engine.store.store import Store

CloseOption = Annotated[
    bool, typer.Option("--close", help="Close every position that it holds, through the webhook server.")
]


def pause(which: StrategyArgument, is_to_close: CloseOption = False, as_json: AsJson = False) -> None:
    """Pause a strategy; what it holds stays open, unless --close is given."""
    settings = load_settings()
    with open_store_for(settings) as store:
        if is_to_close and _close_deleted_strategy(settings, store, which, as_json=as_json):
            return
        row = find_strategy(store, which, may_have_ended=is_to_close)
        if not (is_to_close and row.status == StrategyStatus.TERMINATED):  # an ended strategy may still have positions
            row = store.set_strategy_status(row.id, StrategyStatus.PAUSED)
        if is_to_close:
            _print_closing(
                settings, output.to_json_data(row), close_positions(settings, store, None, row.id), as_json=as_json
            )
        else:
            _print_held(row, store.list_held_positions(None, row.id), as_json=as_json)


def delete(
    which: StrategyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    is_to_close: CloseOption = False,
    as_json: AsJson = False,
) -> None:
    """End a strategy for good; its decisions and trades are kept, and what it holds stays open unless --close is given.

    One that holds something that could not be closed is paused and not ended.
    """
    settings = load_settings()
    with open_store_for(settings) as store:
        if is_to_close and _close_deleted_strategy(settings, store, which, as_json=as_json):
            return
        row = find_strategy(store, which, may_have_ended=is_to_close)
    # Outside of the store, because a question must not keep an embedded database running.
    if not yes and row.status != StrategyStatus.TERMINATED:
        _check_terminal(row)
        typer.confirm(f"End {one_line(row.name)} for good?", abort=True, err=True)
    with open_store_for(settings) as store:
        if is_to_close:
            _close_and_end(settings, store, row, as_json=as_json)
        else:
            row = store.delete_strategy(row.id)
            _print_held(row, store.list_held_positions(None, row.id), as_json=as_json)


def _close_and_end(settings: Settings, store: Store, row: StrategyRow, *, as_json: bool) -> None:
    """Pauses the strategy first, because it would enter again; ends it if everything is closed."""
    if row.status != StrategyStatus.TERMINATED:
        row = store.set_strategy_status(row.id, StrategyStatus.PAUSED)
    closing = close_positions(settings, store, None, row.id)
    if closing.is_complete:
        row = store.delete_strategy(row.id)
    _print_closing(settings, output.to_json_data(row), closing, as_json=as_json)


def _close_deleted_strategy(settings: Settings, store: Store, which: str, *, as_json: bool) -> bool:
    """Closes the positions of a strategy id whose row was deleted in the database; False if `which` is not one."""
    try:
        strategy_id = UUID(which.strip())
    except ValueError:
        return False
    is_known = any(row.id == strategy_id for row in store.list_strategies())
    if is_known or not store.list_held_positions(None, strategy_id):
        return False
    strategy_row = {"id": str(strategy_id), "name": str(strategy_id), "status": "gone"}
    _print_closing(settings, strategy_row, close_positions(settings, store, None, strategy_id), as_json=as_json)
    return True


def _print_closing(settings: Settings, row: dict[str, Any], closing: ClosingResult, *, as_json: bool) -> None:
    """Prints the result; `row` is the strategy's as JSON data. Then raises SparkyError if anything is still open."""
    sentence = f"{row['name']} is {row['status']}"
    if as_json:
        output.print_json(row | {"closed": closing.closed, "still_open": closing.still_open})
    else:
        output.say(f"{sentence}.")
        output.print_rows(closing.closed, COLUMNS, as_json=False, empty="It held nothing.")
    if not closing.is_complete:
        raise SparkyError(f"Not everything is closed; {sentence}. Run it again.{closing.hint(settings)}")


def _print_held(row: StrategyRow, positions: Sequence[Position], *, as_json: bool) -> None:
    still_open = output.to_json_data(positions)
    if as_json:
        output.print_json(output.to_json_data(row) | {"still_open": still_open})
        return
    output.say(f"{row.name} is {row.status}.")
    whose = {"strategy_id": row.id, "strategy_name": row.name, "why": row.status}
    for warning in build_unattended_warnings([position | whose for position in still_open], output_encoding()):
        output.say(warning)


def _check_terminal(row: StrategyRow) -> None:
    """Raises SparkyError without a terminal, where a question would never be answered."""
    if not sys.stdin.isatty():
        raise SparkyError(f"Ending {row.name} for good must be confirmed: at a terminal, or with --yes.")
