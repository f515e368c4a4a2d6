"""What one request to the model came to, and how the provider's answers are read: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from engine.retry_after import retry_after_s
from engine.settings import Price
from engine.types import Completion, Usage

_MILLION: Final = Decimal(1_000_000)
_LONGEST_REASON: Final = 300


class Outcome(StrEnum):
    """How a request ended; the names are those of metrics."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    SERVER_ERROR = "server_error"
    KEY_REFUSED = "key_refused"
    MODEL_GONE = "model_gone"
    REJECTED = "rejected"
    TOO_LARGE = "too_large"
    UNUSABLE = "unusable"


_WORTH_ANOTHER_TRY: Final = frozenset(
    {Outcome.RATE_LIMITED, Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.SERVER_ERROR}
)
_WORKED_ON: Final = frozenset({Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.UNUSABLE})


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `completion` is there when `outcome` is ok; else `reason` says why not.

    `tokens` is what the provider counts against its limits (cached ones do not count), None when that is unknown.
    `sent` is False when the request never left. `network_s` is what part of `latency_s` was waiting. `rejected_text`
    is what the model wrote when the provider itself found it unusable. `unknown_cost_usd` is the most that a request
    may have cost whose use the provider did not tell.
    """

    model: str
    outcome: Outcome
    latency_s: float
    network_s: float = 0.0
    completion: Completion | None = None
    reason: str | None = None
    rejected_text: str | None = None
    retry_after_s: float | None = None
    tokens: int | None = None
    sent: bool = True
    unknown_cost_usd: Decimal = Decimal(0)
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None

    @property
    def cost_usd(self) -> Decimal:
        return self.completion.cost_usd if self.completion else self.unknown_cost_usd

    @property
    def may_be_repeated(self) -> bool:
        return self.outcome in _WORTH_ANOTHER_TRY


@dataclass(frozen=True, slots=True)
class Refusal:
    """How an error status is to be taken."""

    outcome: Outcome
    reason: str
    rejected_text: str | None = None


class _Details(BaseModel):
    cached_tokens: int = 0


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class Body(BaseModel):
    """The parts of a chat completion that we read."""

    choices: list[_Choice]
    usage: _Usage

    @classmethod
    def read(cls, content: bytes) -> "Body | None":
        """None when it is no chat completion."""
        try:
            body = cls.model_validate_json(content)
        except ValidationError:
            return None
        return body if body.choices else None

    @property
    def text(self) -> str:
        return self.choices[0].message.content or ""

    @property
    def counted(self) -> Usage:
        details = self.usage.prompt_tokens_details
        return Usage(
            prompt_tokens=max(0, self.usage.prompt_tokens),
            cached_tokens=min(max(0, details.cached_tokens if details else 0), max(0, self.usage.prompt_tokens)),
            completion_tokens=max(0, self.usage.completion_tokens),
        )


def refusal(status: int, body: object) -> Refusal:
    """What an error status and its body mean (Groq's error codes; any other 4xx is taken as the endpoint's trouble)."""
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    error = error if isinstance(error, Mapping) else {}
    code, message = str(error.get("code") or ""), str(error.get("message") or "no message")[:_LONGEST_REASON]
    said = f"{status} {code}: {message}" if code else f"{status}: {message}"
    if code == "json_validate_failed":
        return Refusal(
            Outcome.UNUSABLE, "the model did not keep to the schema", str(error.get("failed_generation") or "")
        )
    if code in ("model_decommissioned", "model_not_found") or (status == 404 and "model" in message.lower()):
        return Refusal(Outcome.MODEL_GONE, said)
    return Refusal(_BY_STATUS.get(status, Outcome.SERVER_ERROR), said)


_BY_STATUS: Final = {
    400: Outcome.REJECTED,
    401: Outcome.KEY_REFUSED,
    403: Outcome.KEY_REFUSED,
    413: Outcome.TOO_LARGE,
    422: Outcome.UNUSABLE,
    429: Outcome.RATE_LIMITED,
}


def unknown_cost_usd(outcome: Outcome, most: Usage, price: Price | None, *, sent: bool) -> Decimal:
    """The most USD that an answer may have cost which never came whole, or which the provider itself threw away.

    A refusal or an error of the provider costs nothing.
    """
    return cost_usd(most, price) if sent and outcome in _WORKED_ON else Decimal(0)


def cost_usd(usage: Usage, price: Price | None) -> Decimal:
    """USD for one completion; 0 for a model without a price."""
    if price is None:
        return Decimal(0)
    fresh = usage.prompt_tokens - usage.cached_tokens
    millionths = fresh * price.input + usage.cached_tokens * price.cached_input + usage.completion_tokens * price.output
    return millionths / _MILLION


def announced(headers: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """The limits a response tells: requests per day, tokens per minute, and its Retry-After in seconds."""
    return {
        "requests_per_day": _count(headers.get("x-ratelimit-limit-requests")),
        "tokens_per_minute": _count(headers.get("x-ratelimit-limit-tokens")),
        "retry_after_s": retry_after_s(headers.get("retry-after"), now),
    }


def _count(value: str | None) -> int | None:
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0 else None
