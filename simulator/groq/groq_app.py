"""A local server that speaks Groq's chat completions; the rule of `simulator.groq.rule_model` answers in place of a
model.

Approximations: a token is four bytes of UTF-8, rounded up, plus four tokens a message; reasoning costs 40 to 600 tokens
by effort. A prefix of the prompt that was seen before counts as cached, in blocks of 128 tokens.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import ASGIApp

from simulator.faults import Faults, with_faults
from simulator.groq import rule_model
from simulator.groq.prefix_cache import PrefixCache, count_tokens
from simulator.groq.quota import Limits, Quota, QuotaExceeded, format_duration

FINGERPRINT: Final = "sparky-simulator"
HEALTH: Final = "/health"
SCHEMA_MODELS: Final = ("openai/gpt-oss-120b", "openai/gpt-oss-20b")
MODELS: Final = (*SCHEMA_MODELS, "qwen/qwen3.6-27b")
DECOMMISSIONED: Final = ("llama-3.1-70b-versatile",)
REASONING_TOKENS: Final = {"none": 0, "low": 40, "medium": 120, "high": 400, "default": 600}
EFFORTS: Final = {  # by model
    **dict.fromkeys(SCHEMA_MODELS, ("low", "medium", "high")),
    "qwen/qwen3.6-27b": ("none", "default"),
}
DEFAULT_EFFORT: Final = {**dict.fromkeys(SCHEMA_MODELS, "low"), "qwen/qwen3.6-27b": "default"}
DEFAULT_ANSWER_TOKENS: Final = 8_192
MESSAGE_TOKENS: Final = 4


class GroqApiError(Exception):
    """Answered as ``{"error": {"message", "type", "code", **more}}`` with `status`."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = more.pop("headers", {})
        kind = more.pop("kind", "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "code": code, **more}}


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: str
    content: str


class ChatRequest(BaseModel):
    """The parameters that have an effect; others of Groq's are accepted and ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    stream: bool | None = False

    @property
    def prompt(self) -> str:
        return "\n".join(f"{message.role}: {message.content}" for message in self.messages)

    @property
    def max_answer_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or DEFAULT_ANSWER_TOKENS

    @property
    def format(self) -> str:
        return str((self.response_format or {}).get("type", "text"))


@dataclass(frozen=True)
class Answer:
    text: str
    finish_reason: str
    completion_tokens: int
    reasoning_tokens: int


class Groq:
    """State of the stand-in: the quota of each model and the prefixes it has seen. One thread: the event loop."""

    def __init__(
        self, limits: Limits, models: tuple[str, ...] = MODELS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.models = models
        self.quotas = {model: Quota(limits) for model in models}
        self._prefixes = PrefixCache()
        self._clock = clock

    def complete(self, request: ChatRequest) -> tuple[dict[str, Any], dict[str, str]]:
        """The body and the headers of a completion. Raises GroqApiError."""
        self._check(request)
        now = self._clock()
        prompt_tokens = count_tokens(request.prompt) + MESSAGE_TOKENS * len(request.messages)
        cached = min(self._prefixes.match_prefix(request.model, request.prompt), prompt_tokens)
        answer = answer_request(request)
        quota = self.quotas[request.model]
        refusal = quota.admit(now, prompt_tokens - cached + answer.completion_tokens)
        if refusal is not None:
            raise _build_rate_limit_error(request.model, refusal, quota.build_headers(now))
        return _build_completion_body(request, answer, prompt_tokens, cached), quota.build_headers(now)

    def _check(self, request: ChatRequest) -> None:
        if request.model in DECOMMISSIONED:
            message = f"The model `{request.model}` has been decommissioned and is no longer supported."
            raise GroqApiError(400, "model_decommissioned", message)
        if request.model not in self.models:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            raise GroqApiError(404, "model_not_found", message)
        if request.reasoning_effort not in (None, *EFFORTS.get(request.model, ())):
            known = " or ".join(f"`{effort}`" for effort in EFFORTS.get(request.model, ()))
            message = f"`reasoning_effort` must be one of {known}" if known else "`reasoning_effort` is not supported"
            raise GroqApiError(400, "invalid_request_error", message, param="reasoning_effort")
        if request.stream:
            raise GroqApiError(400, "invalid_request_error", "The stand-in does not stream.")
        if request.format == "json_schema" and request.model not in SCHEMA_MODELS:
            message = "This model does not support response format `json_schema`."
            raise GroqApiError(400, "invalid_request_error", message, param="response_format")


def _build_rate_limit_error(model: str, refusal: QuotaExceeded, headers: dict[str, str]) -> GroqApiError:
    """429 with the time to wait, or 413 where waiting does not help. As at Groq, no header has requests per minute or
    tokens per day."""
    kind = "tokens" if "token" in refusal.kind else "requests"
    where = f"for model `{model}` in organization `org_simulated` service tier `on_demand` on {refusal.kind}"
    if refusal.exceeds_limit_alone:
        message = f"Request too large {where}: Limit {refusal.limit}, Requested {refusal.wanted}, please reduce it."
        return GroqApiError(413, "rate_limit_exceeded", message, kind=kind, headers=headers)
    message = (
        f"Rate limit reached {where}: Limit {refusal.limit}, Used {refusal.used}, Requested {refusal.wanted}. "
        f"Please try again in {format_duration(refusal.retry_after_s)}."
    )
    wait = {"retry-after": str(int(refusal.retry_after_s) + 1)}
    return GroqApiError(429, "rate_limit_exceeded", message, kind=kind, headers={**wait, **headers})


def answer_request(request: ChatRequest) -> Answer:
    """The rule's decision in the requested format, cut at the requested number of tokens. Raises GroqApiError."""
    decision = rule_model.answer_prompt(request.prompt)
    if request.format == "json_schema":
        decision = _fit_schema(decision, (request.response_format or {}).get("json_schema"))
    text = json.dumps(decision)
    effort = request.reasoning_effort or DEFAULT_EFFORT.get(request.model, "none")
    reasoning = REASONING_TOKENS[effort]
    wanted, most = reasoning + count_tokens(text), request.max_answer_tokens
    if wanted <= most:
        return Answer(text, "stop", wanted, reasoning)
    cut = text.encode()[: max(0, most - reasoning) * 4].decode("utf-8", "ignore")
    if request.format != "text":
        message = "Failed to generate JSON: max completion tokens reached before generating a valid document."
        raise GroqApiError(400, "json_validate_failed", message, failed_generation=cut)
    return Answer(cut, "length", most, min(reasoning, most))


def _fit_schema(decision: dict[str, Any], given: Any) -> dict[str, Any]:
    """The decision with exactly the schema's properties, null where the rule has none. Strict schemas are checked as
    Groq checks them: every property required, nothing else allowed."""
    schema = given.get("schema") if isinstance(given, dict) else None
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict):
        raise GroqApiError(400, "invalid_request_error", "response_format.json_schema.schema must be an object schema")
    is_closed = schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(properties)
    if given.get("strict") and not is_closed:
        message = "strict schemas need additionalProperties:false and every property in `required`"
        raise GroqApiError(400, "invalid_request_error", message, param="response_format")
    return {name: decision.get(name) for name in properties}


def _build_completion_body(request: ChatRequest, answer: Answer, prompt_tokens: int, cached: int) -> dict[str, Any]:
    created = int(time.time())
    message = {"role": "assistant", "content": answer.text}
    seconds = {"queue_time": 0.0, "prompt_time": 0.0, "completion_time": 0.0, "total_time": 0.0}
    return {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": prompt_tokens + answer.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            **seconds,
        },
        "system_fingerprint": FINGERPRINT,
        "x_groq": {"id": f"req_{uuid.uuid4().hex}"},
    }


def create_groq(groq: Groq, api_key: str | None = None, faults: Faults | None = None) -> ASGIApp:
    """The application. It accepts `api_key` only; any bearer token if that is None."""
    app = FastAPI(title="Sparky's stand-in for Groq", docs_url=None, redoc_url=None, openapi_url=None)

    def check_key(request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key or (api_key is not None and key != api_key):
            raise GroqApiError(401, "invalid_api_key", "Invalid API Key")

    @app.post("/openai/v1/chat/completions")
    async def complete_chat(request: Request) -> JSONResponse:
        check_key(request)
        try:
            wanted = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise GroqApiError(400, "invalid_request_error", _format_first_error(error)) from error
        body, headers = groq.complete(wanted)
        return JSONResponse(body, headers={"x-request-id": body["x_groq"]["id"], **headers})

    @app.get("/openai/v1/models")
    async def list_models(request: Request) -> JSONResponse:
        check_key(request)
        return JSONResponse({"object": "list", "data": [_build_model_row(name) for name in groq.models]})

    @app.get(HEALTH)
    async def check_health() -> JSONResponse:
        return JSONResponse({"status": "ok", "models": len(groq.models)})

    @app.exception_handler(GroqApiError)
    async def handle_api_error(_: Request, error: GroqApiError) -> JSONResponse:
        headers = {"x-request-id": f"req_{uuid.uuid4().hex}", **error.headers}
        return JSONResponse(error.body, error.status, headers)

    return with_faults(app, faults or Faults())


def _format_first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"'{'.'.join(str(part) for part in first['loc'])}' : {first['msg']}"


def _build_model_row(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "simulator",
        "active": True,
        "context_window": 131_072,
        "max_completion_tokens": 65_536,
    }
