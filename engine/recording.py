"""How a decision is kept: the record of what was seen, said and made of it, and the signal that follows from it."""

from decimal import Decimal
from typing import Any, Final

from engine.calls import Call
from engine.decision import clean
from engine.store.rows import DecisionRecord, NewSignal
from engine.types import SIGNAL_OF_ACTION, Decision, Strategy

LONGEST_RAW_ANSWER: Final = 16_384


def record_of(decision: Decision, call: Call, market: dict[str, Any]) -> DecisionRecord:
    """The row of `ai_trade_log` for a decision; `market` is what the model was shown."""
    completion = call.completion
    raw_answer = completion.text if completion else call.rejected_text
    return DecisionRecord(
        action=decision.action,
        symbol=decision.symbol,
        size_usd=decision.size_usd,
        confidence=decision.confidence,
        reasoning=decision.reasoning,
        reason=decision.reason,
        raw_answer=None if raw_answer is None else clean(raw_answer)[:LONGEST_RAW_ANSWER],
        model=call.model,
        request_id=completion.request_id if completion else None,
        prompt_tokens=completion.usage.prompt_tokens if completion else 0,
        cached_tokens=completion.usage.cached_tokens if completion else 0,
        completion_tokens=completion.usage.completion_tokens if completion else 0,
        cost_usd=completion.cost_usd if completion else Decimal(0),
        latency_s=call.latency_s,
        market=market,
        is_fault=decision.is_fault,
        stop_loss_percent=decision.stop_loss_percent,
        take_profit_percent=decision.take_profit_percent,
    )


def signal_of(decision: Decision, strategy: Strategy, ttl_s: float) -> NewSignal | None:
    """The signal that a decision leaves in the outbox; None for a HOLD."""
    action = SIGNAL_OF_ACTION.get(decision.action)
    if action is None or decision.symbol is None:
        return None
    return NewSignal(
        action=action,
        symbol=decision.symbol,
        exchange=strategy.exchange,
        size_usd=decision.size_usd,
        confidence=decision.confidence,
        reasoning=decision.reasoning,
        stop_loss_percent=decision.stop_loss_percent,
        take_profit_percent=decision.take_profit_percent,
        ttl_s=ttl_s,
    )
