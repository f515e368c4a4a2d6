"""What `sparky status` draws in terminals of every size."""

import io
from typing import Any

import pytest
from rich.console import Console

from cli.status.status_table import render_status

SHARED = ("database", "monitor", "limiter", "market", "dispatcher", "strategy-watcher")


def a_strategy(name: str, **facts: Any) -> dict[str, Any]:
    known = {
        "state": "running",
        "pid": 12_345,
        "last_decision": {"action": "CLOSE", "symbol": "BTCUSDT", "confidence": 0.9, "age_s": 4.0},
        "last_outcome": "ok",
        "paused_reason": None,
        "next_tick_in_s": 6.0,
        "failures": 0,
        "restarts": 0,
        "memory_bytes": 12_345_678,
        "positions": [{"side": "LONG", "quantity": "3.49", "symbol": symbol} for symbol in ("SOLUSDT", "BTCUSDT")],
        "realized_pnl_usd": "-3.2",
        "unrealized_pnl_usd": "1",
        "llm_cost_today_usd": "0.0007",
        "daily_llm_budget_usd": "1.5",
    }
    return {"name": name} | known | facts


def a_view(strategies: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    shared = {"state": "running", "pid": 1_234, "uptime_s": 30.0, "restarts": 0, "memory_bytes": 12_345_678}
    known = {
        "running": True,
        "problems": [],
        "database": "ok",
        "kill_switches": [],
        "shared": [{"name": name} | shared for name in SHARED],
        "strategies": strategies,
        "limiter": {},
        "outbox_pending": 0,
        "totals": {"equity_usd": "30011.6", "realized_pnl_usd": "-3.6", "llm_cost_today_usd": "0.0021"},
        "llm": {"per_decision_usd": "0.000234", "daily_budget_usd": None},
    }
    return known | facts


def drawn(view: dict[str, Any], width: int, height: int | None = None) -> list[str]:
    screen = Console(width=width, file=io.StringIO())
    screen.print(render_status(view, width, height))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def test_a_wide_terminal_shows_every_column_in_full() -> None:
    text = "\n".join(drawn(a_view([a_strategy("bold")]), 170))
    for word in ("12345", "CLOSE BTCUSDT 0.90", "11.8 MB", "LONG 3.49 SOLUSDT, LONG 3.49 BTCUSDT", "0.0007 of 1.50"):
        assert word in text


def test_a_narrow_terminal_leaves_columns_out_rather_than_cut_them() -> None:
    lines = drawn(a_view([a_strategy("bold"), a_strategy("a name that is longer than anybody needs")]), 80, 23)
    [header] = [line for line in lines if line.startswith("strategy ")]
    assert header.split() == ["strategy", "state", "last", "decision", "position", "P&L", "USD"]
    [row] = [line for line in lines if line.startswith("bold")]
    assert row.split()[:2] == ["bold", "running"]
    assert "CLOSE BTCUSDT 0.90" in row
    assert "-2.20" in row


@pytest.mark.parametrize("name", ["\u6218\u7565-\u4e00\u53f7", "\N{ROCKET} up", "\u00fcn\u00efcode"])
def test_wide_letters_keep_the_columns_in_line(name: str) -> None:
    lines = drawn(a_view([a_strategy(name), a_strategy("plain")]), 100)
    ends = {len(line.rstrip().encode("utf-16-le")) for line in lines if line.startswith("plain")}
    assert len(ends) == 1
    assert any(line.startswith(name) and "-2.20" in line for line in lines)


@pytest.mark.parametrize(("count", "width", "height"), [(50, 120, 30), (200, 80, 24), (200, 200, 60), (12, 80, 20)])
def test_what_does_not_fit_is_counted_and_who_needs_a_look_comes_first(count: int, width: int, height: int) -> None:
    strategies = [a_strategy(f"fleet-{number:03}") for number in range(count)]
    strategies[-1]["state"] = "parked"
    strategies[-2]["failures"] = 3
    lines = drawn(a_view(strategies, problems=["market is backoff"]), width, height)
    assert len(lines) <= height
    shown = [line for line in lines if line.startswith("fleet-")]
    assert shown[0].startswith(f"fleet-{count - 1:03}")
    assert shown[1].startswith(f"fleet-{count - 2:03}")
    assert f"and {count - len(shown)} running; `sparky status --once` shows all" in lines
    assert "! market is backoff" in lines


@pytest.mark.parametrize("width", [1, 8, 9, 12])
@pytest.mark.parametrize("height", [None, 5])
def test_a_terminal_of_any_width_gets_something(width: int, height: int | None) -> None:
    assert drawn(a_view([a_strategy("bold")], problems=["limiter is backoff"]), width, height)


def test_a_shared_process_that_is_not_well_is_named_when_there_is_no_room_for_all() -> None:
    view = a_view([a_strategy(str(number)) for number in range(30)])
    view["shared"][2]["state"] = "backoff"
    assert drawn(view, 80, 24)[0] == "5 of 6 shared processes are well; limiter backoff"


def test_switches_and_models_that_are_gone_are_warned_of() -> None:
    switches = [
        {"strategy_name": None, "strategy_id": None, "email": None, "reason": "news"},
        {"strategy_name": "too bold", "strategy_id": "0b7d", "email": None, "reason": None},
    ]
    gone = {"used": {}, "limit": {}, "queue_length": 0, "gone": "404 model_not_found"}
    lines = drawn(a_view([a_strategy("bold")], kill_switches=switches, limiter={"llama": gone}), 170)
    assert "! the kill switch is on for everybody (news): no entries; `sparky kill --off` lifts it" in lines
    assert any("for too bold: no entries; `sparky kill --off --strategy 'too bold'` lifts it" in line for line in lines)
    assert "! the provider does not serve llama (404 model_not_found): change GROQ_MODEL" in lines
