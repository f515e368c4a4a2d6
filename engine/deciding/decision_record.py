"""Builds the record of a decision (market, answers, result) and the signal that follows from it, and writes them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from engine.deciding.decision_parser import to_hold
from engine.deciding.prompt import hash_system_prompt, render_notes
from engine.domain.completion import Usage
from engine.domain.decision import Decision
from engine.domain.signal_payload import UnsendableSignal, build_decision_payload
from engine.domain.strategy import Strategy
from engine.llm.llm_call import LlmCall
from engine.llm.retry import CompletionRetrier
from engine.platform.errors import UpstreamUnavailable
from engine.platform.plain_text import sanitize_for_storage
from engine.store.cycles import CallRecord, DecisionRecord, NewSignal, RecordedDecision

MAX_RAW_ANSWER: Final = 16_384

# A database that was restarted is back within this time, and a decision that is older should not be traded. A strategy
# that is stopped gets a second more than this to end.
RECORD_RETRY_S: Final = 5.0
_RETRY_PAUSE_S: Final = 0.25


def record_with_retries(
    record_once: Callable[[], RecordedDecision],
    deadline: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> RecordedDecision:
    """Calls `record_once` until it succeeds. Repeating is safe: a decision id is recorded once.

    Raises UpstreamUnavailable when it still fails RECORD_RETRY_S after the first failure; no attempt begins after the
    monotonic `deadline`.
    """
    until: float | None = None
    while True:
        try:
            return record_once()
        except UpstreamUnavailable:
            now = clock()
            until = min(deadline, now + RECORD_RETRY_S) if until is None else until
            if now + _RETRY_PAUSE_S > until:
                raise
        sleep(_RETRY_PAUSE_S)


def build_record(
    decision: Decision, call: LlmCall, retrier: CompletionRetrier, market: dict[str, Any], earlier_usd: Decimal
) -> DecisionRecord:
    """The row of `ai_trade_log` for a decision from the answer of `call`, one of the calls of `retrier`.

    `market` is the market block that the model was shown. The cost is that of all calls, and of `earlier_usd`, the
    spending of cycles without a record.
    """
    completion, prompt = call.completion, retrier.prompt
    usages = [attempt.completion.usage for attempt in retrier.calls if attempt.completion]
    return DecisionRecord(
        action=decision.action,
        symbol=decision.symbol,
        size_usd=decision.size_usd,
        confidence=decision.confidence,
        reasoning=decision.reasoning,
        reason=decision.reason,
        size_reason=decision.size_reason,
        raw_answer=_get_raw_answer(call),
        model=call.model,
        request_id=completion.request_id if completion else None,
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cost_usd=retrier.cost_usd + earlier_usd,
        latency_s=sum(attempt.latency_s for attempt in retrier.calls),
        market=market,
        is_fault=decision.is_fault,
        stop_loss_percent=decision.stop_loss_percent,
        take_profit_percent=decision.take_profit_percent,
        calls=tuple(_build_call_record(attempt, is_decisive=attempt is call) for attempt in retrier.calls),
        notes=render_notes(retrier.context.strategy.custom_prompt) or None,
        system_sha256=hash_system_prompt(prompt.system),
    )


def _get_raw_answer(call: LlmCall) -> str | None:
    text = call.completion.text if call.completion else call.rejected_text
    return None if text is None else sanitize_for_storage(text)[:MAX_RAW_ANSWER]


def _build_call_record(call: LlmCall, *, is_decisive: bool) -> CallRecord:
    usage = call.completion.usage if call.completion else Usage()
    return CallRecord(
        model=call.model,
        outcome=call.outcome.value,
        reason=None if call.reason is None else sanitize_for_storage(call.reason),
        latency_s=call.latency_s,
        cost_usd=call.cost_usd,
        is_usage_told=call.completion.is_usage_told if call.completion else call.cost_usd == 0,
        answer=None if is_decisive else _get_raw_answer(call),
        **usage.model_dump(),
    )


def attach_signal(
    decision: Decision, strategy: Strategy, decision_id: UUID, ttl_s: float
) -> tuple[Decision, NewSignal | None]:
    """The decision with the signal that it leaves in the outbox, None for a HOLD.

    What the webhook server would refuse anyway (its row may have been made by hand) is a HOLD that says why.
    """
    try:
        payload = build_decision_payload(decision, strategy, decision_id)
    except UnsendableSignal as error:
        return to_hold(decision, f"no signal can be sent: {error}"), None
    return decision, None if payload is None else NewSignal(payload=payload, ttl_s=ttl_s)
