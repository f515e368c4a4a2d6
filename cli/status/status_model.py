"""One view of everything: what the monitor sees of the processes joined with what the database knows of the money.

Pure: both sides are passed in, either may be missing. What only the missing side knows is None: never 0, never empty.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

STRATEGY_PREFIX: Final = "strategy-"
UNKNOWN: Final = "unknown"
NOT_STARTED: Final = "not started"
ELSEWHERE: Final = "elsewhere"  # another engine runs on the database, and its processes are not seen from here
_MAX_DIGITS: Final = 15  # before the point
_MONEY_FIELDS: Final = ("realized_pnl_usd", "unrealized_pnl_usd", "equity_usd", "llm_cost_today_usd")
_COUNTERS: Final = ("cycles", "decisions", "faults", "llm_requests", "llm_tokens", "signals", "llm_cost_usd")

Rows = list[dict[str, Any]] | None


class UnreachableSupervisor(NamedTuple):
    """What is known of the supervisor where no monitor answers: its pid, and whether it may run at all."""

    pid: int | None = None
    may_run: bool = False


def build_status(
    monitor: dict[str, Any] | None,
    rows: Rows,
    now: float,
    unreachable: UnreachableSupervisor = UnreachableSupervisor(),  # noqa: B008 - frozen
    tenure: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`monitor` is its /status or None, `rows` those of `strategy_overview` or None where they could not be read.

    `now` is Unix seconds; ages are seconds. `silent` counts where `monitor` is None: nobody knows then what runs.
    `tenure` is the database's `EngineLeaseHolder` as JSON, None where there is none or it is not known.
    """
    seen = monitor or {}
    children = seen.get("children")
    is_idle = monitor is None and not unreachable.may_run
    return {
        "running": True if monitor is not None else None if unreachable.may_run else False,
        "healthy": seen.get("healthy"),
        "problems": seen.get("problems"),
        "supervisor": seen.get("supervisor") or _build_supervisor(unreachable.pid),
        "shared": None if children is None else [child for child in children if child["kind"] != "strategy"],
        "strategies": _build_strategies(seen, rows, now, _state_without_process(seen, tenure, is_idle=is_idle)),
        "engine": seen.get("engine"),
        "database_engine": _build_engine(tenure),
        "limiter": seen.get("limiter"),
        "outbox_pending": seen.get("outbox_pending"),
        "totals": dict.fromkeys(_COUNTERS)
        | (seen.get("totals") or {})
        | _sum_money(rows)
        | {"restarts": _count_restarts(children)},
    }


def _build_supervisor(pid: int | None) -> dict[str, Any] | None:
    return None if pid is None else {"pid": pid, "report_age_s": None}


def _build_engine(tenure: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if tenure is None else {name: tenure[name] for name in ("epoch", "location", "since", "left_s")}


def is_engine_elsewhere(view: dict[str, Any]) -> bool:
    """Whether nothing runs on this home while an engine holds the lease of its database."""
    return view["running"] is False and (view["database_engine"] or {}).get("left_s", 0) > 0


def _state_without_process(seen: dict[str, Any], tenure: dict[str, Any] | None, *, is_idle: bool) -> str:
    """The state of a strategy that should run and has no process here."""
    if is_idle:
        return ELSEWHERE if tenure is not None and tenure["left_s"] > 0 else NOT_STARTED
    if (seen.get("engine") or {}).get("state") == "standing by":
        return ELSEWHERE
    return NOT_STARTED if seen.get("children") is not None else UNKNOWN


def _build_strategies(seen: dict[str, Any], rows: Rows, now: float, without_process: str) -> Rows:
    """None where it is not known which there are: the database alone knows those without a process."""
    children = {child["name"]: child for child in seen.get("children") or []}
    cycles = seen.get("strategies") or {}
    known = {str(row["id"]): row for row in rows or []}
    names = {STRATEGY_PREFIX + key: key for key in known}
    names |= {name: name.removeprefix(STRATEGY_PREFIX) for name, c in children.items() if c["kind"] == "strategy"}
    if rows is None and not names:
        return None
    return [
        build_strategy(key, children.get(name), cycles.get(key), known.get(key), now, without_process)
        for name, key in names.items()
    ]


def build_strategy(
    key: str,
    child: dict[str, Any] | None,
    cycle: dict[str, Any] | None,
    row: dict[str, Any] | None,
    now: float,
    without_process: str = NOT_STARTED,
) -> dict[str, Any]:
    """One strategy: its process, its last cycle, its books."""
    child, cycle, row = child or {}, cycle or {}, row or {}
    return {
        "id": key,
        "name": row.get("name") or child.get("title") or key,
        "status": row.get("status"),
        "state": strategy_state(child, cycle, row, without_process),
        "paused_reason": row.get("paused_reason"),
        "pid": child.get("pid"),
        "last_decision": cycle.get("last_decision") or _build_recorded_decision(row.get("last_decision"), now),
        "last_outcome": cycle.get("outcome"),
        "last_reason": cycle.get("reason"),
        "next_tick_in_s": _seconds_until(cycle.get("next_tick_at"), now),
        "lateness_s": cycle.get("lateness_s"),
        "missed_ticks": cycle.get("missed_ticks"),
        "cycles": cycle.get("cycles"),
        "failures": cycle.get("failures"),
        "breaker": cycle.get("breaker"),
        "breaker_since": cycle.get("breaker_since"),
        "breaker_reason": cycle.get("breaker_reason"),
        "probe_at": cycle.get("probe_at"),
        "probe_in_s": _seconds_until(cycle.get("probe_at"), now),
        "restarts": child.get("restarts"),
        "restart_reasons": child.get("restart_reasons"),
        "memory_bytes": child.get("memory_bytes"),
        "signals": cycle.get("signals"),
        "positions": row.get("positions"),
        "equity_usd": row.get("equity_usd"),
        "realized_pnl_usd": row.get("realized_pnl_usd"),
        "unrealized_pnl_usd": row.get("unrealized_pnl_usd"),
        "drawdown_percent": row.get("drawdown_percent"),
        "llm_cost_today_usd": row.get("llm_cost_today_usd"),
        "llm_decisions_today": row.get("llm_decisions_today"),
        "llm_cost_per_decision_usd": _cost_per_decision(row.get("llm_cost_today_usd"), row.get("llm_decisions_today")),
        "daily_llm_budget_usd": row.get("daily_llm_budget_usd"),
        "is_paper_trading": row.get("is_paper_trading"),
        "unreadable": row.get("unreadable", []),
    }


def build_llm_costs(rows: Rows, daily_budget_usd: Decimal | None) -> dict[str, Any]:
    """What the model has cost today (UTC) for all strategies together; money as text."""
    cost_usd = _sum_money(rows)["llm_cost_today_usd"]
    counts = None if rows is None else [row.get("llm_decisions_today") for row in rows]
    decisions = None if counts is None or None in counts else sum(int(count or 0) for count in counts)
    return {
        "cost_today_usd": cost_usd,
        "decisions_today": decisions,
        "per_decision_usd": _cost_per_decision(cost_usd, decisions),
        "daily_budget_usd": None if daily_budget_usd is None else str(daily_budget_usd),
    }


def _cost_per_decision(cost_usd: str | None, decisions: int | None) -> str | None:
    cost = _parse_amount(cost_usd)
    return None if cost is None or not decisions else str(round(cost / decisions, 8))


def _parse_amount(value_text: object) -> Decimal | None:
    """None for what is no amount of money: null, NaN, infinite, or of more digits than are counted with."""
    if value_text is None:
        return None
    value = Decimal(str(value_text))
    return value if value.is_finite() and value.adjusted() < _MAX_DIGITS else None


def strategy_state(
    child: dict[str, Any], cycle: dict[str, Any], row: dict[str, Any], without_process: str = NOT_STARTED
) -> str:
    """How a strategy is: its process's state; its row's, or `without_process` if it should run, when it has none."""
    if child:
        is_open = child["state"] == "running" and cycle.get("breaker") in ("open", "half_open")
        return f"breaker {cycle['breaker'].replace('_', ' ')}" if is_open else str(child["state"])
    status = row.get("status")
    if status is None:
        return UNKNOWN
    return without_process if status == "running" else str(status)


def _seconds_until(next_tick_at: float | None, now: float) -> float | None:
    return None if next_tick_at is None else round(next_tick_at - now, 3)


def _build_recorded_decision(decision: dict[str, Any] | None, now: float) -> dict[str, Any] | None:
    """The database's last decision in the monitor's terms, for a strategy that the monitor has not heard of since."""
    if decision is None:
        return None
    said = {name: decision[name] for name in ("action", "symbol", "confidence")}
    try:
        at = datetime.fromisoformat(decision["at"]).timestamp()
    except (ValueError, OverflowError):  # a moment that Python lacks
        return said | {"at": None, "age_s": None}
    return said | {"at": at, "age_s": round(now - at, 3)}


def _count_restarts(children: list[dict[str, Any]] | None) -> int | None:
    return None if children is None else sum(child["restarts"] for child in children)


def _sum_money(rows: Rows) -> dict[str, Any]:
    """Sums over all strategies; decimals arrive as text and leave as text, exact to the digit."""
    return {field: _sum_field(rows, field) for field in _MONEY_FIELDS}


def _sum_field(rows: Rows, field: str) -> str | None:
    """None when one of the amounts is unknown: the sum of the others is no total."""
    amounts = None if rows is None else [_parse_amount(row.get(field)) for row in rows]
    if amounts is None or None in amounts:
        return None
    return str(sum((amount for amount in amounts if amount is not None), Decimal(0)))
