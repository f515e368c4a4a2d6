"""The outcome of one request to the model, the caller's next step, and the request's cost. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from engine.domain.completion import Completion, KnownLimit, Usage
from engine.platform.settings.setting_types import Price

_MILLION: Final = Decimal(1_000_000)


class LlmOutcome(StrEnum):
    """How a request ended; the values are labels of metrics."""

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

    `read`: reads the answer. `raise_allowance`: sends the request again with more answer tokens. `repair`: shows the
    model its answer and asks again. `try_again`: sends the request again after a pause. `next_model`: uses another
    model. `wait`: a failure of the provider, which opens the breaker and pauses no row. `blame_choice`: the strategy's
    fault if its row names the model, else as `wait`. `blame`: the strategy's fault.
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

# The provider would refuse every request of this host the same way.
ACCOUNT_WIDE: Final = frozenset({LlmOutcome.KEY_REFUSED, LlmOutcome.ACCOUNT_REFUSED, LlmOutcome.NETWORK_REFUSED})
# For a person to read.
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
    """One request. `completion` is what the model wrote, if anything came; it is an answer only if `outcome` is ok.

    `reason` says why there is no answer, in the provider's own words where it gave some. `tokens` are those that the
    provider counts against its limits (cached ones do not count), None when unknown. `sent` is False when the request
    was never sent, `unreadable` True when the response is no completion. `network_s` is the part of `latency_s` spent
    waiting on the network. `rejected_text` is what the model wrote when the provider itself found it unusable.
    `worst_case_cost_usd` is the most that a request without reported usage may have cost. `limit` is the limit that
    refused it.
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
        """The reason for which the provider refuses every request of this host, with advice; None when it does not."""
        if self.outcome not in ACCOUNT_WIDE:
            return None
        return f"{self.outcome.value.replace('_', ' ')} ({self.reason}): {ADVICE[self.outcome]}"

    @property
    def next_step(self) -> NextStep:
        return NEXT_STEP[self.outcome]

    @property
    def is_retryable(self) -> bool:
        return self.next_step is NextStep.TRY_AGAIN


def compute_worst_case_cost_usd(call: LlmCall, assumed: Usage, price: Price | None) -> Decimal:
    """The most that a request without a completion may have cost, in USD, with the `assumed` usage.

    A response that is unreadable or incomplete, or that the provider discarded, may have been billed. A refusal or an
    error of the provider costs nothing.
    """
    may_be_billed = call.sent and (call.unreadable or call.outcome in _MAY_BE_BILLED)
    return compute_cost_usd(assumed, price) if may_be_billed else Decimal(0)


def compute_cost_usd(usage: Usage, price: Price | None) -> Decimal:
    """The cost of one completion in USD, by prices per million tokens; 0 for a model without a price."""
    if price is None:
        return Decimal(0)
    fresh = usage.prompt_tokens - usage.cached_tokens
    millionths = fresh * price.input + usage.cached_tokens * price.cached_input + usage.completion_tokens * price.output
    return millionths / _MILLION
