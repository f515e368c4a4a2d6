"""`sparky status`: a live table of every process and every strategy, or the same facts as JSON."""

import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from console import instance, output, overview
from console.session import settings_here, store_of
from engine.errors import SparkyError
from engine.settings import Settings

REFRESH_S: Final = 1.0
_STYLES: Final = {"running": "green", "done": "dim", "paused": "yellow", "parked": "red", "backoff": "red"}


def status(settings: Settings, *, as_json: bool, once: bool) -> int:
    """Shows how everything is; refreshes until Ctrl-C on a terminal. Returns 1 when nothing runs."""
    if as_json or once or not sys.stdout.isatty():
        return _show_once(settings, as_json=as_json)
    return _show_live(settings)


def _show_once(settings: Settings, *, as_json: bool) -> int:
    view = look(settings)
    if as_json:
        output.print_json(view)
    elif view["running"] or view["strategies"]:
        output.screen().print(picture(view))
    if not view["running"]:
        typer.echo(nothing_runs(settings, view), err=True)
    return 0 if view["running"] else 1


def _show_live(settings: Settings) -> int:
    first = look(settings)
    if not first["running"]:
        return _show_once(settings, as_json=False)
    with Live(picture(first), refresh_per_second=4, transient=False) as live:
        try:
            while True:
                time.sleep(REFRESH_S)
                view = look(settings)
                live.update(picture(view) if view["running"] else Text(nothing_runs(settings, view)))
        except KeyboardInterrupt:
            return 0


def look(settings: Settings) -> dict[str, Any]:
    """What the monitor and the database say now; a database that cannot be read leaves its part out and says why."""
    monitor = instance.monitor_status(settings)
    rows, trouble = _rows(settings)
    view = overview.joined(monitor, rows, time.time())
    return view | {"database": trouble or "ok", "llm": overview.llm(rows, settings.sparky_daily_llm_budget_usd)}


def _rows(settings: Settings) -> tuple[list[dict[str, Any]], str | None]:
    try:
        with store_of(settings, may_start=False) as store:
            return [output.plain(row) for row in store.strategy_overview()], None
    except SparkyError as error:
        return [], str(error)


def nothing_runs(settings: Settings, view: dict[str, Any]) -> str:
    pid = instance.supervisor_pid(settings)
    if pid is not None:
        return f"Sparky runs as process {pid}, but its monitor does not answer at {instance.monitor_url(settings)}."
    # An embedded database stops with Sparky: that it does not run either is no news.
    is_news = view["database"] != "ok" and not settings.embeds_database
    known = f" The database says: {view['database']}" if is_news else ""
    return f"Sparky is not running on {settings.sparky_home}; `sparky up` starts it.{known}"


def picture(view: dict[str, Any]) -> RenderableType:
    """The whole table: shared processes, strategies, footer."""
    parts: list[RenderableType] = []
    if view["shared"]:
        parts += [_shared(view["shared"]), Text()]
    parts.append(_strategies(view["strategies"]) if view["strategies"] else Text("There are no strategies."))
    return Group(*parts, Text(), *(_footer(view)))


def _shared(rows: list[dict[str, Any]]) -> Table:
    return _table("process", [(row["name"], row["state"], row) for row in rows], _SHARED)


def _strategies(rows: list[dict[str, Any]]) -> Table:
    return _table("strategy", [(row["name"], row["state"], row) for row in rows], _STRATEGY)


def _table(
    first: str,
    rows: list[tuple[str, str, dict[str, Any]]],
    columns: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...],
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, min_width=20, no_wrap=True)
    table.add_column("state", min_width=9, no_wrap=True)
    for header, _ in columns:
        table.add_column(header, justify="left" if header in _LEFT else "right", no_wrap=header not in _LEFT)
    for name, state, row in rows:
        styled = Text(state, style=_STYLES.get(state, "yellow"))
        table.add_row(Text(name), styled, *(Text(cell(row)) for _, cell in columns))
    return table


def _footer(view: dict[str, Any]) -> list[Text]:
    totals, signals = view["totals"], view["totals"].get("signals", {})
    lines = [Text(f"! {problem}", style="red") for problem in view["problems"]]
    if view["database"] != "ok" and view["running"]:
        lines.append(Text(f"! {view['database']}", style="red"))
    sent = ", ".join(f"{count} {outcome}" for outcome, count in sorted(signals.items())) or "none"
    money = f"equity {_usd(totals['equity_usd'])}, realised {_usd(totals['realized_pnl_usd'])}"
    lines.append(
        Text(
            f"{totals.get('cycles', 0)} cycles, {totals.get('decisions', 0)} decisions; "
            f"signals: {sent}, {view['outbox_pending'] or 0} pending; "
            f"{money} USD; {_model_cost(view)}",
            style="dim",
        )
    )
    lines += [Text(_limits(model, state), style="dim") for model, state in view["limiter"].items()]
    return lines


def _limits(model: str, state: dict[str, Any]) -> str:
    uses = (f"{name} {state['used'].get(name, 0):,.0f}/{limit:,.0f}" for name, limit in state["limit"].items())
    return f"{model}: {', '.join(uses)}; {state['queue_length']} waiting{_need(state)}"


def _need(state: dict[str, Any]) -> str:
    """How often strategies want to ask against how often they can; nothing where nobody wants to."""
    if not state.get("need_rpm"):
        return ""
    need = f"; need {state['need_rpm']:.1f} a minute"
    if state.get("limit_rpm") is None:
        return need
    carried = f"{need}, limit {state['limit_rpm']:.1f} ({state['limited_by']})"
    cadence_s = state.get("effective_cadence_s")
    return carried if cadence_s is None else f"{carried}: TOO FEW, the busiest get one in {cadence_s:.0f} s"


def _model_cost(view: dict[str, Any]) -> str:
    """What the model has cost today, in all and by decision, and of which budget."""
    cost, totals = view["llm"], view["totals"]
    each = "" if cost["per_decision_usd"] is None else f", {_usd(cost['per_decision_usd'], 6)} a decision"
    budget = "" if cost["daily_budget_usd"] is None else f" of {_usd(cost['daily_budget_usd'])}"
    return f"model today {_usd(totals['llm_cost_today_usd'], 4)}{budget} USD{each}"


def _cost(row: dict[str, Any]) -> str:
    if row["llm_cost_today_usd"] is None:
        return "-"
    budget = row["daily_llm_budget_usd"]
    return _usd(row["llm_cost_today_usd"], 4) + ("" if budget is None else f" of {_usd(budget)}")


def _decision(row: dict[str, Any]) -> str:
    decision = row["last_decision"]
    if decision is None:
        return output.shown(row["last_outcome"] or row["paused_reason"])
    parts = [decision["action"], decision["symbol"]]
    if decision["confidence"] is not None and decision["action"] != "HOLD":
        parts.append(f"{float(decision['confidence']):.2f}")
    return " ".join(part for part in parts if part)


def _positions(positions: list[dict[str, Any]]) -> str:
    return (
        ", ".join(f"{p['side']} {Decimal(str(p['quantity'])).normalize():f} {p['symbol']}" for p in positions) or "flat"
    )


def _pnl(row: dict[str, Any]) -> str:
    if row["realized_pnl_usd"] is None:
        return "-"
    return output.cents(Decimal(str(row["realized_pnl_usd"])) + Decimal(str(row["unrealized_pnl_usd"] or 0)), "+,.2f")


def _usd(text: str, places: int = 2) -> str:
    return f"{Decimal(text):,.{places}f}"


def _mb(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 2**20:.1f} MB"


_SHARED: Final[tuple[tuple[str, Callable[[dict[str, Any]], str]], ...]] = (
    ("pid", lambda row: output.shown(row["pid"])),
    ("up", lambda row: output.duration(row["uptime_s"])),
    ("restarts", lambda row: str(row["restarts"])),
    ("memory", lambda row: _mb(row["memory_bytes"])),
)

_STRATEGY: Final[tuple[tuple[str, Callable[[dict[str, Any]], str]], ...]] = (
    ("pid", lambda row: output.shown(row["pid"])),
    ("last decision", _decision),
    ("age", lambda row: output.duration((row["last_decision"] or {}).get("age_s"))),
    ("next", lambda row: output.duration(row["next_tick_in_s"])),
    ("failures", lambda row: output.shown(row["failures"])),
    ("restarts", lambda row: output.shown(row["restarts"])),
    ("memory", lambda row: _mb(row["memory_bytes"])),
    ("position", lambda row: _positions(row["positions"])),
    ("P&L USD", _pnl),
    ("model USD", _cost),
)
_LEFT: Final = {"last decision", "position"}


def here(*, as_json: bool, once: bool) -> int:
    return status(settings_here(), as_json=as_json, once=once)
