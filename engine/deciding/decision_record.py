"""How a decision is kept: the record of what was seen, said and made of it, and the signal that follows from it."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from engine.deciding.decision_parser import as_hold
from engine.deciding.prompt import prompt_hash, render_notes
from engine.domain.completion import Usage
from engine.domain.decision import Decision
from engine.domain.signal_payload import UnsendableSignal, build_decision_payload
from engine.domain.strategy import Strategy
from engine.llm.outcome import LlmCall
from engine.llm.retry import CompletionRetrier
from engine.platform.errors import UpstreamUnavailable
from engine.platform.plain_text import sanitize_for_storage
from engine.store.cycles import CallRecord, DecisionRecord, NewSignal, RecordedDecision

MAX_RAW_ANSWER: Final = 16_384

# How long a record that failed is tried again: a database that was restarted is back by then. Not longer, since a
# decision grows old. A strategy that is stopped has a second more.
AGAIN_FOR_S: Final = 5.0
_AGAIN_AFTER_S: Final = 0.25


def tried_again(
    keep: Callable[[], RecordedDecision], deadline: float, clock: Callable[[], float], pause: Callable[[float], None]
) -> RecordedDecision:
    """What `keep` returns: under one id a decision is recorded once, however often that is tried.

    Raises UpstreamUnavailable when it fails `AGAIN_FOR_S` after its first failure. None is begun after `deadline`.
    """
    until: float | None = None
    while True:
        try:
            return keep()
        except UpstreamUnavailable:
            now = clock()
            until = min(deadline, now + AGAIN_FOR_S) if until is None else until
            if now + _AGAIN_AFTER_S > until:
                raise
        pause(_AGAIN_AFTER_S)


def record_of(
    decision: Decision, call: LlmCall, attempts: CompletionRetrier, market: dict[str, Any], earlier_usd: Decimal
) -> DecisionRecord:
    """The row of `ai_trade_log` for a decision that came of `call`, the one among `attempts` whose answer counts.

    `market` is what the model was shown. What was spent on the other attempts is this decision's too, and so are
    `earlier_usd`, spent by cycles that came to no record.
    """
    completion, prompt = call.completion, attempts.prompt
    used = [each.completion.usage for each in attempts.calls if each.completion]
    return DecisionRecord(
        action=decision.action,
        symbol=decision.symbol,
        size_usd=decision.size_usd,
        confidence=decision.confidence,
        reasoning=decision.reasoning,
        reason=decision.reason,
        size_reason=decision.size_reason,
        raw_answer=_raw_answer(call),
        model=call.model,
        request_id=completion.request_id if completion else None,
        prompt_tokens=sum(usage.prompt_tokens for usage in used),
        cached_tokens=sum(usage.cached_tokens for usage in used),
        completion_tokens=sum(usage.completion_tokens for usage in used),
        cost_usd=attempts.cost_usd + earlier_usd,
        latency_s=sum(each.latency_s for each in attempts.calls),
        market=market,
        is_fault=decision.is_fault,
        stop_loss_percent=decision.stop_loss_percent,
        take_profit_percent=decision.take_profit_percent,
        calls=tuple(_call_record(each, is_decisive=each is call) for each in attempts.calls),
        notes=render_notes(attempts.context.strategy.custom_prompt) or None,
        system_sha256=prompt_hash(prompt.system),
    )


def _raw_answer(call: LlmCall) -> str | None:
    said = call.completion.text if call.completion else call.rejected_text
    return None if said is None else sanitize_for_storage(said)[:MAX_RAW_ANSWER]


def _call_record(call: LlmCall, *, is_decisive: bool) -> CallRecord:
    usage = call.completion.usage if call.completion else Usage()
    return CallRecord(
        model=call.model,
        outcome=call.outcome.value,
        reason=None if call.reason is None else sanitize_for_storage(call.reason),
        latency_s=call.latency_s,
        cost_usd=call.cost_usd,
        is_usage_told=call.completion.is_usage_told if call.completion else call.cost_usd == 0,
        answer=None if is_decisive else _raw_answer(call),
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
        return as_hold(decision, f"no signal can be sent: {error}"), None
    return decision, None if payload is None else NewSignal(payload=payload, ttl_s=ttl_s)
