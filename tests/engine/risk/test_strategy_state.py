"""A strategy's state is judged once in Python and once in SQL, in the same words, at every drawdown and limit."""

import math
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.risk.strategy_state import find_drawdown_block, find_status_block, is_running
from engine.store.store import Store
from tests.support.clients.sql import Sql

CAPITAL = Decimal(1_000)
PERCENTS = st.decimals(0, 100, places=6)
LIMITS = st.decimals(Decimal("0.01"), 100, places=2)


def test_only_a_running_strategy_runs_and_may_enter() -> None:
    assert [status for status in StrategyStatus if is_running(status)] == [StrategyStatus.RUNNING]
    assert [status for status in StrategyStatus if find_status_block(status) is None] == [StrategyStatus.RUNNING]
    assert find_status_block("paused") == "The strategy is paused: it may only close"
    assert not is_running(None)
    assert find_status_block("Running") is not None


@given(PERCENTS, LIMITS)
def test_a_strategy_may_enter_while_its_drawdown_is_less_than_its_limit(drawdown: Decimal, limit: Decimal) -> None:
    assert (find_drawdown_block(float(drawdown), float(limit)) is None) is (drawdown < limit)


@given(PERCENTS, LIMITS)
def test_the_figures_of_the_sentence_show_that_the_limit_is_reached(drawdown: Decimal, limit: Decimal) -> None:
    block = find_drawdown_block(float(max(drawdown, limit)), float(limit))
    assert block is not None
    shown, bound = (Decimal(word) for word in block.split() if word[0].isdigit())
    assert shown >= bound == limit
    assert abs(shown - max(drawdown, limit)) <= Decimal("0.005")


def test_a_drawdown_of_any_size_has_its_sentence() -> None:
    block = find_drawdown_block(1e300, 20.0)
    assert block is not None
    assert block.endswith(" % has reached its limit of 20.00 %: it may only close")


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_no_permission(unknown: float | None) -> None:
    sentence = "The strategy's drawdown, or its limit, is not known: it may only close"
    assert find_drawdown_block(unknown, 20.0) == find_drawdown_block(0.0, unknown) == sentence


@pytest.fixture
def strategy_id(store: Store) -> UUID:
    user_id = store.ensure_user("trader@example.org")
    return store.create_strategy(NewStrategy(user_id=user_id, name="one", capital_usd=CAPITAL)).id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    status=st.sampled_from(StrategyStatus),
    limit=LIMITS,
    peak=st.decimals(0, 5_000, places=8),
    loss=st.decimals(0, 3_000, places=8),
)
@example(status=StrategyStatus.RUNNING, limit=Decimal(10), peak=Decimal(0), loss=Decimal(100))
@example(status=StrategyStatus.RUNNING, limit=Decimal(10), peak=Decimal(0), loss=Decimal("99.99"))
@example(status=StrategyStatus.RUNNING, limit=Decimal("10.01"), peak=Decimal(0), loss=Decimal("100.45"))
def test_the_database_judges_the_same_in_the_same_words(
    store: Store, sql: Sql, strategy_id: UUID, status: StrategyStatus, limit: Decimal, peak: Decimal, loss: Decimal
) -> None:
    sql("update ai_strategies set status = %s, max_drawdown_percent = %s", status.value, limit)
    sql(
        "insert into strategy_ledger (strategy_id, is_paper, realized_pnl_usd, peak_pnl_usd) values (%s, true, %s, %s) "
        "on conflict (strategy_id, is_paper) do update "
        "set realized_pnl_usd = excluded.realized_pnl_usd, peak_pnl_usd = excluded.peak_pnl_usd",
        strategy_id,
        peak - loss,
        peak,
    )
    ((by_sql,),) = sql("select entry_block_reason(s) from ai_strategies s")
    context = store.get_strategy_context(strategy_id)
    assert context is not None
    block = find_status_block(context.strategy.status) or find_drawdown_block(
        context.drawdown_percent, context.strategy.max_drawdown_percent
    )
    assert by_sql == block
    assert (block is None) is (status is StrategyStatus.RUNNING and context.drawdown_percent < limit)


@pytest.mark.parametrize("figure", ["NaN", None])
@pytest.mark.usefixtures("strategy_id")
def test_a_limit_that_is_no_number_is_no_permission_in_the_database_either(sql: Sql, figure: str | None) -> None:
    ((by_sql,),) = sql(
        "select entry_block_reason(jsonb_populate_record(s, jsonb_build_object('status', 'running', "
        "'max_drawdown_percent', %s::text))) from ai_strategies s",
        figure,
    )
    assert by_sql == find_drawdown_block(0.0, None)
