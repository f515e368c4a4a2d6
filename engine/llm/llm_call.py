"""What one request to the model came to, what is done next about it, and what it cost: pure."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from engine.domain.completion import Completion, KnownLimit, Usage
from engine.platform.settings.setting_types import Price

_MILLION: Final = Decimal(1_000_000)


class LlmOutcome(StrEnum):
    """How a request ended; the names are those of metrics."""

    OK = "ok"
    CUT = "cut"
    UNFINISHED = "unfinished"
    UNUSABLE = "unusable"
    RATE_LIMITED = "rate_limited"
    EXCEEDS_LIMIT = "exceeds_limit"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    SERVER_ERROR = "server_error"
    KEY_REFUSED = "key_refused"
    ACCOUNT_REFUSED = "account_refused"
    NETWORK_REFUSED = "network_refused"
    MODEL_GONE = "model_gone"
    REJECTED = "rejected"
    TOO_LARGE = "too_large"


class NextStep(StrEnum):
    """What the caller does after a request.

    `read`: reads the answer. `raise_allowance`: asks again with more tokens. `repair`: shows the model its answer and
    asks again. `try_again`: the same once more, after a pause. `next_model`: asks another model. `wait`: a failure of
    the provider, which opens the breaker and pauses nobody. `blame_choice`: the strategy's fault if its row names the
    model, else as `wait`. `blame`: the strategy's fault.
    """

    READ = "read"
    RAISE_ALLOWANCE = "raise_allowance"
    REPAIR = "repair"
    TRY_AGAIN = "try_again"
    NEXT_MODEL = "next_model"
    WAIT = "wait"
    BLAME_CHOICE = "blame_choice"
    BLAME = "blame"


NEXT_STEP: Final = {
    LlmOutcome.OK: NextStep.READ,
    LlmOutcome.CUT: NextStep.RAISE_ALLOWANCE,
    LlmOutcome.UNFINISHED: NextStep.WAIT,
    LlmOutcome.UNUSABLE: NextStep.REPAIR,
    LlmOutcome.RATE_LIMITED: NextStep.TRY_AGAIN,
    LlmOutcome.EXCEEDS_LIMIT: NextStep.WAIT,
    LlmOutcome.TIMEOUT: NextStep.TRY_AGAIN,
    LlmOutcome.UNREACHABLE: NextStep.TRY_AGAIN,
    LlmOutcome.SERVER_ERROR: NextStep.TRY_AGAIN,
    LlmOutcome.KEY_REFUSED: NextStep.WAIT,
    LlmOutcome.ACCOUNT_REFUSED: NextStep.WAIT,
    LlmOutcome.NETWORK_REFUSED: NextStep.WAIT,
    LlmOutcome.MODEL_GONE: NextStep.NEXT_MODEL,
    LlmOutcome.REJECTED: NextStep.BLAME_CHOICE,
    LlmOutcome.TOO_LARGE: NextStep.BLAME,
}

# Concern every request of the host, whoever made this one.
ACCOUNT_WIDE: Final = frozenset({LlmOutcome.KEY_REFUSED, LlmOutcome.ACCOUNT_REFUSED, LlmOutcome.NETWORK_REFUSED})
# What a person does about it.
ADVICE: Final = {
    LlmOutcome.KEY_REFUSED: "make a new key at console.groq.com and set GROQ_API_KEY",
    LlmOutcome.ACCOUNT_REFUSED: "look after the account at console.groq.com: its state, its money, its rights",
    LlmOutcome.NETWORK_REFUSED: "something between here and the provider refuses: look at proxy, VPN and network",
    LlmOutcome.RATE_LIMITED: "wait; if it comes often: fewer strategies, longer cadences, or a larger plan",
    LlmOutcome.EXCEEDS_LIMIT: "fewer symbols, shorter notes, or a larger plan",
}

_MAY_BE_BILLED: Final = frozenset({LlmOutcome.TIMEOUT, LlmOutcome.UNREACHABLE, LlmOutcome.UNUSABLE, LlmOutcome.CUT})


@dataclass(frozen=True, slots=True)
class LlmCall:
    """One request. `completion` is what the model wrote, where it came; it is an answer only if `outcome` is ok.

    `reason` says why there is no answer, in the provider's own words where it had some. `tokens` is what the provider
    counts against its limits (cached ones do not count), None when that is unknown. `sent` is False when the request
    never left, `unreadable` True when something came back that is no completion. `network_s` is what part of
    `latency_s` was waiting. `rejected_text` is what the model wrote when the provider itself found it unusable.
    `worst_case_cost_usd` is the most that a request may have cost whose use the provider did not tell. `limit` is the
    one that refused it.
    """

    model: str
    outcome: LlmOutcome
    latency_s: float
    network_s: float = 0.0
    completion: Completion | None = None
    reason: str | None = None
    rejected_text: str | None = None
    retry_after_s: float | None = None
    tokens: int | None = None
    sent: bool = True
    unreadable: bool = False
    worst_case_cost_usd: Decimal = Decimal(0)
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    limit: KnownLimit | None = None

    @property
    def cost_usd(self) -> Decimal:
        return self.completion.cost_usd if self.completion else self.worst_case_cost_usd

    @property
    def account_refusal(self) -> str | None:
        """Why the provider refuses every request of this host, and what to do; None when it does not."""
        if self.outcome not in ACCOUNT_WIDE:
            return None
        return f"{self.outcome.value.replace('_', ' ')} ({self.reason}): {ADVICE[self.outcome]}"

    @property
    def next_step(self) -> NextStep:
        return NEXT_STEP[self.outcome]

    @property
    def is_retryable(self) -> bool:
        return self.next_step is NextStep.TRY_AGAIN


def worst_case_cost_usd(call: LlmCall, most: Usage, price: Price | None) -> Decimal:
    """The most USD that a request may have cost of which no completion came.

    Whatever could not be read, never came whole, or was thrown away by the provider itself may have
    been paid for. A refusal or an error of the provider costs nothing.
    """
    may_be_billed = call.sent and (call.unreadable or call.outcome in _MAY_BE_BILLED)
    return cost_usd(most, price) if may_be_billed else Decimal(0)


def cost_usd(usage: Usage, price: Price | None) -> Decimal:
    """USD for one completion; 0 for a model without a price."""
    if price is None:
        return Decimal(0)
    fresh = usage.prompt_tokens - usage.cached_tokens
    millionths = fresh * price.input + usage.cached_tokens * price.cached_input + usage.completion_tokens * price.output
    return millionths / _MILLION
