"""A decision is recorded once, with its signal, or not at all."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from engine.domain.decision import Action
from engine.domain.errors import StrategyFault
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import ConfigurationError
from engine.risk.strategy_state import find_drawdown_block, find_status_block
from engine.store.cycles import CallRecord, DecisionRecord
from engine.store.store import Store
from tests.support.clients.sql import Sql

from .conftest import Desk


def test_an_entry_leaves_a_record_and_a_signal_of_the_same_id(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()

    recorded = desk.decide(strategy.id, Action.SHORT, "ETHUSDT")

    assert recorded.signal_id == recorded.decision_id
    assert recorded.suppressed is None
    (decision,) = store.list_decisions(strategy.id)
    assert (decision.id, decision.signal_action, decision.symbol) == (recorded.decision_id, "SHORT", "ETHUSDT")
    (signal,) = store.list_signals(strategy.id)
    assert signal.payload["action"] == "SELL"
    assert signal.payload["position_size_usd"] == 123.45
    assert signal.payload["source"] == "ai_engine_v1"
    assert signal.payload["user_id"] == str(desk.user_id)
    assert signal.payload["strategy_id"] == str(strategy.id)
    assert signal.payload["signal_id"] == str(recorded.signal_id)
    assert datetime.fromisoformat(str(signal.payload["expires_at"])) == signal.expires_at
    assert isinstance(signal.expires_at, datetime)
    assert isinstance(signal.created_at, datetime)
    assert 59 < (signal.expires_at - signal.created_at).total_seconds() < 61
    assert "secret" not in signal.payload


def test_a_hold_is_recorded_without_a_signal(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()

    assert desk.decide(strategy.id, Action.HOLD).signal_id is None

    assert len(store.list_decisions()) == 1
    assert store.list_signals() == ()


@pytest.mark.usefixtures("one_day")
def test_recording_the_same_decision_again_changes_nothing_and_answers_the_same(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    first = desk.decide(strategy.id)

    assert desk.decide(strategy.id, Action.CLOSE, decision_id=first.decision_id) == first

    assert [row.signal_action for row in store.list_decisions()] == ["LONG"]
    assert len(store.list_signals()) == 1
    context = store.get_strategy_context(strategy.id)
    assert context is not None
    assert context.llm_spent_today_usd == Decimal("0.0001")


def test_the_same_decision_recorded_by_many_at_once_is_recorded_once(desk: Desk, store: Store) -> None:
    strategy, decision_id = desk.strategy(), uuid4()

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: desk.decide(strategy.id, decision_id=decision_id), range(16)))

    assert len(answers) == 1
    assert len(store.list_signals()) == 1


def test_an_entry_of_a_paused_strategy_is_suppressed_and_its_close_passes(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    store.set_strategy_status(strategy.id, StrategyStatus.PAUSED)

    entry, exit_ = desk.decide(strategy.id, Action.LONG), desk.decide(strategy.id, Action.CLOSE)

    assert entry.signal_id is None
    assert entry.suppressed == find_status_block("paused")
    assert exit_.signal_id is not None
    assert [row.suppressed for row in store.list_decisions()] == [None, entry.suppressed]
    assert desk.decide(strategy.id, decision_id=entry.decision_id) == entry


def test_an_entry_beyond_the_drawdown_is_suppressed_and_its_close_passes(desk: Desk) -> None:
    strategy = desk.strategy(capital_usd=1000, max_drawdown_percent=10)
    desk.fill("open", "100", "5", strategy_id=strategy.id)
    desk.fill("close", "80", "5", strategy_id=strategy.id)  # a loss of 100: 10 % of the peak of 1,000

    entry = desk.decide(strategy.id, Action.LONG)

    assert entry.suppressed == find_drawdown_block(10, 10)
    assert entry.signal_id is None
    assert desk.decide(strategy.id, Action.CLOSE).signal_id is not None


def test_a_decision_of_an_unknown_strategy_is_refused(desk: Desk, store: Store) -> None:
    with pytest.raises(ConfigurationError, match="there is no strategy"):
        desk.decide(uuid4())

    assert store.list_decisions() == ()


def test_nonsense_characters_of_a_model_cannot_break_the_record(desk: Desk, store: Store) -> None:
    strategy, decision_id = desk.strategy(), uuid4()
    nonsense = 'a\x00b\ud800c\\u0000 "quoted"'
    record = DecisionRecord(action=Action.HOLD, reasoning=nonsense, raw_answer=nonsense, market={"k\x00": nonsense})

    store.record_decision(decision_id, strategy.id, record, None)

    story = store.get_decision_trace(decision_id)
    assert story is not None
    assert story.decision.raw_answer == 'a\ufffdb?c\\u0000 "quoted"'
    assert story.decision.market == {"k\ufffd": story.decision.raw_answer}


def test_the_whole_record_is_kept(desk: Desk, store: Store) -> None:
    strategy, decision_id = desk.strategy(), uuid4()
    record = DecisionRecord(
        action=Action.HOLD,
        symbol="BTCUSDT",
        confidence=0.25,
        reasoning="flat",
        reason="confidence below the minimum",
        raw_answer='{"action":"LONG"}',
        model="openai/gpt-oss-120b",
        request_id="req_1",
        prompt_tokens=900,
        cached_tokens=512,
        completion_tokens=40,
        cost_usd=Decimal("0.00012345"),
        latency_s=0.75,
        market={"as_of_ms": 1_700_000_000_000, "indicators": {"rsi_14": 55.5, "sma_50": None}},
        is_fault=True,
        stop_loss_percent=1.5,
        calls=(CallRecord(model="openai/gpt-oss-120b", outcome="ok", latency_s=0.75, cost_usd=Decimal("0.00012345")),),
        notes="<notes>\nmine\n</notes>\n",
        system_sha256="0123456789abcdef",
    )
    elsewhere = {"action", "confidence", "calls", "notes", "system_sha256", "size_reason"}

    store.record_decision(decision_id, strategy.id, record, None)

    story = store.get_decision_trace(decision_id)
    assert story is not None
    kept = story.decision
    kept_fields = set(DecisionRecord.model_fields) - elsewhere
    assert kept.model_dump(include=kept_fields) == record.model_dump(exclude=elsewhere)
    assert kept.decision_json is not None
    assert kept.decision_json["calls"][0]["outcome"] == "ok"
    assert (kept.decision_json["notes"], kept.decision_json["system_sha256"]) == (record.notes, record.system_sha256)
    assert (kept.signal_action, kept.confidence_score) == ("HOLD", 0.25)


@pytest.mark.usefixtures("one_day")
def test_llm_cost_counts_from_midnight_utc(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy()
    desk.decide(strategy.id, Action.HOLD, cost_usd=Decimal("0.25"))
    sql("update llm_spend set day = day - 1")
    desk.decide(strategy.id, Action.HOLD, cost_usd=Decimal("0.00000001"))
    desk.decide(strategy.id, Action.HOLD, cost_usd=Decimal("0.5"))

    context = store.get_strategy_context(strategy.id)

    assert context is not None
    assert context.llm_spent_today_usd == Decimal("0.50000001")
    assert store.list_strategy_overviews()[0].llm_cost_today_usd == Decimal("0.50000001")
    assert datetime.now(UTC) >= datetime.fromisoformat(str(store.list_decisions()[0].created_at))


def test_an_invalid_row_is_a_fault_of_its_strategy_that_names_the_column(desk: Desk, store: Store, sql: Sql) -> None:
    good, bad = desk.strategy("good"), desk.strategy("bad")
    sql("update ai_strategies set leverage_max = 0, target_assets = '{}' where id = %s", bad.id)

    with pytest.raises(StrategyFault, match="leverage_max"):
        store.get_strategy_context(bad.id)

    assert {row.id for row in store.list_running_strategies()} == {good.id, bad.id}
    assert store.get_strategy_context(good.id) is not None
    assert store.get_strategy_context(uuid4()) is None
