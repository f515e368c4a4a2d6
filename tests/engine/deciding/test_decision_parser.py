"""The parser: any text in, a bounded decision or a HOLD with its reason out."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.deciding.decision_parser import DecisionLimits, parse_decision
from engine.domain.decision import SCHEMA, Action, Decision
from engine.platform.plain_text import sanitize_for_storage
from engine.risk.entry_rules import UNRESTRICTED

LIMITS = DecisionLimits(
    target_assets=("BTCUSDT", "ETHUSDT"), min_confidence=0.6, max_position_usd=Decimal(1000), rules=UNRESTRICTED
)
GOOD: dict[str, Any] = {
    "action": "LONG",
    "symbol": "BTCUSDT",
    "size_usd": 250.5,
    "confidence": 0.8,
    "reasoning": "Momentum",
    "stop_loss_percent": 2,
    "take_profit_percent": None,
}


def answer(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


def without(*names: str) -> str:
    return json.dumps({name: value for name, value in GOOD.items() if name not in names})


def test_a_good_answer_is_taken_as_it_is() -> None:
    assert parse_decision(answer(), LIMITS) == Decision(
        action=Action.LONG,
        symbol="BTCUSDT",
        size_usd=Decimal("250.5"),
        confidence=0.8,
        reasoning="Momentum",
        stop_loss_percent=2.0,
    )


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{answer()}\n```",
        f"Here is my decision:\n\n{answer()}\n\n",
        f"\ufeff \n{answer()}\n",
        without("stop_loss_percent", "take_profit_percent"),
    ],
)
def test_fences_prose_and_absent_options_are_tolerated(text: str) -> None:
    decision = parse_decision(text, LIMITS)
    assert (decision.action, decision.reason) == (Action.LONG, None)


NASTY = {
    "empty": "",
    "blank": " \n\t ",
    "prose": "I would go long here.",
    "null": "null",
    "a list": "[]",
    "a list of one": f"[{answer()}]",
    "a list of one, spaced": f"[ {answer()} ]",
    "a string of JSON": json.dumps(answer()),
    "two objects": answer() + answer(),
    "two objects in prose": f"Either {answer()} or {answer(action='SHORT')}",
    "prose with braces": f"Given {{market}}: {answer()}",
    "braces after": f"{answer()} }}",
    "words after": f"{answer()}\n\nOn reflection, HOLD.",
    "an object in a broken one": f'{{"broken: {answer()}',
    "truncated": answer()[:-1],
    "truncated in a string": answer()[:30],
    "nested": json.dumps({"decision": GOOD}),
    "deep": '{"a":' * 3_000,
    "deep lists": '{"action":' + "[" * 5_000,
    "a million braces": "{" * 1_000_000,
    "a megabyte": "x" * 1_000_000,
    "a megabyte around": answer() + " " * 1_000_000,
    "duplicate keys": answer()[:-1] + ', "action": "SHORT"}',
    "equal duplicate keys": answer()[:-1] + ', "action": "LONG"}',
    "unknown field": answer(leverage=100),
    "lower-case action": answer(action="long"),
    "padded action": answer(action=" LONG"),
    "full-width action": answer(action="\uff2c\uff2f\uff2e\uff27"),
    "BUY": answer(action="BUY"),
    "null action": answer(action=None),
    "list action": answer(action=["LONG"]),
    "other symbol": answer(symbol="DOGEUSDT"),
    "lower-case symbol": answer(symbol="btcusdt"),
    "prefixed symbol": answer(symbol="ASTER:BTCUSDT"),
    "null symbol": answer(symbol=None),
    "HOLD of another symbol": answer(action="HOLD", symbol="DOGEUSDT"),
    "CLOSE without symbol": answer(action="CLOSE", symbol=None),
    "list symbol": answer(symbol=["BTCUSDT"]),
    "string size": answer(size_usd="250"),
    "size with thousands": answer(size_usd="1,000"),
    "unquoted thousands": answer().replace("250.5", "1,000"),
    "size as word": answer(size_usd="max"),
    "negative size": answer(size_usd=-1),
    "true size": answer(size_usd=True),
    "null size": answer(size_usd=None),
    "NaN size": answer(size_usd=float("nan")),
    "infinite size": answer(size_usd=float("inf")),
    "negative infinite size": answer(size_usd=float("-inf")),
    "huge size": answer(size_usd=1e300),
    "overflowing size": answer().replace("250.5", "1e999"),
    "absurd exponent": answer().replace("250.5", "1e99999999999999999999"),
    "five thousand digits": answer().replace("250.5", "9" * 5_000),
    "hex size": answer().replace("250.5", "0xFF"),
    "plus sign": answer().replace("250.5", "+250.5"),
    "full-width digits": answer().replace("250.5", "\uff12\uff15\uff10"),
    "confidence over 1": answer(confidence=1.01),
    "confidence in percent": answer(confidence=80),
    "negative confidence": answer(confidence=-0.1),
    "string confidence": answer(confidence="0.8"),
    "boolean confidence": answer(confidence=True),
    "NaN confidence": answer(confidence=float("nan")),
    "null reasoning": answer(reasoning=None),
    "list reasoning": answer(reasoning=["because"]),
    "stop of 0": answer(stop_loss_percent=0),
    "stop of 100": answer(stop_loss_percent=100),
    "stop of almost 0": answer(stop_loss_percent=1e-9),
    "stop of almost 100": answer(stop_loss_percent=99.999999),
    "negative stop": answer(stop_loss_percent=-2),
    "string stop": answer(stop_loss_percent="2%"),
    "boolean profit": answer(take_profit_percent=False),
    "profit over 100": answer(take_profit_percent=250),
    "NUL around": f"\0{answer()[:-1]}\0}}",
    **{f"no {name}": without(name) for name in ("action", "symbol", "size_usd", "confidence", "reasoning")},
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_an_unusable_answer_becomes_a_hold_that_says_why(text: str) -> None:
    decision = parse_decision(text, LIMITS)
    assert decision.action is Action.HOLD
    assert decision.is_fault
    assert decision.reason
    assert len(decision.reason) < 200
    assert (decision.symbol, decision.size_usd, decision.confidence) == (None, Decimal(0), 0.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (answer(confidence=0.59), "confidence 0.59 is below the minimum 0.6"),
        (answer(confidence=0), "confidence 0 is below the minimum 0.6"),
        (answer(size_usd=0), "LONG with size 0"),
        (answer(size_usd=0.009, action="SHORT"), "SHORT with size 0"),
    ],
)
def test_a_weak_or_empty_entry_is_held_without_blame(text: str, reason: str) -> None:
    decision = parse_decision(text, LIMITS)
    assert (decision.action, decision.reason, decision.is_fault) == (Action.HOLD, reason, False)
    assert decision.symbol == "BTCUSDT"


def test_size_is_capped_and_rounded_down_to_cents() -> None:
    capped = parse_decision(answer(size_usd=5_000), LIMITS)
    assert (capped.size_usd, capped.size_reason) == (
        Decimal(1000),
        "5,000.00 USD were wanted, one entry may have 1,000.00 USD",
    )
    assert parse_decision(answer(size_usd=10.019), LIMITS).size_reason is None
    assert parse_decision(answer(size_usd=10.019), LIMITS).size_usd == Decimal("10.01")


def test_a_close_or_hold_needs_neither_size_nor_confidence() -> None:
    close = parse_decision(answer(action="CLOSE", size_usd=0, confidence=0.1), LIMITS)
    assert (close.action, close.symbol, close.reason) == (Action.CLOSE, "BTCUSDT", None)
    hold = parse_decision(answer(action="HOLD", symbol=None, size_usd=0, confidence=0), LIMITS)
    assert (hold.action, hold.symbol, hold.reason, hold.is_fault) == (Action.HOLD, None, None, False)


SENSELESS_BESIDES: dict[str, dict[str, object]] = {
    "a stop of 0": {"stop_loss_percent": 0, "take_profit_percent": 0},
    "a stop of 100": {"stop_loss_percent": 100},
    "a negative stop": {"stop_loss_percent": -1},
    "a size of null": {"size_usd": None},
    "a negative size": {"size_usd": -1},
    "a confidence of null": {"confidence": None},
    "a confidence in percent": {"confidence": 80},
    "a reasoning of null": {"reasoning": None},
}


@pytest.mark.parametrize("changes", SENSELESS_BESIDES.values(), ids=SENSELESS_BESIDES.keys())
@pytest.mark.parametrize("action", ["CLOSE", "HOLD"])
def test_what_has_no_effect_on_a_close_or_hold_does_not_decide_over_it(action: str, changes: dict[str, object]) -> None:
    decision = parse_decision(answer(action=action, **changes), LIMITS)
    assert (decision.action, decision.reason, decision.is_fault) == (Action(action), None, False)
    assert (decision.stop_loss_percent, decision.take_profit_percent, decision.size_usd) == (None, None, Decimal(0))


@pytest.mark.parametrize(
    "text", [answer(action="CLOSE", leverage=5), json.dumps({"action": "CLOSE", "symbol": "BTCUSDT"})]
)
def test_an_exit_is_never_blocked_by_a_field_too_many_or_too_few(text: str) -> None:
    assert parse_decision(text, LIMITS).action is Action.CLOSE


def test_reasoning_is_kept_short_and_storable() -> None:
    assert parse_decision(answer(reasoning="y" * 500), LIMITS).reasoning == "y" * 100
    assert parse_decision(answer(reasoning="a\0b\ud800"), LIMITS).reasoning == "a\ufffdb?"


def test_the_schema_is_one_that_strict_decoding_accepts() -> None:
    assert set(SCHEMA["required"]) == set(SCHEMA["properties"])
    assert SCHEMA["additionalProperties"] is False


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["LONG", "HOLD", "BTCUSDT"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
plausible = st.fixed_dictionaries(
    {
        "action": st.sampled_from([*Action]) | values,
        "symbol": st.sampled_from(["BTCUSDT", "ETHUSDT", None]) | values,
        "size_usd": st.floats(0, 10_000) | st.integers(0, 10_000) | values,
        "confidence": st.floats(0, 1) | values,
        "reasoning": st.text(max_size=300) | values,
        "stop_loss_percent": st.none() | st.floats(0, 100) | values,
        "take_profit_percent": st.none() | st.floats(0, 100) | values,
    }
)


@st.composite
def mutated_answers(draw: st.DrawFn) -> str:
    """A good answer with a few characters cut out, put in or doubled."""
    text = draw(st.sampled_from([answer(), answer(action="CLOSE"), f"```json\n{answer()}\n```"]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        insert = draw(st.text(max_size=4) | st.sampled_from([*'{}[]",:0-eE.\\', "NaN", "null", "true", text]))
        text = (text[:start] + insert + text[end:])[:4_000]
    return text


def bounded(decision: Decision) -> None:
    sanitize_for_storage(decision.reasoning).encode()
    assert decision.symbol in (None, *LIMITS.target_assets)
    assert 0 <= decision.confidence <= 1
    assert 0 <= decision.size_usd <= LIMITS.max_position_usd
    assert all(p is None or 0 < p < 100 for p in (decision.stop_loss_percent, decision.take_profit_percent))
    if decision.action in (Action.LONG, Action.SHORT):
        assert decision.size_usd > 0
        assert decision.confidence >= LIMITS.min_confidence
    if decision.action is not Action.HOLD:
        assert decision.symbol is not None
    if decision.is_fault:
        assert decision.action is Action.HOLD
        assert decision.reason


@settings(max_examples=250, deadline=None)  # `make fuzz` tries a hundred thousand
@given(st.text() | st.text(alphabet='{}[]":,0123456789.eE-+truefalsnNaInfity \n', max_size=200))
def test_any_text_gives_a_bounded_decision(text: str) -> None:
    bounded(parse_decision(text, LIMITS))


@settings(max_examples=250, deadline=None)
@given(plausible)
def test_any_plausible_object_gives_a_bounded_decision(value: dict[str, Any]) -> None:
    bounded(parse_decision(json.dumps(value), LIMITS))


@settings(max_examples=250, deadline=None)
@given(mutated_answers())
def test_any_mutation_of_a_good_answer_gives_a_bounded_decision(text: str) -> None:
    bounded(parse_decision(text, LIMITS))
