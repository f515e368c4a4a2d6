"""One view of processes and books: the monitor's status joined with rows of the database.

Pure: both sides are passed in, and either may be missing. What only the missing side knows is None: never 0 or empty.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from actors.strategy_process_names import PREFIX as STRATEGY_PREFIX
from engine.risk.strategy_state import is_running

UNKNOWN: Final = "unknown"
NOT_STARTED: Final = "not started"
ELSEWHERE: Final = "elsewhere"  # another engine runs on the database, and its processes are not seen from here
MAX_BREAKER_OPEN_S: Final = 600.0  # a breaker that is open for less is probed soon
_MAX_DIGITS: Final = 15  # before the point
_MONEY_FIELDS: Final = ("realized_pnl_usd", "unrealized_pnl_usd", "equity_usd", "llm_cost_today_usd")
_COUNTERS: Final = ("cycles", "decisions", "faults", "llm_requests", "llm_tokens", "signals", "llm_cost_usd")

Rows = list[dict[str, Any]] | None


class UnreachableSupervisor(NamedTuple):
    """What is known of the supervisor if no monitor answers: its pid, and whether it may be running."""

    pid: int | None = None
    may_run: bool = False


def build_status(
    monitor: dict[str, Any] | None,
    rows: Rows,
    now: float,
    unreachable: UnreachableSupervisor = UnreachableSupervisor(),  # noqa: B008 - frozen
    lease_holder: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`monitor` is the monitor's /status or None, `rows` the rows of `strategy_overview` or None if not readable.

    `now` is Unix seconds; ages are seconds. `unreachable` is used if `monitor` is None. `lease_holder` is the
    `EngineLeaseHolder` of the database as JSON, None if there is none or it is not known.
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
        "strategies": _build_strategies(seen, rows, now, _state_without_process(seen, lease_holder, is_idle=is_idle)),
        "engine": seen.get("engine"),
        "database_engine": _build_engine(lease_holder),
        "limiter": seen.get("limiter"),
        "outbox_pending": seen.get("outbox_pending"),
        "totals": dict.fromkeys(_COUNTERS)
        | (seen.get("totals") or {})
        | _sum_money(rows)
        | {"restarts": _count_restarts(children)},
    }


def _build_supervisor(pid: int | None) -> dict[str, Any] | None:
    return None if pid is None else {"pid": pid, "report_age_s": None}


def _build_engine(lease_holder: dict[str, Any] | None) -> dict[str, Any] | None:
    if lease_holder is None:
        return None
    return {name: lease_holder[name] for name in ("epoch", "location", "since", "left_s")}


def is_engine_elsewhere(view: dict[str, Any]) -> bool:
    """Whether nothing runs on this home while an engine holds the lease of its database."""
    return view["running"] is False and (view["database_engine"] or {}).get("left_s", 0) > 0


def _state_without_process(seen: dict[str, Any], lease_holder: dict[str, Any] | None, *, is_idle: bool) -> str:
    """The state of a strategy that should run and has no process here."""
    if is_idle:
        return ELSEWHERE if lease_holder is not None and lease_holder["left_s"] > 0 else NOT_STARTED
    if (seen.get("engine") or {}).get("state") == "standing by":
        return ELSEWHERE
    return NOT_STARTED if seen.get("children") is not None else UNKNOWN


def _build_strategies(seen: dict[str, Any], rows: Rows, now: float, without_process: str) -> Rows:
    """None without the database and without processes, because then it is not known which strategies exist."""
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
    """The row of one strategy: its process, its last cycle, its books."""
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
    """None for null, NaN, infinities and amounts with more than `_MAX_DIGITS` digits before the point."""
    if value_text is None:
        return None
    value = Decimal(str(value_text))
    return value if value.is_finite() and value.adjusted() < _MAX_DIGITS else None


def strategy_state(
    child: dict[str, Any], cycle: dict[str, Any], row: dict[str, Any], without_process: str = NOT_STARTED
) -> str:
    """The state of its process or, without one, its status; `without_process` if it should run."""
    if child:
        is_open = child["state"] == "running" and cycle.get("breaker") in ("open", "half_open")
        return f"breaker {cycle['breaker'].replace('_', ' ')}" if is_open else str(child["state"])
    status = row.get("status")
    if status is None:
        return UNKNOWN
    return without_process if is_running(status) else str(status)


def _seconds_until(next_tick_at: float | None, now: float) -> float | None:
    return None if next_tick_at is None else round(next_tick_at - now, 3)


def _build_recorded_decision(decision: dict[str, Any] | None, now: float) -> dict[str, Any] | None:
    """The last decision from the database, in the form of the monitor's, which has none since its start."""
    if decision is None:
        return None
    fields = {name: decision[name] for name in ("action", "symbol", "confidence")}
    try:
        at = datetime.fromisoformat(decision["at"]).timestamp()
    except (ValueError, OverflowError):  # a time outside Python's range
        return fields | {"at": None, "age_s": None}
    return fields | {"at": at, "age_s": round(now - at, 3)}


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


def find_unattended(strategies: Sequence[dict[str, Any]], now: float, *, is_engine_here: bool) -> list[dict[str, Any]]:
    """Open positions of strategies that are parked or have their breaker open, from the rows of `build_status`.

    `now` is Unix seconds. Empty unless this home's engine holds the lease, because strategies without a process here
    may run in another engine. Strategies without a process are left out, because they may just have been started.
    """
    found = []
    for row in strategies if is_engine_here else ():
        why = _find_trouble(row, now)
        since = row.get("breaker_since") if why == "breaker open" else None
        lasting_s = None if since is None else round(now - since, 3)
        at = None if since is None else datetime.fromtimestamp(since, UTC).isoformat()
        of_whom = {"strategy_id": row["id"], "strategy_name": row["name"], "why": why, "since": at}
        found += [each | of_whom | {"lasting_s": lasting_s} for each in row["positions"] or () if why is not None]
    return found


def _find_trouble(row: dict[str, Any], now: float) -> str | None:
    if not is_running(row["status"]):
        return None
    if row["state"] == "parked":
        return "parked"
    since = row.get("breaker_since")
    return "breaker open" if since is not None and now - since >= MAX_BREAKER_OPEN_S else None
