"""Every field of a strategy at its bounds, one sentence for each fault, and a table that takes whatever passes."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.admin.strategy_checks import (
    MAX_NAME_LENGTH,
    MAX_NOTES_LENGTH,
    MAX_SYMBOLS,
    NewStrategy,
    check_fields,
    find_budget_fault,
    find_exchange_fault,
    find_field_faults,
)
from engine.domain.positions import MAX_LEVERAGE, MAX_USD, MarginMode
from engine.domain.strategy import Adding, RiskProfile, StrategyStatus
from engine.platform.errors import InvalidCommand
from engine.store.store import Store
from tests.support.clients.sql import Sql

USER = UUID(int=1)
RIGHT: dict[str, Any] = {"user_id": USER, "name": "one"}

# For each bounded field: values that just pass, and values that just do not.
BOUNDS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "name": (("n", "n" * MAX_NAME_LENGTH), ("", "n" * (MAX_NAME_LENGTH + 1), "two\nlines", " ")),
    "target_assets": (
        (["BT"], ["B" * 30], ["BTCUSDT"] * MAX_SYMBOLS, ["币安人生USDT"]),
        ([], ["B"], ["B" * 31], ["btcusdt"], ["BTC-USDT"], ["BTCUSDT"] * (MAX_SYMBOLS + 1)),
    ),
    "exchange": (("ab", "a" * 30, "binance"), ("", "a", "a" * 31, "Aster", "as ter", "aster\n")),
    "status": (tuple(StrategyStatus), ("started", "")),
    "cadence_seconds": ((1, 86_400), (0.99, 86_400.01, "NaN", "often")),
    "min_confidence": ((0, 1), (-0.001, 1.001)),
    "max_drawdown_percent": ((0.01, 100), (0, 0.001, 100.01, "NaN", "inf")),
    "leverage_max": ((1, MAX_LEVERAGE), (0, MAX_LEVERAGE + 1, 1.5)),
    "max_position_usd": (("0.01", MAX_USD), ("0.009", 0, MAX_USD + 1, "NaN", "Infinity")),
    "capital_usd": (("0.01", MAX_USD), ("0.009", -1, MAX_USD + 1)),
    "daily_llm_budget_usd": ((0, 100_000, None), (-1, 100_001)),
    "model": (("openai/gpt-oss-20b", "m" * 200, None), ("m" * 201, "a b", "'m'")),
    "custom_prompt": (("n" * MAX_NOTES_LENGTH, "two\nlines", None), ("n" * (MAX_NOTES_LENGTH + 1),)),
    "context_intervals": (([], ["15m", "1h"]), (["4h"], ["15m", "1h", "1h"])),
    "max_entry_percent": (("0.01", 100, None), (0, "0.001", "100.01")),
    "min_stop_loss_percent": ((0, "49.9999", None), (-1, 50, "0.00001")),
    "max_spread_percent": (("0.0001", "99.9999", None), (0, 100, "0.00001")),
    "max_slippage_percent": (("0.0001", "99.9999", None), (0, 100)),
    "margin_mode": ((*MarginMode, None), ("shared",)),
}


@pytest.mark.parametrize("field", BOUNDS)
def test_a_field_is_refused_just_beyond_its_bounds_and_by_its_name(field: str) -> None:
    inside, outside = BOUNDS[field]
    for value in inside:
        assert find_field_faults(RIGHT | {field: value}) == (), value
    for value in outside:
        faults = find_field_faults(RIGHT | {field: value})
        assert {fault.field.partition(".")[0] for fault in faults} == {field}, value


def test_every_fault_is_named_in_one_sentence() -> None:
    wrong = {"user_id": USER, "cadence_seconds": 0, "target_assets": ["BTCUSDT", "eth"], "leverage": 3, "zzz": 1}
    with pytest.raises(InvalidCommand) as caught:
        NewStrategy.from_input(wrong)
    sentence = str(caught.value)
    assert sentence.startswith("The strategy cannot be created: name: Field required; ")
    assert "cadence_seconds: Input should be greater than or equal to 1; " in sentence
    assert "target_assets.1: must be written like BTCUSDT: 2 to 30 capital letters and digits; " in sentence
    assert "leverage: no such field (did you mean leverage_max?); " in sentence
    assert "zzz: no such field (the fields are user_id, name, " in sentence
    assert "\n" not in sentence


def test_whose_strategy_it_is_may_be_found_out_after_its_fields_were_checked() -> None:
    check_fields({"name": "one"})
    with pytest.raises(InvalidCommand, match="user_id: Field required"):
        NewStrategy.from_input({"name": "one"})
    with pytest.raises(InvalidCommand, match="user_id: Input should be a valid UUID"):
        check_fields({"name": "one", "user_id": "me"})
    with pytest.raises(InvalidCommand, match="name: Field required"):
        check_fields({})


def test_a_budget_needs_the_price_of_every_model_that_may_be_asked() -> None:
    assert find_budget_fault(Decimal(1), None) is None
    assert find_budget_fault(None, "other/model") is None
    fault = find_budget_fault(Decimal(0), "other/model")
    assert fault is not None
    assert "SPARKY_LLM_PRICES has no price for other/model" in fault


@pytest.mark.parametrize(
    ("exchange", "is_paper_trading", "words"),
    [
        ("aster", False, None),
        ("kraken", True, None),
        ("kraken", False, "Live trading at kraken has not been tested"),
        ("binanc", True, "did you mean 'binance'?"),
        ("binanc", False, "did you mean binance?"),
    ],
)
def test_a_strategy_trades_at_venues_that_exist_and_live_only_at_tested_ones(
    exchange: str, words: str | None, *, is_paper_trading: bool
) -> None:
    fault = find_exchange_fault(exchange, is_paper_trading=is_paper_trading)
    assert fault is None if words is None else words in (fault or "")


def test_the_defaults_are_those_of_the_table(store: Store, sql: Sql) -> None:
    user_id = store.ensure_user("trader@example.org")
    created = store.create_strategy(NewStrategy(user_id=user_id, name="by the checks"))
    sql("insert into ai_strategies (user_id, name) values (%s, 'by the table')", user_id)
    by_checks, by_table = (row.model_dump(include=set(NewStrategy.model_fields)) for row in store.list_strategies())
    assert by_table | {"name": created.name} == by_checks


def usd(most: int | Decimal, places: int = 2) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(1).scaleb(-places), most, places=places)


NEW = st.builds(
    NewStrategy,
    user_id=st.just(USER),
    name=st.just("one"),
    status=st.sampled_from(StrategyStatus),
    risk_profile=st.sampled_from(RiskProfile),
    target_assets=st.lists(st.text("ABC123", min_size=2, max_size=30), min_size=1, max_size=5).map(tuple),
    exchange=st.text("abc1", min_size=2, max_size=30),
    is_paper_trading=st.booleans(),
    cadence_seconds=st.floats(1, 86_400),
    min_confidence=st.floats(0, 1),
    max_drawdown_percent=st.floats(0.01, 100),
    leverage_max=st.integers(1, MAX_LEVERAGE),
    max_position_usd=usd(MAX_USD, places=3).filter(lambda value: value >= Decimal("0.01")),
    capital_usd=usd(MAX_USD),
    daily_llm_budget_usd=st.none() | usd(100_000, places=9),
    model=st.none() | st.text("abc/-", min_size=2, max_size=200).filter(lambda name: name[0] in "abc/"),
    custom_prompt=st.none() | st.text("a\n漢", max_size=200),
    context_intervals=st.lists(st.sampled_from(("15m", "1h")), max_size=2).map(tuple),
    stop_loss_required=st.none() | st.booleans(),
    max_entry_percent=st.none() | usd(100),
    adding=st.none() | st.sampled_from(Adding),
    min_stop_loss_percent=st.none() | usd(49, places=4),
    max_spread_percent=st.none() | usd(99, places=4),
    max_slippage_percent=st.none() | usd(99, places=4),
    margin_mode=st.none() | st.sampled_from(MarginMode),
)
PLACES = {"cadence_seconds": 2, "min_confidence": 3, "max_drawdown_percent": 2, "max_position_usd": 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(new=NEW)
def test_the_table_takes_whatever_passes_and_the_engine_can_run_it(store: Store, new: NewStrategy) -> None:
    user_id = store.ensure_user("trader@example.org")
    created = store.create_strategy(new.model_copy(update={"user_id": user_id, "name": uuid4().hex}))
    for field in NewStrategy.model_fields.keys() - {"user_id", "name"}:
        kept, given_value = getattr(created, field), getattr(new, field)
        if isinstance(given_value, (float, Decimal)) and not isinstance(given_value, bool):
            assert abs(Decimal(str(kept)) - Decimal(str(given_value))) <= Decimal(1).scaleb(-PLACES.get(field, 8)) / 2
        else:
            assert kept == given_value, field
    context = store.get_strategy_context(created.id)
    assert context is not None
    assert context.strategy.leverage_max == new.leverage_max
