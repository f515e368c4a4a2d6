"""`sparky status`: a live table of every process and every strategy, or the same facts as JSON."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli import output, running_instance
from cli.context import open_store_for
from cli.status import status_model
from cli.status.status_model import find_unattended
from cli.status.status_table import render_status
from cli.streams import output_encoding
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.platform.plain_text import one_line
from engine.platform.settings.settings import Settings
from engine.risk.strategy_state import is_running
from engine.store.values import format_validation_errors

REFRESH_S: Final = 1.0
DATABASE_TIMEOUT_S: Final = 3.0  # for each reading
Rows = list[dict[str, Any]]


def status(settings: Settings, *, as_json: bool, once: bool) -> int:
    """Shows the status; on a terminal with a cursor refreshes it until Ctrl-C. The exit code: 1 if nothing runs."""
    if as_json or once or not sys.stdout.isatty() or output.make_console().is_dumb_terminal:
        return _show_once(settings, as_json=as_json)
    return _show_live(settings)


def _show_once(settings: Settings, *, as_json: bool) -> int:
    view = collect_status(settings)
    if as_json:
        output.print_json(view)
    elif view["running"] or view["strategies"] or view["differences"]:
        screen = output.make_console()
        screen.print(render_status(view, screen.width, encoding=output_encoding()))
    if not view["running"]:
        output.say(describe_not_running(settings, view), err=True)
    return 0 if view["running"] else 1


def _show_live(settings: Settings) -> int:
    # A display that refreshes is for a running Sparky; otherwise the sentence and the exit code are the answer.
    first = collect_status(settings)
    if not first["running"]:
        return _show_once(settings, as_json=False)
    screen, encoding = output.make_console(), output_encoding()  # before `Live` replaces the stream
    with Live(_render_to_fit(screen, first, encoding), console=screen, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(REFRESH_S)
                view = collect_status(settings)
                shown = (
                    _render_to_fit(screen, view, encoding)
                    if view["running"]
                    else Text(one_line(describe_not_running(settings, view)))
                )
                live.update(shown, refresh=True)
        except KeyboardInterrupt:
            return 0


def _render_to_fit(screen: Console, view: dict[str, Any], encoding: str) -> Any:
    return render_status(view, screen.width, screen.height - 1, encoding)


def collect_status(settings: Settings) -> dict[str, Any]:
    """The status as JSON data (see `build_status`); None for what could not be read.

    `database` is ``ok`` or the reason why something could not be read.
    """
    monitor = running_instance.fetch_monitor_status(settings)
    books = _read_database(settings)
    pid = running_instance.find_supervisor_pid(settings) if monitor is None else None
    silent = status_model.UnreachableSupervisor(
        pid, may_run=pid is not None or running_instance.is_lock_hidden(settings)
    )
    now = time.time()
    view = status_model.build_status(monitor, books.rows, now, silent, books.lease_holder)
    return view | {
        "database": books.error or "ok",
        "kill_switches": books.switches,
        "unattended": _collect_unattended(books.unattended, view, now),
        "differences": books.differences,
        "llm": status_model.build_llm_costs(books.rows, settings.sparky_daily_llm_budget_usd),
    }


def _collect_unattended(found: Rows | None, view: dict[str, Any], now: float) -> Rows | None:
    """None if nothing is known; without the database only positions of strategies with a process."""
    is_engine_here = bool((view["engine"] or {}).get("is_held"))
    unsteered = find_unattended(view["strategies"] or (), now, is_engine_here=is_engine_here)
    return unsteered or None if found is None else found + unsteered


class _DatabaseReadings(NamedTuple):
    """The rows read from the database; None for a query that failed, for the reason in `error`."""

    rows: Rows | None
    switches: Rows | None
    unattended: Rows | None
    differences: Rows | None
    lease_holder: dict[str, Any] | None  # also None if no engine ever ran there
    error: str | None


def _read_database(settings: Settings) -> _DatabaseReadings:
    """Runs each query separately, so that one may fail; stops if the database is not available."""
    outages: list[str] = []
    try:
        with open_store_for(settings, may_start=False, timeout_s=DATABASE_TIMEOUT_S) as store:
            asked = (
                store.list_strategy_overviews,
                store.list_kill_switches,
                store.list_unattended_positions,
                store.list_open_differences,
                store.get_engine_lease_holder,
            )
            readings = [_read_one(query, outages) for query in asked]
    except SparkyError as error:
        return _DatabaseReadings(None, None, None, None, None, str(error))
    troubles = dict.fromkeys(trouble for _, trouble in readings if trouble is not None)
    rows, switches, unsteered, differences, lease_holder = (found for found, _ in readings)
    return _DatabaseReadings(rows, switches, unsteered, differences, lease_holder, "; ".join(troubles) or None)


def _read_one(
    reading: Callable[[], Sequence[BaseModel] | BaseModel | None], outages: list[str]
) -> tuple[Any, str | None]:
    """The rows, or the reason of a failure. Does not query after an outage, the reason of which is in `outages`."""
    if outages:
        return None, outages[0]
    try:
        return output.to_json_data(reading()), None
    except UpstreamUnavailable as error:
        outages.append(str(error))
        return None, outages[0]
    except SparkyError as error:
        return None, str(error)
    except ValidationError as error:
        return None, f"what the database holds cannot be read: {format_validation_errors(error)}"


def describe_not_running(settings: Settings, view: dict[str, Any]) -> str:
    pid = running_instance.find_supervisor_pid(settings)
    if pid is not None:
        url = running_instance.build_monitor_url(settings)
        return f"Sparky runs as process {pid}, but its monitor does not answer at {url}."
    if running_instance.is_lock_hidden(settings):
        return f"Whether Sparky runs on {settings.sparky_home} cannot be seen by this user: Permission denied."
    # Not for an embedded database, because that stops with Sparky.
    is_news = view["database"] != "ok" and not settings.embeds_database
    database_error = f" The database says: {view['database']}" if is_news else ""
    if status_model.is_engine_elsewhere(view):
        there = view["database_engine"]
        where = f"the engine of this database runs at {there['location']} (epoch {there['epoch']})"
        return f"Sparky is not running on {settings.sparky_home}; {where}.{database_error}"
    held = sum(len(row["positions"] or ()) for row in view["strategies"] or () if is_running(row["status"]))
    unsteered = f" Nobody steers what running strategies hold meanwhile (open positions: {held})." if held else ""
    hint = running_instance.build_start_hint(settings)
    return f"Sparky is not running on {settings.sparky_home}; {hint}.{unsteered}{database_error}"
