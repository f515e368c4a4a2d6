"""The cycle's order of things: what is asked, what is retried, what is recorded, and whose failure it was."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from engine.deciding.prompt import build_market_block
from engine.domain.decision import Action
from engine.domain.errors import StrategyFault
from engine.domain.signal import SignalAction
from engine.llm.llm_call import LlmCall, LlmOutcome
from engine.llm.retry import PermitGrant
from engine.platform.errors import CycleSkipped, DatabaseUnavailable, SkipKind, UpstreamUnavailable
from engine.risk.strategy_state import find_drawdown_block
from tests.engine.deciding.cycle_world import CLOSE, LONG, MODEL, World, answered, failed
from tests.engine.deciding.examples import a_context, a_position, a_strategy, a_view


def test_a_cycle_records_what_was_seen_said_and_made_of_it_and_leaves_a_signal() -> None:
    world = World()
    outcome = world.run()
    assert (outcome.outcome, outcome.failure, outcome.signal_id) == ("ok", None, UUID(int=99))
    (record,), (signal,) = world.records, world.signals
    assert (record.action, record.symbol, record.size_usd, record.confidence) == (
        Action.LONG,
        "BTCUSDT",
        Decimal(250),
        0.8,
    )
    assert (record.raw_answer, record.model, record.request_id) == (LONG, MODEL, "req_1")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (1_000, 200, 50)
    assert (record.cost_usd, record.is_fault) == (Decimal("0.0002"), False)
    assert record.market == build_market_block(a_context(), [a_view()], is_rounded=False)
    assert signal is not None
    sent, strategy = signal.payload, a_context().strategy
    assert (sent.action, sent.exchange, sent.position_size_usd) == (SignalAction.BUY, "aster", Decimal(250))
    assert (sent.stop_loss_percent, sent.take_profit_percent) == (Decimal(2), None)
    assert (sent.signal_id, sent.strategy_id, sent.user_id) == (UUID(int=99), strategy.id, strategy.user_id)
    assert signal.ttl_s == 60.0


def test_a_decision_that_the_webhook_server_would_refuse_is_recorded_as_a_hold_that_says_why() -> None:
    world = World(context=a_context(a_strategy(exchange="x")))
    outcome = world.run()
    (record,), (signal,) = world.records, world.signals
    assert (record.action, record.size_usd, record.raw_answer) == (Action.HOLD, Decimal(0), LONG)
    assert record.reason == "no signal can be sent: exchange must be 2 to 30 letters and digits"
    assert (signal, outcome.signal_id, outcome.failure) == (None, None, None)


def test_time_spent_on_others_is_not_the_engines() -> None:
    outcome = World(permit_wait_s=3.0).run()
    assert outcome.waited_permit_s == pytest.approx(3.0)
    assert outcome.duration_s == pytest.approx(0.01 + 0.1 + 3.0 + 1.0 + 0.01)
    assert outcome.engine_s == pytest.approx(0.1)  # what the client took beyond the network


@pytest.mark.parametrize(
    ("world", "outcome"),
    [
        (World(context=None), "skip_gone"),
        (World(context=a_context(a_strategy(status="paused"))), "skip_not_running"),
        (World(context=StrategyFault("leverage_max: too large")), "fault"),
        (World(context=DatabaseUnavailable("down")), "upstream_database"),
        (World(market_error=CycleSkipped(SkipKind.NO_DATA, "too old")), "skip_no_data"),
        (World(market_error=CycleSkipped(SkipKind.NO_MARKET, "no answer")), "skip_no_market"),
        (World(market_error=StrategyFault("no such symbol")), "fault"),
        (World(permits_left=0), "skip_no_permit"),
        (World(models=[]), "upstream_groq"),
        (World(calls=[failed(LlmOutcome.KEY_REFUSED)]), "upstream_groq"),
        (World(calls=[failed(LlmOutcome.REJECTED)]), "upstream_groq"),
        (World(calls=[failed(LlmOutcome.REJECTED)], context=a_context(a_strategy(model="mine"))), "fault"),
        (World(calls=[failed(LlmOutcome.TOO_LARGE)]), "fault"),
        (World(calls=[failed(LlmOutcome.SERVER_ERROR)]), "upstream_groq"),
    ],
)
def test_without_an_answer_nothing_is_recorded_and_the_failure_has_an_owner(world: World, outcome: str) -> None:
    result = world.run()
    assert result.outcome == outcome
    assert result.reason
    assert world.records == []
    assert result.should_run is (outcome not in ("skip_gone", "skip_not_running"))


def test_an_unusable_answer_is_recorded_as_a_hold_and_is_the_strategys_fault() -> None:
    world = World(calls=[answered("Let me think\0 about it")])
    outcome = world.run()
    assert outcome.outcome == "fault"
    assert isinstance(outcome.failure, StrategyFault)
    (record,) = world.records
    assert (record.action, record.is_fault, record.reason) == (Action.HOLD, True, "no JSON object in the answer")
    assert record.raw_answer == "Let me think\ufffd about it"
    assert world.signals == [None]


def test_an_answer_that_the_provider_found_unusable_is_recorded_when_a_second_one_is_no_better() -> None:
    world = World(calls=[failed(LlmOutcome.UNUSABLE, rejected_text="{oops")])
    outcome = world.run()
    assert outcome.outcome == "fault"
    assert len(outcome.calls) == 2
    (record,) = world.records
    assert (record.raw_answer, record.is_fault, record.cost_usd) == ("{oops", True, Decimal(0))


@pytest.mark.parametrize(
    "bad", [answered("Let me think about it"), failed(LlmOutcome.UNUSABLE, rejected_text="Let me think about it")]
)
def test_an_unusable_answer_may_be_mended_once_and_both_are_paid_for_and_kept(bad: LlmCall) -> None:
    world = World(calls=[bad, answered()])
    outcome = world.run()
    assert outcome.outcome == "ok"
    first, second = world.prompts
    assert first.rejected is None
    assert second.rejected is not None
    assert second[:2] == first[:2]  # what was cached stays cached
    assert second.rejected.text == "Let me think about it"
    assert len({granted.permit_id for granted, _ in world.released}) == 2
    (record,) = world.records
    assert (record.action, record.raw_answer, record.is_fault) == (Action.LONG, LONG, False)
    assert [call.answer for call in record.calls] == ["Let me think about it", None]
    assert record.cost_usd == sum(call.cost_usd for call in record.calls)
    assert record.prompt_tokens == sum(call.prompt_tokens for call in record.calls)


@pytest.mark.parametrize(
    "second", [failed(LlmOutcome.SERVER_ERROR), failed(LlmOutcome.MODEL_GONE), failed(LlmOutcome.TIMEOUT)]
)
def test_when_no_second_answer_comes_the_first_one_counts(second: LlmCall) -> None:
    world = World(calls=[answered("no"), second])
    outcome = world.run()
    assert outcome.outcome == "fault"
    assert [call.outcome for call in outcome.calls] == [LlmOutcome.OK, second.outcome]
    assert world.records[0].raw_answer == "no"


def test_no_answer_is_mended_without_a_permit_an_attempt_or_a_budget_left() -> None:
    spent = a_context(a_strategy(daily_llm_budget_usd=Decimal("0.0001")))
    by_all = a_context(llm_spent_today_by_all_usd=Decimal("0.9999"))
    worlds: list[tuple[World, dict[str, Any]]] = [
        (World(calls=[answered("no")], permits_left=1), {}),
        (World(calls=[answered("no")]), {"max_attempts": 1}),
        (World(calls=[failed(LlmOutcome.TIMEOUT), failed(LlmOutcome.TIMEOUT), answered("no")]), {}),
        (World(calls=[answered("no")], context=spent), {}),
        (World(calls=[answered("no")], context=by_all), {"host_budget_usd": Decimal(1)}),
    ]
    for world, settings in worlds:
        outcome = world.run(**settings)
        assert outcome.outcome == "fault"
        assert sum(call.completion is not None for call in outcome.calls) == 1
        assert len(world.records) == 1


def test_a_probe_is_one_request() -> None:
    outcome = World(calls=[failed(LlmOutcome.SERVER_ERROR)]).run(max_attempts=1)
    assert (outcome.outcome, len(outcome.calls)) == ("upstream_groq", 1)


def test_a_failed_call_is_tried_three_times_each_with_its_own_permit() -> None:
    world = World(calls=[failed(LlmOutcome.SERVER_ERROR), failed(LlmOutcome.TIMEOUT), answered()])
    outcome = world.run()
    assert outcome.outcome == "ok"
    assert [call.outcome for call in outcome.calls] == [LlmOutcome.SERVER_ERROR, LlmOutcome.TIMEOUT, LlmOutcome.OK]
    assert len({granted.permit_id for granted, _ in world.released}) == 3
    assert outcome.waited_permit_s == pytest.approx(1.5)


def test_a_gone_model_costs_no_try_and_the_next_one_is_asked() -> None:
    gone = failed(LlmOutcome.MODEL_GONE)
    world = World(
        models=[MODEL, "b"], calls=[gone, failed(LlmOutcome.SERVER_ERROR), failed(LlmOutcome.TIMEOUT), answered()]
    )
    outcome = world.run()
    assert outcome.outcome == "ok"
    assert world.models == ["b"]


def test_a_model_that_others_found_gone_is_not_asked_for_again() -> None:
    world = World(models=["a", MODEL], known_gone=("a",))
    outcome = world.run()
    assert (outcome.outcome, len(outcome.calls), world.models) == ("ok", 1, [MODEL])


def test_when_others_found_every_model_gone_nothing_is_asked() -> None:
    outcome = World(known_gone=(MODEL,)).run()
    assert (outcome.outcome, outcome.calls) == ("upstream_groq", ())


def test_a_wish_to_wait_beyond_the_deadline_ends_the_cycle_at_once() -> None:
    world = World(calls=[failed(LlmOutcome.RATE_LIMITED, retry_after_s=120.0)])
    outcome = world.run()
    assert outcome.outcome == "upstream_groq"
    assert isinstance(outcome.failure, UpstreamUnavailable)
    assert outcome.failure.retry_after_s == 120.0
    assert len(outcome.calls) == 1
    assert outcome.duration_s < 5


def test_a_short_wish_is_kept() -> None:
    world = World(calls=[failed(LlmOutcome.RATE_LIMITED, retry_after_s=2.0), answered()])
    outcome = world.run()
    assert outcome.outcome == "ok"
    assert outcome.duration_s > 3.0


def test_no_second_permit_is_told_as_what_went_wrong_first() -> None:
    world = World(calls=[failed(LlmOutcome.SERVER_ERROR)], permits_left=1)
    assert world.run().outcome == "upstream_groq"


def test_everything_ends_within_the_deadline_with_time_left_to_record() -> None:
    slow = LlmCall(model=MODEL, outcome=LlmOutcome.TIMEOUT, latency_s=20.0, network_s=20.0, reason="no answer")
    world = World(calls=[slow])
    outcome = world.run()
    assert max(world.deadlines) <= 1_000.0 + 35.0
    assert outcome.duration_s <= 40.0


def test_longer_candles_are_shown_where_they_were_asked_for_and_are_no_condition() -> None:
    context = a_context(a_strategy(context_intervals=("15m", "1h")))
    world = World(context=context)
    assert world.run().outcome == "ok"
    (symbol,) = world.records[0].market["symbols"]
    assert list(symbol["context"]) == ["15m", "1h"]
    assert symbol["context"]["1h"]["rsi_14"] is not None
    without = World(context=context, longer_error=CycleSkipped(SkipKind.BAD_DATA, "a gap"))
    assert without.run().outcome == "ok"
    assert without.records[0].market["symbols"][0]["context"] == {"15m": None, "1h": None}
    assert World(context=context, longer_error=StrategyFault("no such symbol")).run().outcome == "fault"


def test_beyond_its_drawdown_a_flat_strategy_is_paused_without_asking() -> None:
    world = World(context=a_context(drawdown_percent=20.0))
    outcome = world.run()
    assert outcome.must_pause == find_drawdown_block(20.0, 20.0) == outcome.reason
    assert world.prompts == []


def test_an_entry_beyond_the_drawdown_is_held_with_the_reason_of_the_pause() -> None:
    held = a_position(symbol="ETHUSDT")
    world = World(context=a_context(drawdown_percent=25.0, positions=(held,)), calls=[answered(LONG)])
    outcome = world.run()
    assert world.records[0].action is Action.HOLD
    assert world.records[0].reason == outcome.must_pause == find_drawdown_block(25.0, 20.0)


@pytest.mark.parametrize(("text", "action", "leaves_signal"), [(LONG, Action.HOLD, False), (CLOSE, Action.CLOSE, True)])
def test_beyond_its_drawdown_a_strategy_with_positions_may_close_once_and_is_paused(
    text: str, action: Action, *, leaves_signal: bool
) -> None:
    world = World(context=a_context(drawdown_percent=25.0, positions=(a_position(),)), calls=[answered(text)])
    outcome = world.run()
    assert outcome.must_pause == find_drawdown_block(25.0, 20.0)
    assert world.records[0].action is action
    assert (world.signals[0] is not None) is leaves_signal
    assert '"entries_allowed":false' in world.prompts[0].user


def test_what_nobody_foresaw_is_raised() -> None:
    def surprise(*_: object) -> LlmCall:
        raise ZeroDivisionError

    world = World()
    complete: Callable[..., LlmCall] = surprise
    world.complete = complete  # type: ignore[method-assign]  # a model that breaks its promise
    with pytest.raises(ZeroDivisionError):
        world.run()


def test_a_raised_allowance_that_the_limits_cannot_carry_is_taken_back() -> None:
    """A larger allowance is our own wish: that the limiter can never grant it is no fault of the row."""

    @dataclass
    class Tight(World):
        raised: bool = False

        def raise_allowance(self, model: str) -> bool:  # noqa: ARG002 - as the client has it
            self.raised = True
            return True

        def restore_allowance(self, model: str) -> bool:  # noqa: ARG002 - as the client has it
            was_raised, self.raised = self.raised, False
            return was_raised

        def acquire(self, model: str, tokens: int, *, holds_position: bool, deadline: float) -> PermitGrant:
            if self.raised:
                raise StrategyFault("one request of up to 2,900 tokens is more than the limit of 2,000 (tpm)")
            return super().acquire(model, tokens, holds_position=holds_position, deadline=deadline)

    cut = Tight(calls=[failed(LlmOutcome.CUT), answered()]).run()
    assert (cut.outcome, len(cut.calls)) == ("cut", 1)
    assert Tight(raised=True).run().outcome == "ok"
