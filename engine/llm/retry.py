"""Gets one answer from the model: up to three requests within the cycle's deadline, each with a permit of its own.

This is the one place where a model call is retried: after a failure that may pass, with a larger allowance after an
answer that was cut off, and once after an unusable answer, which is shown to the model for repair.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from engine.domain.errors import CompletionCutOff, LlmUnavailable, ModelUnavailable, StrategyFault
from engine.domain.prompt import Prompt, with_correction
from engine.domain.strategy import StrategyContext
from engine.llm.llm_call import LlmCall, LlmOutcome, NextStep
from engine.platform.backoff import jittered_backoff_s
from engine.platform.errors import CycleSkipped, SparkyError, UpstreamUnavailable

MAX_ATTEMPTS: Final = 3
FIRST_BACKOFF_S: Final = 0.75
MAX_BACKOFF_S: Final = 12.0


class PermitGrant(NamedTuple):
    """A permit for one request of up to `tokens`, and the seconds that the strategy waited for it."""

    permit_id: UUID
    waited_s: float
    tokens: int


class LlmClient(Protocol):
    """What the cycle needs of `engine.llm.groq_client.GroqClient`."""

    def select_model(self, wanted: str | None) -> str: ...

    def mark_unavailable(self, model: str, reason: str) -> None: ...

    def count_request_tokens(self, prompt: Prompt, model: str) -> int: ...

    def raise_allowance(self, model: str) -> bool: ...

    def restore_allowance(self, model: str) -> bool: ...

    def has_price(self, model: str) -> bool: ...

    def complete(self, prompt: Prompt, model: str, deadline: float) -> LlmCall: ...


class PermitClient(Protocol):
    """Acquires permits, and releases them with the call, whose usage and cost the limiter and the monitor count."""

    def acquire(self, model: str, tokens: int, *, holds_position: bool, deadline: float) -> PermitGrant:
        """Raises CycleSkipped when there is none by the monotonic `deadline`, ModelUnavailable when the provider is
        known not to serve the model, UpstreamUnavailable when it is known to refuse the whole account."""
        ...

    def release(self, granted: PermitGrant, call: LlmCall) -> None: ...


@dataclass
class CompletionRetrier:
    """The requests of one cycle, at most `max_attempts`.

    `permit_wait_s` sums the waits for permits, `waited_s` those and the waits on the network and between attempts.
    `has_budget` says whether more may be spent, given the USD that this cycle has spent.
    """

    context: StrategyContext
    prompt: Prompt
    client: LlmClient
    permits: PermitClient
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    timeout_s: float
    max_attempts: int = MAX_ATTEMPTS
    has_budget: Callable[[Decimal], bool] = lambda _: True
    permit_wait_s: float | None = None
    waited_s: float = 0.0
    calls: list[LlmCall] = field(default_factory=list)

    def complete(self, deadline: float) -> LlmCall:
        """The call with an answer, or the last one whose answer was cut off or is unusable.

        Raises CycleSkipped without a permit, StrategyFault or UpstreamUnavailable when the last attempt failed.
        """
        while True:
            call = self._send_next(deadline)
            if call.next_step in (NextStep.READ, NextStep.REPAIR):
                return call
            if call.next_step is NextStep.RAISE_ALLOWANCE:
                if not (self.client.raise_allowance(call.model) and self._can_try):
                    return call
            elif not self._can_retry(call, deadline):
                raise self._to_failure(call)

    @property
    def _can_try(self) -> bool:
        return self.attempt_count < self.max_attempts and self.has_budget(self.cost_usd)

    def _can_retry(self, call: LlmCall, deadline: float) -> bool:
        """Prepares another request after one that failed, which may wait; False when there is to be none."""
        if call.next_step is NextStep.NEXT_MODEL:
            self.client.mark_unavailable(call.model, call.reason or "")
            return True
        # The raised allowance may be what exceeds the limit, so the request is sent once more without it.
        if call.outcome is LlmOutcome.EXCEEDS_LIMIT and self.client.restore_allowance(call.model):
            self._raise_if_cut()
            return self._can_try
        return call.is_retryable and self._can_try and self._back_off(call, self.attempt_count, deadline)

    def repair(self, unusable: LlmCall, reason: str, deadline: float) -> LlmCall | None:
        """Shows the model its `unusable` answer and asks once more; None without an answer, whatever the cause: the
        first answer's fault is then the cycle's result."""
        if self.attempt_count >= self.max_attempts:
            return None
        text = unusable.completion.text if unusable.completion else unusable.rejected_text
        self.prompt = with_correction(self.prompt, text or "", reason)
        try:
            call = self._send_next(deadline)
        except (CycleSkipped, StrategyFault, UpstreamUnavailable):
            return None
        if call.next_step is NextStep.RAISE_ALLOWANCE:
            self.client.raise_allowance(call.model)  # for the next cycle; this one makes no further request
        return call if call.next_step in (NextStep.READ, NextStep.REPAIR) else None

    @property
    def attempt_count(self) -> int:
        """Requests so far, without those to a model that is not served, which the provider does not count."""
        return sum(call.outcome is not LlmOutcome.MODEL_GONE for call in self.calls)

    @property
    def cost_usd(self) -> Decimal:
        return sum((call.cost_usd for call in self.calls), Decimal(0))

    def _send_next(self, deadline: float) -> LlmCall:
        model, grant = self._acquire_for_any_model(deadline)
        call = self.client.complete(self.prompt, model, min(deadline, self.clock() + self.timeout_s))
        self.waited_s += call.network_s
        self.calls.append(call)
        self.permits.release(grant, call)
        return call

    def _acquire_for_any_model(self, deadline: float) -> tuple[str, PermitGrant]:
        """A model that is served, and a permit for it. Raises what `GroqClient.select_model` raises."""
        while True:
            model = self.client.select_model(self.context.strategy.model)
            try:
                return model, self._acquire_permit(model, deadline)
            except ModelUnavailable as error:
                self.client.mark_unavailable(model, str(error))
            except StrategyFault:  # more tokens than a limit; after a raised allowance that is not the row's fault
                if not self.client.restore_allowance(model):
                    raise
                self._raise_if_cut()

    def _raise_if_cut(self) -> None:
        """Raises CompletionCutOff when an answer of this cycle was cut off: more tokens, which it needs, exceed the
        limits."""
        cut = next((call for call in self.calls if call.outcome is LlmOutcome.CUT), None)
        if cut is not None:
            raise self._to_failure(cut)

    def _acquire_permit(self, model: str, deadline: float) -> PermitGrant:
        asked_at = self.clock()
        try:
            return self.permits.acquire(
                model,
                self.client.count_request_tokens(self.prompt, model),
                holds_position=bool(self.context.positions),
                deadline=deadline - self._compute_min_call_s(deadline),
            )
        except CycleSkipped:
            if self.calls:  # the first failure is the cause, not the missing permit for a second attempt
                raise self._to_failure(self.calls[-1]) from None
            raise
        finally:
            waited_s = self.clock() - asked_at
            self.waited_s += waited_s
            self.permit_wait_s = (self.permit_wait_s or 0.0) + waited_s

    def _compute_min_call_s(self, deadline: float) -> float:
        return min(5.0, self.timeout_s, max(0.0, deadline - self.clock()) / 4)

    def _back_off(self, call: LlmCall, attempt_count: int, deadline: float) -> bool:
        """Waits before the next attempt; False when that would leave no time for one."""
        backoff_s = jittered_backoff_s(attempt_count, FIRST_BACKOFF_S, MAX_BACKOFF_S, self.jitter())
        pause_s = max(backoff_s, call.retry_after_s or 0.0)
        if self.clock() + pause_s + self._compute_min_call_s(deadline) >= deadline:
            return False
        self.sleep(pause_s)
        self.waited_s += pause_s
        return True

    def _to_failure(self, call: LlmCall) -> SparkyError:
        """The error for a failed call: the strategy's fault where its row chose the model or the prompt's length, else
        the provider's."""
        reason = call.reason or call.outcome.value
        if call.account_refusal is not None:
            return LlmUnavailable(call.account_refusal)
        has_chosen = self.context.strategy.model is not None
        if call.next_step is NextStep.BLAME or (call.next_step is NextStep.BLAME_CHOICE and has_chosen):
            return StrategyFault(f"the request was refused: {reason}")
        if call.next_step is NextStep.RAISE_ALLOWANCE:
            return CompletionCutOff(reason)
        return LlmUnavailable(reason, call.retry_after_s)
