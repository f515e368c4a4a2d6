"""One view of everything: what the monitor sees of the processes joined with what the database knows of the money.

Pure: both sides are passed in, either may be missing.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

STRATEGY_PREFIX: Final = "strategy-"
_MOST_DIGITS: Final = 15  # before the point


def joined(monitor: dict[str, Any] | None, rows: list[dict[str, Any]], now: float) -> dict[str, Any]:
    """`monitor` is its /status or None, `rows` those of `strategy_overview`, `now` Unix seconds; ages are seconds."""
    seen = monitor or {}
    children = {child["name"]: child for child in seen.get("children", [])}
    cycles = seen.get("strategies", {})
    known = {str(row["id"]): row for row in rows}
    names = {STRATEGY_PREFIX + key: key for key in known}
    names |= {name: name.removeprefix(STRATEGY_PREFIX) for name, c in children.items() if c["kind"] == "strategy"}
    strategies = [
        strategy(key, children.get(name), cycles.get(key), known.get(key), now) for name, key in names.items()
    ]
    return {
        "running": monitor is not None,
        "healthy": seen.get("healthy", False),
        "problems": seen.get("problems", []),
        "supervisor": seen.get("supervisor"),
        "shared": [child for child in children.values() if child["kind"] != "strategy"],
        "strategies": strategies,
        "limiter": seen.get("limiter", {}),
        "outbox_pending": seen.get("outbox_pending"),
        "totals": {**seen.get("totals", {}), **_money(rows), "restarts": sum(c["restarts"] for c in children.values())},
    }


def strategy(
    key: str,
    child: dict[str, Any] | None,
    cycle: dict[str, Any] | None,
    row: dict[str, Any] | None,
    now: float,
) -> dict[str, Any]:
    """One strategy: its process, its last cycle, its books."""
    child, cycle, row = child or {}, cycle or {}, row or {}
    return {
        "id": key,
        "name": row.get("name") or child.get("title") or key,
        "status": row.get("status"),
        "state": state(child, cycle, row),
        "paused_reason": row.get("paused_reason"),
        "pid": child.get("pid"),
        "last_decision": cycle.get("last_decision") or _recorded(row.get("last_decision"), now),
        "last_outcome": cycle.get("outcome"),
        "last_reason": cycle.get("reason"),
        "next_tick_in_s": _until(cycle.get("next_tick_at"), now),
        "lateness_s": cycle.get("lateness_s"),
        "missed_ticks": cycle.get("missed_ticks"),
        "cycles": cycle.get("cycles"),
        "failures": cycle.get("failures"),
        "breaker": cycle.get("breaker"),
        "breaker_since": cycle.get("breaker_since"),
        "breaker_reason": cycle.get("breaker_reason"),
        "probe_at": cycle.get("probe_at"),
        "probe_in_s": _until(cycle.get("probe_at"), now),
        "restarts": child.get("restarts"),
        "restart_reasons": child.get("restart_reasons", {}),
        "memory_bytes": child.get("memory_bytes"),
        "signals": cycle.get("signals", {}),
        "positions": row.get("positions", []),
        "equity_usd": row.get("equity_usd"),
        "realized_pnl_usd": row.get("realized_pnl_usd"),
        "unrealized_pnl_usd": row.get("unrealized_pnl_usd"),
        "drawdown_percent": row.get("drawdown_percent"),
        "llm_cost_today_usd": row.get("llm_cost_today_usd"),
        "llm_decisions_today": row.get("llm_decisions_today"),
        "llm_cost_per_decision_usd": _each(row.get("llm_cost_today_usd"), row.get("llm_decisions_today")),
        "daily_llm_budget_usd": row.get("daily_llm_budget_usd"),
        "is_paper_trading": row.get("is_paper_trading"),
    }


def llm(rows: list[dict[str, Any]], daily_budget_usd: Decimal | None) -> dict[str, Any]:
    """What the model has cost today (UTC) for all strategies together; money as text."""
    cost_usd = _money(rows)["llm_cost_today_usd"]
    decisions = sum(int(row.get("llm_decisions_today") or 0) for row in rows)
    return {
        "cost_today_usd": cost_usd,
        "decisions_today": decisions,
        "per_decision_usd": _each(cost_usd, decisions),
        "daily_budget_usd": None if daily_budget_usd is None else str(daily_budget_usd),
    }


def _each(cost_usd: str | None, decisions: int | None) -> str | None:
    cost = _finite(cost_usd)
    return None if cost_usd is None or not decisions else str(round(cost / decisions, 8))


def _finite(amount: object) -> Decimal:
    """0 for what is no amount of money: one row without a figure must not hide the sum of all others."""
    value = Decimal(str(amount or 0))
    return value if value.is_finite() and value.adjusted() < _MOST_DIGITS else Decimal(0)


def state(child: dict[str, Any], cycle: dict[str, Any], row: dict[str, Any]) -> str:
    """One word for how a strategy is: its process's state, or its row's when it has no process."""
    if child:
        is_open = child["state"] == "running" and cycle.get("breaker") in ("open", "half_open")
        return f"breaker {cycle['breaker'].replace('_', ' ')}" if is_open else str(child["state"])
    status = str(row.get("status", "gone"))
    return "not started" if status == "running" else status


def _until(next_tick_at: float | None, now: float) -> float | None:
    return None if next_tick_at is None else round(next_tick_at - now, 3)


def _recorded(decision: dict[str, Any] | None, now: float) -> dict[str, Any] | None:
    """The database's last decision in the monitor's terms, for a strategy that the monitor has not heard of since."""
    if decision is None:
        return None
    said = {name: decision[name] for name in ("action", "symbol", "confidence")}
    try:
        at = datetime.fromisoformat(decision["at"]).timestamp()
    except (ValueError, OverflowError):  # a moment that Python lacks
        return said | {"at": None, "age_s": None}
    return said | {"at": at, "age_s": round(now - at, 3)}


def _money(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over all strategies; decimals arrive as text and leave as text, exact to the digit."""
    fields = ("realized_pnl_usd", "unrealized_pnl_usd", "equity_usd", "llm_cost_today_usd")
    return {field: str(sum((_finite(row.get(field)) for row in rows), Decimal(0))) for field in fields}
