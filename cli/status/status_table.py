"""The table of `sparky status`: as much as the terminal holds, strategies with faults first. Pure."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli import output
from cli.column_widths import truncate
from cli.reconcile import adoption_text
from cli.warning_texts import build_unattended_warnings, describe_kill_switch
from engine.domain import decimals
from engine.domain.provider_messages import describe_unserved_model
from engine.platform.plain_text import one_line, safe
from engine.platform.text_encoding import UTF8, replace_unshowable

_STYLES: Final = {"running": "green", "done": "dim", "paused": "yellow", "parked": "red", "backoff": "red"}
_HEALTHY_STATES: Final = frozenset({"running", "done"})
_GAP: Final = 2
_INDENT: Final = 2
_MAX_NAME_WIDTH: Final = 30
_MAX_STATE_WIDTH: Final = 18
_MIN_NAME_WIDTH: Final = 18
_MIN_TEXT_WIDTH: Final = 18
_FRAME_LINES: Final = 4  # two headers, two empty lines
_WORD_WRAP_LOSS: Final = 8
_MAX_VALUE_LENGTH: Final = 500


class _Column(NamedTuple):
    """On a narrow terminal columns are left out in the order of `drop_order`; 0: never."""

    header: str
    cell: Callable[[dict[str, Any]], str]
    drop_order: int = 0
    is_text: bool = False
    min_width: int | None = None

    def widest_cell(self, rows: Sequence[dict[str, Any]]) -> int:
        return max(cell_len(self.header), max((cell_len(self.cell(row)) for row in rows), default=0))

    def width(self, rows: Sequence[dict[str, Any]]) -> int:
        """The width that it needs, or can be wrapped into."""
        widest = self.widest_cell(rows)
        return widest if self.min_width is None else min(widest, self.min_width)


def render_status(
    view: dict[str, Any], width: int = output.NON_TERMINAL_WIDTH, height: int | None = None, encoding: str = UTF8
) -> RenderableType:
    """Shared processes, strategies and footer, `width` cells wide, as a stream of that `encoding` can show them.

    With `height` that many lines at most: long cells are cut, shared processes summarised in one line, and strategies
    without faults left out.
    """
    # Before names are escaped, because the commands in these texts need the names as they are.
    switches = (
        None
        if view["kill_switches"] is None
        else [describe_kill_switch(switch, encoding) for switch in view["kill_switches"]]
    )
    unsteered = build_unattended_warnings(view.get("unattended") or (), encoding)
    differences = adoption_text.build_difference_warnings(view.get("differences") or (), encoding)
    view = safe(replace_unshowable(view, encoding), longest=_MAX_VALUE_LENGTH)
    view |= {
        "kill_switches": replace_unshowable(switches, encoding),
        "unattended": replace_unshowable(unsteered, encoding),
    }
    view |= {"differences": replace_unshowable(differences, encoding)}
    footer = _build_footer(view)
    strategies, shared = view["strategies"] or [], view["shared"] or []
    lines = len(shared) + len(strategies) + _FRAME_LINES + sum(_count_lines(text, width) for text in footer)
    is_tight = height is not None and lines > height
    parts: list[RenderableType] = []
    if shared:
        parts += [
            _summarize_shared(shared) if is_tight else _build_table("process", shared, _SHARED_COLUMNS, width),
            Text(),
        ]
    if not strategies:
        none = "There are no strategies." if view["strategies"] is not None else "Which strategies exist is not known."
        return Group(*parts, Text(none), Text(), *map(output.HangingIndent, footer))
    if is_tight and height is not None:
        left = height - (lines - len(shared) - len(strategies)) - _count_lines(_summarize_shared(shared), width)
        strategies, rest = _keep_worst(strategies, max(1, left - 1))
        footer = [*rest, *footer]
    table = _build_table("strategy", strategies, _STRATEGY_COLUMNS, width, wraps=height is None)
    return Group(*parts, table, Text(), *map(output.HangingIndent, footer))


def _count_lines(text: Text, width: int) -> int:
    """An upper bound of its lines, because words are not broken at the exact width."""
    return 1 if cell_len(text.plain) <= width else -(-cell_len(text.plain) // max(1, width - _INDENT - _WORD_WRAP_LOSS))


def _summarize_shared(rows: list[dict[str, Any]]) -> Text:
    ill = [f"{row['name']} {row['state']}" for row in rows if row["state"] not in _HEALTHY_STATES]
    well = f"{len(rows) - len(ill)} of {len(rows)} shared processes are well"
    return Text("; ".join([well, *ill]), style="red" if ill else "dim")


def _keep_worst(rows: list[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], list[Text]]:
    """The `most` rows with the most urgent faults, and one line about the others."""
    ordered = sorted(rows, key=lambda row: (row["state"] == "running", not row["failures"]))
    hidden = ordered[most:]
    if not hidden:
        return rows, []
    states = {row["state"] for row in hidden}
    counts = ", ".join(f"{sum(row['state'] == state for row in hidden)} {state}" for state in sorted(states))
    return ordered[:most], [Text(f"and {counts}; `sparky status --once` shows all", style="dim")]


def _build_table(
    first: str, rows: list[dict[str, Any]], columns: tuple[_Column, ...], width: int, *, wraps: bool = True
) -> Table:
    name = min(_MAX_NAME_WIDTH, max(20, *(cell_len(row["name"]) for row in rows)))
    state = min(_MAX_STATE_WIDTH, max(9, *(cell_len(row["state"]) for row in rows)))
    shown = _drop_columns_to_fit(columns, rows, width - min(name, _MIN_NAME_WIDTH) - state - _GAP)
    needed = sum(column.width(rows) + _GAP for column in shown) + state + _GAP
    table = Table(box=None, pad_edge=False, header_style="bold")
    name_width = max(_MIN_NAME_WIDTH, min(name, width - needed))
    table.add_column(first, width=name_width, no_wrap=True, overflow="ellipsis")
    table.add_column("state", min_width=state, no_wrap=True, overflow="ellipsis")
    spare = max(0, width - needed - min(name, width - needed) - _GAP)
    for column in shown:
        more = min(spare, column.widest_cell(rows) - column.width(rows))
        spare -= more
        table.add_column(
            column.header,
            justify="left" if column.is_text else "right",
            no_wrap=column.min_width is None or not wraps,
            overflow="fold" if wraps else "ellipsis",
            width=None if column.min_width is None else column.width(rows) + more,
        )
    for row in rows:
        styled = Text(row["state"], style=_STYLES.get(row["state"], "yellow"))
        table.add_row(Text(truncate(row["name"], name_width)), styled, *(Text(column.cell(row)) for column in shown))
    return table


def _drop_columns_to_fit(columns: tuple[_Column, ...], rows: list[dict[str, Any]], width: int) -> list[_Column]:
    """The columns that fit, without those of the smallest `drop_order`."""
    shown = list(columns)
    for column in sorted((column for column in columns if column.drop_order), key=lambda column: column.drop_order):
        if sum(column.width(rows) + _GAP for column in shown) <= width:
            break
        shown.remove(column)
    return shown


def _build_footer(view: dict[str, Any]) -> list[Text]:
    totals = view["totals"]
    lines = [Text(f"! {warning}", style="red") for warning in _collect_warnings(view)]
    money = f"equity {_format_usd(totals['equity_usd'])}, realised {_format_usd(totals['realized_pnl_usd'])}"
    lines.append(
        Text(
            f"{output.format_value(totals.get('cycles'))} cycles, "
            f"{output.format_value(totals.get('decisions'))} decisions; "
            f"signals: {_format_signal_counts(totals.get('signals'))}, "
            f"{output.format_value(view['outbox_pending'])} pending; "
            f"{money} USD; {_format_model_cost(view)}",
            style="dim",
        )
    )
    lines += [Text(_format_limits(model, state), style="dim") for model, state in (view["limiter"] or {}).items()]
    return [*lines, *_build_engine_lines(view.get("engine") or {})]


def _build_engine_lines(engine: dict[str, Any]) -> list[Text]:
    """The lease epoch of this engine, or that of the one for which it waits."""
    if engine.get("epoch") is None:
        return []
    where = f", at {engine['location']}" if engine["state"] == "standing by" and engine["location"] else ""
    return [Text(f"engine: epoch {engine['epoch']} of its database{where}", style="dim")]


def _format_signal_counts(signals: dict[str, int] | None) -> str:
    if signals is None:
        return "-"
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(signals.items())) or "none"


def _collect_warnings(view: dict[str, Any]) -> list[str]:
    """Warnings, the most important first."""
    warnings = list(view["problems"] or [])
    if (view.get("engine") or {}).get("state") == "standing by":
        warnings.append(f"this engine stands by: {one_line(view['engine']['reason'], 4 * _MAX_VALUE_LENGTH)}")
    if view["database"] != "ok" and view["running"]:
        warnings.append(view["database"])
    warnings += ["whether a kill switch is on is not known"] if view["kill_switches"] is None else view["kill_switches"]
    warnings += view["differences"]
    warnings += view["unattended"]
    warnings += [
        f"{row['name']}: {', '.join(row['unreadable'])} cannot be read"
        for row in view["strategies"] or []
        if row.get("unreadable")
    ]
    gone = {model: state["gone"] for model, state in (view["limiter"] or {}).items() if state.get("gone")}
    sentences = (describe_unserved_model(model, reason) for model, reason in gone.items())
    return warnings + [sentence for sentence in sentences if sentence not in warnings]


def _format_limits(model: str, state: dict[str, Any]) -> str:
    uses = (f"{name} {state['used'].get(name, 0):,.0f}/{limit:,.0f}" for name, limit in state["limit"].items())
    return f"{model}: {', '.join(uses)}; {state['queue_length']} waiting{_format_demand(state)}"


def _format_demand(state: dict[str, Any]) -> str:
    """Requests per minute that strategies need and can have; empty if they need none."""
    if not state.get("need_rpm"):
        return ""
    need = f"; need {state['need_rpm']:.1f} a minute"
    if state.get("limit_rpm") is None:
        return need
    carried = f"{need}, limit {state['limit_rpm']:.1f} ({state['limited_by']})"
    cadence_s = state.get("effective_cadence_s")
    return carried if cadence_s is None else f"{carried}: TOO FEW, the busiest get one in {cadence_s:.0f} s"


def _format_model_cost(view: dict[str, Any]) -> str:
    """The model's cost today, in all and per decision, and the budget."""
    cost, totals = view["llm"], view["totals"]
    each = "" if cost["per_decision_usd"] is None else f", {_format_usd(cost['per_decision_usd'], 6)} a decision"
    budget = "" if cost["daily_budget_usd"] is None else f" of {_format_usd(cost['daily_budget_usd'])}"
    return f"model today {_format_usd(totals['llm_cost_today_usd'], 4)}{budget} USD{each}"


def _format_strategy_cost(row: dict[str, Any]) -> str:
    if row["llm_cost_today_usd"] is None:
        return "-"
    budget = row["daily_llm_budget_usd"]
    return _format_usd(row["llm_cost_today_usd"], 4) + ("" if budget is None else f" of {_format_usd(budget)}")


def _format_decision(row: dict[str, Any]) -> str:
    decision = row["last_decision"]
    if row.get("probe_in_s") is not None:
        return f"probe in {output.format_duration(row['probe_in_s'])}: {output.format_value(row['breaker_reason'])}"
    if row["state"] == "paused" and row["paused_reason"]:
        return output.format_value(row["paused_reason"])
    if decision is None:
        return output.format_value(row["last_outcome"] or row["paused_reason"])
    parts = [decision["action"], decision["symbol"]]
    if decision["confidence"] is not None and decision["action"] != "HOLD":
        parts.append(f"{float(decision['confidence']):.2f}")
    return " ".join(part for part in parts if part)


def _format_positions(positions: list[dict[str, Any]] | None) -> str:
    if positions is None:
        return "-"
    return (
        ", ".join(f"{p['side']} {decimals.format_plain(Decimal(str(p['quantity'])))} {p['symbol']}" for p in positions)
        or "flat"
    )


def _format_pnl(row: dict[str, Any]) -> str:
    if row["realized_pnl_usd"] is None or row["unrealized_pnl_usd"] is None:
        return "-"
    realized, unrealized = Decimal(str(row["realized_pnl_usd"])), Decimal(str(row["unrealized_pnl_usd"]))
    if not (realized.is_finite() and unrealized.is_finite()):
        return "NaN"
    return output.format_cents(realized + unrealized, "+,.2f")


def _format_usd(text: str | None, places: int = 2) -> str:
    return "-" if text is None else f"{Decimal(text):,.{places}f}"


def _format_mb(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 2**20:.1f} MB"


_SHARED_COLUMNS: Final = (
    _Column("pid", lambda row: output.format_value(row["pid"])),
    _Column("up", lambda row: output.format_duration(row["uptime_s"])),
    _Column("restarts", lambda row: str(row["restarts"])),
    _Column("memory", lambda row: _format_mb(row["memory_bytes"])),
)

_STRATEGY_COLUMNS: Final = (
    _Column("pid", lambda row: output.format_value(row["pid"]), drop_order=2),
    _Column("last decision", _format_decision, is_text=True, min_width=_MIN_TEXT_WIDTH),
    _Column("age", lambda row: output.format_duration((row["last_decision"] or {}).get("age_s")), drop_order=6),
    _Column("next", lambda row: output.format_duration(row["next_tick_in_s"]), drop_order=5),
    _Column("failures", lambda row: output.format_value(row["failures"]), drop_order=7),
    _Column("restarts", lambda row: output.format_value(row["restarts"]), drop_order=3),
    _Column("memory", lambda row: _format_mb(row["memory_bytes"]), drop_order=1),
    _Column(
        "position",
        lambda row: _format_positions(row["positions"]),
        drop_order=8,
        is_text=True,
        min_width=_MIN_TEXT_WIDTH,
    ),
    _Column("P&L USD", _format_pnl),
    _Column("model USD", _format_strategy_cost, drop_order=4),
)
