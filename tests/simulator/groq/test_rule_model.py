"""The stand-in's rule: deterministic, within its bounds, and lively enough to show the product at work."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.deciding.indicators import compute
from simulator.groq.rule_model import answer_prompt, decide, parse_market_block
from simulator.market.candles import MINUTE_MS, create_synthetic_series
from simulator.market.market import Market

PROFILES = ("conservative", "balanced", "aggressive")
NOW = 1_700_000_040_000


def block(profile: str, indicators: dict[str, Any], side: str | None = None) -> dict[str, Any]:
    return {
        "symbols": [{"symbol": "BTCUSDT", "indicators": indicators}],
        "positions": [{"symbol": "BTCUSDT", "side": side}] if side else [],
        "limits": {"max_position_usd": 1000, "min_confidence": 0.6},
        "risk_profile": profile,
    }


def shown(rsi: float = 50, trend: float = 0, momentum: float = 0) -> dict[str, Any]:
    return {"rsi_14": rsi, "ema_12": 100 + trend, "ema_26": 100, "macd_histogram": momentum, "atr_14": 1}


@pytest.mark.parametrize(
    ("profile", "indicators", "side", "action"),
    [
        ("conservative", shown(rsi=40), None, "LONG"),
        ("conservative", shown(rsi=60), None, "SHORT"),
        ("conservative", shown(rsi=50, trend=5, momentum=5), None, "HOLD"),
        ("conservative", shown(rsi=51), "LONG", "CLOSE"),
        ("conservative", shown(rsi=20), "LONG", "CLOSE"),
        ("conservative", shown(rsi=40), "LONG", "HOLD"),
        ("conservative", shown(rsi=49), "SHORT", "CLOSE"),
        ("balanced", shown(trend=1, momentum=0.2), None, "LONG"),
        ("balanced", shown(trend=-1, momentum=-0.2), None, "SHORT"),
        ("balanced", shown(trend=1, momentum=-0.2), None, "HOLD"),
        ("balanced", shown(trend=1, momentum=-0.2), "LONG", "CLOSE"),
        ("balanced", shown(trend=1, momentum=0.2), "LONG", "HOLD"),
        ("aggressive", shown(momentum=0.1), None, "LONG"),
        ("aggressive", shown(momentum=-0.1), None, "SHORT"),
        ("aggressive", shown(momentum=-0.1), "LONG", "CLOSE"),
        ("aggressive", shown(momentum=0.1), "SHORT", "CLOSE"),
    ],
)
def test_each_profile_follows_its_rule(profile: str, indicators: dict[str, Any], side: str | None, action: str) -> None:
    decision = decide(block(profile, indicators, side))
    assert decision["action"] == action
    assert decision["symbol"] == "BTCUSDT"
    assert (decision["size_usd"] > 0) == (action in ("LONG", "SHORT"))


numbers = st.one_of(st.none(), st.floats(min_value=-1e6, max_value=1e6))


@given(
    st.sampled_from(PROFILES),
    st.fixed_dictionaries(dict.fromkeys(shown(), numbers)),
    st.sampled_from([None, "LONG", "SHORT"]),
)
def test_any_market_gets_a_bounded_decision(profile: str, indicators: dict[str, Any], side: str | None) -> None:
    decision = decide(block(profile, indicators, side))
    assert 0 <= decision["confidence"] <= 0.95
    assert 0 <= decision["size_usd"] <= 1000
    assert decision["reasoning"].startswith("stand-in rule: ")
    assert len(decision["reasoning"]) <= 100


@given(st.text())
def test_any_prompt_gets_an_answer(prompt: str) -> None:
    assert answer_prompt(prompt)["action"] == "HOLD"


def test_the_last_market_block_counts() -> None:
    first, last = (json.dumps(block(profile, shown(momentum=1))) for profile in ("balanced", "aggressive"))
    prompt = f"<market>\n{first}\n</market> and\n<market>\n{last}\n</market>"
    found = parse_market_block(prompt)
    assert found is not None
    assert found["risk_profile"] == "aggressive"
    assert parse_market_block("<market>{broken</market>") is None


def test_nothing_is_entered_while_only_exits_are_allowed() -> None:
    shut = block("aggressive", shown(momentum=1)) | {"limits": {"max_position_usd": 1000, "entries_allowed": False}}
    assert decide(shut)["action"] == "HOLD"
    shut["positions"] = [{"symbol": "BTCUSDT", "side": "SHORT"}]
    assert decide(shut)["action"] == "CLOSE"


def test_indicators_that_warm_up_are_left_alone() -> None:
    decision = decide(block("aggressive", {**shown(momentum=1), "rsi_14": None}))
    assert (decision["action"], decision["reasoning"]) == ("HOLD", "stand-in rule: indicators are warming up")


@pytest.mark.parametrize("profile", PROFILES)
def test_on_a_synthetic_market_every_profile_opens_and_closes_within_a_few_demo_ticks(profile: str) -> None:
    """A demo tick of 10 s at 60 times the real speed is ten minutes of the market."""
    market = Market(create_synthetic_series(1)["BTCUSDT"])
    side: str | None = None
    actions = []
    for tick in range(120):
        candles = market.list_candles(NOW + tick * 10 * MINUTE_MS - 1, 1, 101)[:-1]
        decision = decide(block(profile, compute(candles).model_dump(), side))
        side = {"LONG": "LONG", "SHORT": "SHORT", "CLOSE": None, "HOLD": side}[decision["action"]]
        actions.append(decision["action"])
    first = next(index for index, action in enumerate(actions) if action != "HOLD")
    assert first < 3
    assert actions.count("CLOSE") >= 20
    assert {"LONG", "SHORT"} <= set(actions)
