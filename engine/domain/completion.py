"""One completion of the model: its text, tokens and cost; and the names of the provider's limits."""

from decimal import Decimal
from typing import Final, Literal

from engine.platform.values import Frozen


class Usage(Frozen):
    """Tokens of one completion as the provider counted them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


LimitName = Literal["rpm", "tpm", "rpd", "tpd"]
LIMIT_WORDS: Final[dict[LimitName, str]] = {
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "rpd": "requests per day",
    "tpd": "tokens per day",
}


class KnownLimit(Frozen):
    """A limit that a refusal of the provider named; `size` (requests or tokens) is None if the refusal lacked it."""

    name: LimitName
    size: int | None = None


class Completion(Frozen):
    """One answer of the model: the raw text, its usage, cost (USD) and latency (s)."""

    text: str
    model: str
    request_id: str | None
    usage: Usage
    cost_usd: Decimal
    latency_s: float
    is_usage_told: bool = True  # False: the provider reported no usage, and `usage` is an upper bound
