"""`sparky kill`: switches that refuse entries of everybody, one person or one strategy; closes positions on request."""

from typing import Annotated, Any, Final

import typer

from cli import output
from cli.arguments import AsJson, find_strategy, find_user
from cli.commands.close_positions import COLUMNS, ClosingResult, close_positions
from cli.context import load_settings, open_store_for
from cli.output import Column
from cli.streams import output_encoding
from cli.warning_texts import is_typable
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import Settings


def _format_scope(row: dict[str, Any]) -> str:
    """The strategy's name, or the beginning of its id if the name cannot be typed; else the person, or everybody."""
    name = row["strategy_name"]
    if not name:
        return str(row["email"] or "everybody")
    return str(name if is_typable(name, output_encoding()) else row["strategy_id"][:8])


SWITCHES: Final = (
    Column("since (UTC)", output.time_cell("created_at"), is_time=True),
    Column("entries refused to", _format_scope),
    Column("reason", "reason", wraps=True),
)


def kill(
    email: Annotated[str | None, typer.Option("--user", help="Only this person's entries (e-mail address).")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", "-s", help="Only this strategy's (name or id).")] = None,
    is_off: Annotated[bool, typer.Option("--off", help="Allow entries again.")] = False,
    close_all: Annotated[
        bool, typer.Option("--close-all", help="Close every open position it covers as well.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Kept with the switch.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Only say which switches are on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Refuse every entry from this moment on; exits stay open. Without --user and --strategy it is for everybody."""
    if sum((email is not None and strategy is not None, is_off and close_all)):
        raise SparkyError("Choose --user or --strategy, and --off or --close-all.")
    settings = load_settings()
    closing: ClosingResult | None = None
    with open_store_for(settings) as store:
        user_id = None if email is None else find_user(store, email)
        strategy_id = None if strategy is None else find_strategy(store, strategy, may_have_ended=close_all).id
        if not show:
            store.set_kill_switch(user_id, strategy_id, is_on=not is_off, reason=reason)
        if close_all and not show:
            closing = close_positions(settings, store, user_id, strategy_id)
        rows = store.list_kill_switches() if closing is None else ()
    if closing is not None:
        _print_closing(closing, settings, as_json=as_json)
        return
    output.print_rows(rows, SWITCHES, as_json=as_json, empty="No kill switch is on; entries are open.")


def _print_closing(closing: ClosingResult, settings: Settings, *, as_json: bool) -> None:
    if closing.closed and not as_json:
        output.say("The kill switch is on now.")
    output.print_rows(closing.closed, COLUMNS, as_json=as_json, empty="The kill switch is on now; nothing was held.")
    if not closing.is_complete:
        hint = closing.hint(settings)
        raise SparkyError(f"Not everything is closed; the kill switch stays on. Run it again.{hint}")
