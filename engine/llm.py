"""Groq's chat completions through its own SDK: one request per call, never repeated here, its end put into a word."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import groq
import httpcore
import httpx

from engine.calls import Body, Call, Outcome, announced, cost_usd, refusal, unknown_cost_usd
from engine.deadline_transport import DeadlineTransport
from engine.decision import SCHEMA
from engine.errors import BadConfiguration, StrategyFault, UpstreamUnavailable
from engine.prompts import Prompt, estimate_tokens
from engine.settings import Settings
from engine.types import Completion, Usage

GROQ_URL: Final = "https://api.groq.com"
_COMPLETIONS: Final = "/openai/v1/chat/completions"
ANSWER_TOKENS: Final = 400
REASONING_TOKENS: Final = {"low": 400, "medium": 1_200, "high": 4_000}
LARGEST_ANSWER_BYTES: Final = 512 * 1024
TEMPERATURE: Final = 0.2
_BY_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {"name": "decision", "strict": True, "schema": SCHEMA},
}
_AS_JSON: Final = {"type": "json_object"}


class GroqModel:
    """The provider's client for one process. Make it after the fork; it opens its connection on first use.

    `sockets` makes the connections; the default is the network. Raises BadConfiguration when there is no key.
    """

    def __init__(self, settings: Settings, sockets: httpcore.NetworkBackend | None = None) -> None:
        if settings.groq_api_key is None:
            raise BadConfiguration("GROQ_API_KEY is not set, so no model can be asked.")
        self._settings = settings
        self._transport = DeadlineTransport(sockets)
        # A compressed answer could be a thousand times larger than what came over the wire.
        hooks = {"response": [_refuse_compressed]}
        http = httpx.Client(transport=self._transport, trust_env=False, event_hooks=hooks)
        self._client = groq.Groq(
            api_key=settings.groq_api_key.get_secret_value(),
            base_url=settings.groq_base_url or GROQ_URL,
            max_retries=0,
            http_client=http,
            default_headers={"Accept-Encoding": "identity"},
        )
        self._gone: dict[str, str] = {}

    def choose(self, wanted: str | None) -> str:
        """The model to ask: the row's own, or the first of the settings' that is not known to be gone.

        Raises StrategyFault when the row's own is gone, UpstreamUnavailable when all of the settings' are. Either way
        the next cycle asks again, in case it has come back.
        """
        if wanted is not None:
            if wanted in self._gone:
                raise StrategyFault(f"the row's model {wanted} is not available ({self._gone.pop(wanted)})")
            return wanted
        left = [model for model in self._settings.groq_model if model not in self._gone]
        if left:
            return left[0]
        reasons = "; ".join(self._gone.values())
        self._gone.clear()
        raise UpstreamUnavailable("groq", f"no model of GROQ_MODEL is available, name another one there ({reasons})")

    def gone(self, model: str, reason: str) -> None:
        """Remembers that the provider does not serve `model` any more; the limiter says so, once for everybody."""
        self._gone[model] = reason

    def answer_tokens(self, model: str) -> int:
        """The most tokens an answer may have, its reasoning included."""
        if not _reasons(model):
            return ANSWER_TOKENS
        return ANSWER_TOKENS + REASONING_TOKENS[self._settings.sparky_llm_reasoning_effort]

    def has_price(self, model: str) -> bool:
        return model in self._settings.sparky_llm_prices

    def complete(self, prompt: Prompt, model: str, deadline: float) -> Call:
        """Asks `model` once. Comes back by the monotonic `deadline`, and never raises, however the server behaves."""
        allowance = self._transport.allowance
        allowance.renew(deadline, LARGEST_ANSWER_BYTES)
        start = time.monotonic()
        try:
            response = self._client.post(_COMPLETIONS, body=self._request(prompt, model), cast_to=httpx.Response)
            result = self._read(model, response, time.monotonic() - start)
        except groq.APIStatusError as error:
            result = _refused(error)
        except groq.APIConnectionError as error:
            result = self._unanswered(error)
        latency_s = time.monotonic() - start
        call = Call(model=model, latency_s=latency_s, network_s=allowance.blocked_s, **result)
        return call if call.completion else replace(call, unknown_cost_usd=self._most_it_cost(call, prompt))

    def close(self) -> None:
        self._client.close()

    def _request(self, prompt: Prompt, model: str) -> dict[str, Any]:
        """The body; the SDK's own method would walk through all that the API knows and pass it on unchanged."""
        body: dict[str, Any] = {
            "model": model,
            "messages": _messages(prompt),
            "temperature": TEMPERATURE,
            "max_completion_tokens": self.answer_tokens(model),
            "response_format": _BY_SCHEMA if _reasons(model) else _AS_JSON,
        }
        if _reasons(model):
            body["reasoning_effort"] = self._settings.sparky_llm_reasoning_effort
        return body

    def _most_it_cost(self, call: Call, prompt: Prompt) -> Decimal:
        most = Usage(prompt_tokens=estimate_tokens(prompt), completion_tokens=self.answer_tokens(call.model))
        return unknown_cost_usd(call.outcome, most, self._settings.sparky_llm_prices.get(call.model), sent=call.sent)

    def _read(self, model: str, response: httpx.Response, latency_s: float) -> dict[str, Any]:
        body = Body.read(response.content)
        if body is None:
            return {"outcome": Outcome.SERVER_ERROR, "reason": "the answer is no chat completion"}
        usage = body.counted
        completion = Completion(
            text=body.text,
            model=model,
            request_id=response.headers.get("x-request-id"),
            usage=usage,
            cost_usd=cost_usd(usage, self._settings.sparky_llm_prices.get(model)),
            latency_s=latency_s,
        )
        counted = {"outcome": Outcome.OK, "completion": completion, "tokens": usage.total_tokens - usage.cached_tokens}
        return {**counted, **announced(response.headers, datetime.now(UTC))}

    def _unanswered(self, error: groq.APIConnectionError) -> dict[str, Any]:
        cause = error.__cause__
        if self._transport.allowance.too_large:
            return {"outcome": Outcome.SERVER_ERROR, "reason": f"an answer of more than {LARGEST_ANSWER_BYTES} bytes"}
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
            return {"outcome": Outcome.UNREACHABLE, "reason": f"cannot connect ({cause})", "sent": False}
        if isinstance(error, groq.APITimeoutError):
            return {"outcome": Outcome.TIMEOUT, "reason": "no whole answer in time"}
        return {"outcome": Outcome.UNREACHABLE, "reason": f"the connection broke ({cause or error})"}


def _refused(error: groq.APIStatusError) -> dict[str, Any]:
    said = refusal(error.status_code, error.body)
    return {
        "outcome": said.outcome,
        "reason": said.reason,
        "rejected_text": said.rejected_text,
        "tokens": 0 if error.status_code < 498 else None,
        **announced(error.response.headers, datetime.now(UTC)),
    }


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    asked = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
    if prompt.rejected is None:
        return asked
    said = {"role": "assistant", "content": prompt.rejected.text}
    return [*asked, said, {"role": "user", "content": prompt.correction}]


def _refuse_compressed(response: httpx.Response) -> None:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise httpx.RemoteProtocolError(f"an answer in the encoding {encoding!r}, which was not asked for")


def _reasons(model: str) -> bool:
    """gpt-oss takes a reasoning effort and constrained decoding by schema; other models get JSON mode."""
    return model.startswith("openai/gpt-oss-")
