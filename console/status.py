"""`sparky status`: a live table of every process and every strategy, or the same facts as JSON."""

import sys
import time
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from console import instance, output, overview, unattended
from console.picture import picture
from console.session import settings_here, store_of
from console.streams import encoding_of_answers
from engine.errors import SparkyError
from engine.plain_text import one_line
from engine.settings import Settings

REFRESH_S: Final = 1.0
Rows = list[dict[str, Any]]


def status(settings: Settings, *, as_json: bool, once: bool) -> int:
    """Shows how everything is; refreshes until Ctrl-C on a terminal with a cursor. Returns 1 when nothing runs."""
    if as_json or once or not sys.stdout.isatty() or output.screen().is_dumb_terminal:
        return _show_once(settings, as_json=as_json)
    return _show_live(settings)


def _show_once(settings: Settings, *, as_json: bool) -> int:
    view = look(settings)
    if as_json:
        output.print_json(view)
    elif view["running"] or view["strategies"]:
        screen = output.screen()
        screen.print(picture(view, screen.width, encoding=encoding_of_answers()))
    if not view["running"]:
        output.say(nothing_runs(settings, view), err=True)
    return 0 if view["running"] else 1


def _show_live(settings: Settings) -> int:
    first = look(settings)
    if not first["running"]:
        return _show_once(settings, as_json=False)
    screen, encoding = output.screen(), encoding_of_answers()  # while `Live` runs, its own stream stands in the way
    with Live(_fitted(screen, first, encoding), console=screen, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(REFRESH_S)
                view = look(settings)
                shown = (
                    _fitted(screen, view, encoding) if view["running"] else Text(one_line(nothing_runs(settings, view)))
                )
                live.update(shown, refresh=True)
        except KeyboardInterrupt:
            return 0


def _fitted(screen: Console, view: dict[str, Any], encoding: str) -> Any:
    return picture(view, screen.width, screen.height - 1, encoding)


def look(settings: Settings) -> dict[str, Any]:
    """What the monitor and the database say now; a database that cannot be read leaves its part out and says why."""
    monitor = instance.monitor_status(settings)
    rows, switches, alone, trouble = _rows(settings)
    now = time.time()
    view = overview.joined(monitor, rows, now)
    return view | {
        "database": trouble or "ok",
        "kill_switches": switches,
        "unattended": alone + unattended.unsteered(view["strategies"], now, is_running=view["running"]),
        "llm": overview.llm(rows, settings.sparky_daily_llm_budget_usd),
    }


def _rows(settings: Settings) -> tuple[Rows, Rows, Rows, str | None]:
    """Strategies, kill switches, positions that nobody steers; and why they cannot be read."""
    try:
        with store_of(settings, may_start=False) as store:
            rows, switches = output.plain(store.strategy_overview()), output.plain(store.kill_switches())
            return rows, switches, output.plain(store.unattended_positions()), None
    except SparkyError as error:
        return [], [], [], str(error)


def nothing_runs(settings: Settings, view: dict[str, Any]) -> str:
    pid = instance.supervisor_pid(settings)
    if pid is not None:
        return f"Sparky runs as process {pid}, but its monitor does not answer at {instance.monitor_url(settings)}."
    # An embedded database stops with Sparky: that it does not run either is no news.
    is_news = view["database"] != "ok" and not settings.embeds_database
    known = f" The database says: {view['database']}" if is_news else ""
    held = sum(len(row["positions"]) for row in view["strategies"] if row["status"] == "running")
    alone = f" Nobody steers what running strategies hold meanwhile (open positions: {held})." if held else ""
    return f"Sparky is not running on {settings.sparky_home}; `sparky up` starts it.{alone}{known}"


def here(*, as_json: bool, once: bool) -> int:
    return status(settings_here(), as_json=as_json, once=once)
