"""`decisions show` over JSON that another version, or SQL by hand, wrote: every part is shown, whatever its shape."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cli import output
from cli.commands.decision_report import render_decision
from engine.store.store import Store
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.support.clients.sql import Sql
from tests.support.factories.hostile import unsafe
from tests.support.factories.hostile_rows import DECISION, fill_with_hostile_text, market

__all__ = ["home", "own_logging", "sparky"]

SHAPES: Final = (
    "null",
    "[]",
    "[1]",
    '"marked"',
    "1",
    "true",
    '{"symbols":"marked"}',
    '{"symbols":{"a":1}}',
    '{"symbols":[1]}',
    '{"symbols":[null,{"symbol":"marked"}]}',
    '{"symbols":[{"symbol":"a","last_price":"x","as_of_ms":9e99,"candles":[["x",1]],"indicators":{"r":"x"}}]}',
    '{"symbols":[{"symbol":"a","last_price":1,"as_of_ms":"x","candles":"x","indicators":[],"change_24h_percent":"y"}]}',
    '{"calls":"marked"}',
    '{"calls":[{"model":1}]}',
    '{"calls":{"a":1}}',
    '{"notes":5}',
    '{"notes":["a"]}',
    '{"positions":[1]}',
    '{"positions":5}',
    '{"positions":[{"side":1}]}',
    '{"limits":[1]}',
    '{"limits":1}',
    '{"risk_profile":[1]}',
    '{"size_reason":{"a":1}}',
    '{"system_sha256":[1]}',
    '{"equity_usd":{"a":1e400}}',
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@pytest.mark.parametrize("column", ["decision_json", "market"])
def test_a_decision_is_shown_whatever_the_shape_of_its_records(
    column: str, store: Store, sql: Sql, sparky: Sparky
) -> None:
    fill_with_hostile_text(store, sql)
    for shape in SHAPES:
        sql(f"update ai_trade_log set {column} = %s::jsonb", shape)  # noqa: S608 - these names
        shown = sparky.ok("decisions", "show", str(DECISION))
        assert "What became of it" in shown, shape
        is_read = ("calls" if column == "market" else "symbols") not in shape
        assert ("marked" in shown) == ("marked" in shape and is_read), shape
        assert unsafe(shown) == [], shape
        assert len(sparky.json("decisions", "list")) == 2, shape
        sparky.json("decisions", "show", str(DECISION))


@pytest.mark.parametrize("column", ["answer", "payload"])
def test_what_the_webhook_server_kept_is_shown_whatever_its_shape(
    column: str, store: Store, sql: Sql, sparky: Sparky
) -> None:
    fill_with_hostile_text(store, sql)
    for shape in ("[]", '"x"', "1", "null", '{"a":[1,{"b":2}]}'):
        sql(f"update webhook_requests set {column} = %s::jsonb", shape)  # noqa: S608 - these names
        assert "What became of it" in sparky.ok("decisions", "show", str(DECISION)), shape
        if column == "payload" and shape != "null":
            sql("update signal_outbox set payload = %s::jsonb", shape)
        for words in (("signals", "list"), ("signals", "show", str(DECISION))):
            sparky.ok(*words)


def _spoilt(value: Any, draw: Callable[[Any], Any]) -> Any:
    """`value` with other JSON in place of some of its parts."""
    if draw(st.integers(0, 5)) == 0:
        return draw(JSON)
    if isinstance(value, dict):
        return {key: _spoilt(inner, draw) for key, inner in value.items()}
    if isinstance(value, list):
        return [_spoilt(inner, draw) for inner in value]
    return value


@settings(max_examples=40, phases=[Phase.generate])
@given(st.data())
def test_any_part_of_a_record_may_be_any_json(data: st.DataObject) -> None:
    call = {"model": "m", "outcome": "ok", "reason": None, "latency_s": 1.0, "prompt_tokens": 1, "cached_tokens": 0}
    call |= {"completion_tokens": 2, "cost_usd": "0.1", "is_usage_told": False, "answer": "a"}
    seen = market()
    seen["symbols"][0]["candles"] = [[1_700_000_000_000, 1.0, 2.0, 0.5, 1.5, 9.0]]
    record = {"calls": [call], "notes": "n", "system_sha256": "s", "size_reason": "r"}
    decision: dict[str, Any] = {"id": "i", "strategy_name": "s", "created_at": "2026-01-01T00:00:00Z"}
    decision |= dict.fromkeys(
        ("symbol", "size_usd", "confidence_score", "reasoning", "reason", "suppressed", "actual_pnl", "model")
    )
    decision |= dict.fromkeys(("raw_answer", "cost_usd", "request_id", "stop_loss_percent", "take_profit_percent"))
    decision |= {"signal_action": "HOLD", "is_fault": False}
    decision |= {"market": _spoilt(seen, data.draw), "decision_json": _spoilt(record, data.draw)}
    story: dict[str, Any] = {"decision": decision, "signal": None, "attempts": [], "request": None, "fills": []}
    shown = render_decision(output.to_json_data(json.loads(json.dumps(story | {"positions": [], "trades": []}))))
    assert "What became of it" in shown
