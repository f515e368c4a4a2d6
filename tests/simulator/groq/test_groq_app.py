"""The stand-in for Groq through the real SDK: its protocol, its limits, its honesty, and its ways to misbehave."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import groq
import httpx
import pytest

from simulator.groq.groq_app import Groq, create_groq
from simulator.groq.quota import Limits

MODEL = "openai/gpt-oss-120b"
QWEN = "qwen/qwen3.6-27b"
Serve = Callable[..., Any]
Misbehave = Callable[..., None]
BLOCK = {
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "last_price": 28_000.0,
            "indicators": {"rsi_14": 60, "ema_12": 28_010, "ema_26": 28_000, "macd_histogram": 4, "atr_14": 10},
        }
    ],
    "positions": [],
    "limits": {"max_position_usd": 1000, "leverage_max": 3, "min_confidence": 0.6},
    "risk_profile": "aggressive",
}
PROPERTIES = {name: {"type": "string"} for name in ("action", "symbol", "reasoning", "surprise")}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "decision",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": PROPERTIES,
            "required": list(PROPERTIES),
            "additionalProperties": False,
        },
    },
}


def messages(text: str = "Decide.") -> list[dict[str, str]]:
    user = f"{text}\n<market>\n{json.dumps(BLOCK)}\n</market>"
    return [{"role": "system", "content": "You trade. " * 200}, {"role": "user", "content": user}]


@pytest.fixture
def client(groq_url: str) -> Iterator[groq.Groq]:
    with groq.Groq(api_key="right-key", base_url=groq_url, max_retries=0, timeout=30) as client:
        yield client


def ask(client: groq.Groq, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": messages(), **more})


def test_an_answer_is_a_decision_that_says_it_is_a_stand_in(client: groq.Groq) -> None:
    answer = ask(client)
    decision = json.loads(answer.choices[0].message.content)
    assert decision["action"] == "LONG"
    assert decision["reasoning"].startswith("stand-in rule: ")
    assert answer.system_fingerprint == "sparky-simulator"
    assert {model.owned_by for model in client.models.list().data} == {"simulator"}


def test_usage_counts_the_prompt_and_serves_a_seen_prefix_from_the_cache(client: groq.Groq) -> None:
    first, second = ask(client), ask(client, messages=messages("Another question."))
    assert first.usage.prompt_tokens > 550
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == 512
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert first.usage.completion_tokens_details.reasoning_tokens == 40


def test_headers_tell_requests_of_the_day_and_tokens_of_the_minute(client: groq.Groq) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages())  # type: ignore[arg-type] # plain dicts
    assert raw.headers["x-ratelimit-limit-requests"] == "500000"
    assert raw.headers["x-ratelimit-remaining-requests"] == "499999"
    assert raw.headers["x-ratelimit-reset-tokens"].endswith("s")
    assert raw.headers["x-request-id"].startswith("req_")
    assert "retry-after" not in raw.headers


def test_a_json_schema_is_kept_to_the_letter(client: groq.Groq) -> None:
    decision = json.loads(ask(client, response_format=SCHEMA).choices[0].message.content)
    assert list(decision) == list(PROPERTIES)
    assert decision["surprise"] is None


def test_a_strict_schema_that_is_open_is_refused(client: groq.Groq) -> None:
    loose = json.loads(json.dumps(SCHEMA))
    del loose["json_schema"]["schema"]["additionalProperties"]
    with pytest.raises(groq.BadRequestError, match="strict schemas"):
        ask(client, response_format=loose)


@pytest.mark.parametrize(
    ("more", "kind", "code"),
    [
        ({"model": "llama-3.3-70b-versatile"}, groq.NotFoundError, "model_not_found"),
        ({"model": "llama-3.1-70b-versatile"}, groq.BadRequestError, "model_decommissioned"),
        ({"model": "qwen/qwen3.6-27b", "response_format": SCHEMA}, groq.BadRequestError, "invalid_request_error"),
        (
            {"max_completion_tokens": 50, "response_format": {"type": "json_object"}},
            groq.BadRequestError,
            "json_validate_failed",
        ),
        ({"messages": []}, groq.BadRequestError, "invalid_request_error"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_as_groq_refuses_it(
    client: groq.Groq, more: dict[str, Any], kind: type[groq.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        ask(client, **more)
    body: Any = caught.value.body
    assert body["error"]["code"] == code


def test_an_answer_beyond_its_tokens_is_cut(client: groq.Groq) -> None:
    answer = ask(client, max_completion_tokens=50)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 50
    assert len(answer.choices[0].message.content) == 40


def test_a_wrong_key_is_not_let_in(groq_url: str) -> None:
    with groq.Groq(api_key="wrong", base_url=groq_url, max_retries=0) as client:
        with pytest.raises(groq.AuthenticationError) as caught:
            ask(client)
        with pytest.raises(groq.AuthenticationError):
            client.models.list()
    body: Any = caught.value.body
    assert body["error"]["code"] == "invalid_api_key"
    assert httpx.post(f"{groq_url}/openai/v1/chat/completions", json={}, timeout=30).status_code == 401


@pytest.mark.parametrize(
    ("limits", "kind", "wait_s"),
    [
        (Limits(rpm=2), "requests per minute (RPM)", 60),
        (Limits(tpm=1_500), "tokens per minute (TPM)", 60),
        (Limits(rpd=2), "requests per day (RPD)", 86_400),
        (Limits(tpd=1_500), "tokens per day (TPD)", 86_400),
    ],
)
def test_above_a_limit_is_429_with_the_time_to_wait_and_room_comes_back(
    serve: Serve, hands: Any, limits: Limits, kind: str, wait_s: float
) -> None:
    url = serve(create_groq(Groq(limits, clock=hands)))
    with groq.Groq(api_key="any", base_url=url, max_retries=0) as client:
        ask(client)
        hands.now = 1.0
        ask(client, messages=messages("Again. "))
        hands.now = 2.5
        with pytest.raises(groq.RateLimitError) as caught:
            ask(client, messages=messages("And again, longer. " * 80))
        assert kind in str(caught.value)
        assert caught.value.response.headers["retry-after"] == str(int(wait_s - 2.5) + 1)
        hands.now = wait_s + 1.0
        ask(client)


@pytest.mark.parametrize("status", [413, 422, 424, 429, 498, 500, 502, 503])
def test_any_status_can_be_ordered(client: groq.Groq, groq_url: str, misbehave: Misbehave, status: int) -> None:
    misbehave(groq_url, {"kind": "status", "status": status, "headers": {"retry-after": "soon"}, "body": "{}"})
    with pytest.raises(groq.APIStatusError) as caught:
        ask(client)
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "soon"
    assert ask(client)


def test_a_request_beyond_a_limit_by_itself_is_413(serve: Serve) -> None:
    url = serve(create_groq(Groq(Limits(tpm=500))))
    with groq.Groq(api_key="any", base_url=url, max_retries=0) as client, pytest.raises(groq.APIStatusError) as caught:
        ask(client)
    assert caught.value.status_code == 413
    assert "tokens per minute (TPM): Limit 500, Requested" in str(caught.value)


def test_qwen_thinks_unless_told_not_to_and_no_model_takes_anothers_effort(client: groq.Groq) -> None:
    thinks, silent = ask(client, model=QWEN), ask(client, model=QWEN, reasoning_effort="none")
    assert thinks.usage.completion_tokens_details.reasoning_tokens == 600
    assert silent.usage.completion_tokens_details.reasoning_tokens == 0
    for model, effort in ((QWEN, "low"), (MODEL, "none")):
        with pytest.raises(groq.BadRequestError, match="reasoning_effort"):
            ask(client, model=model, reasoning_effort=effort)


def test_an_answer_can_be_edited(client: groq.Groq, groq_url: str, misbehave: Misbehave) -> None:
    edit = {"choices.0.finish_reason": "length", "usage": None}
    misbehave(groq_url, {"kind": "edit", "replace": edit, "drop": ["system_fingerprint"]})
    answer = ask(client)
    assert (answer.choices[0].finish_reason, answer.usage, answer.system_fingerprint) == ("length", None, None)
    assert json.loads(answer.choices[0].message.content)["action"] == "LONG"
    assert ask(client).usage is not None


def test_a_connection_can_be_reset_hung_and_cut(client: groq.Groq, groq_url: str, misbehave: Misbehave) -> None:
    misbehave(groq_url, {"kind": "reset"}, {"kind": "truncate"}, {"kind": "hang", "seconds": 60})
    for _ in range(2):
        with pytest.raises(groq.APIConnectionError):
            ask(client)
    with pytest.raises(groq.APITimeoutError):
        ask(client.with_options(timeout=0.3))
    while httpx.get(f"{groq_url}/_control/faults", timeout=60).json():
        pass  # a busy machine may come to the request only after its client has given up
    assert ask(client)


def test_an_answer_can_drip_and_can_be_huge(groq_url: str, misbehave: Misbehave) -> None:
    url = f"{groq_url}/openai/v1/models"
    misbehave(groq_url, {"kind": "drip", "seconds": 0.05}, {"kind": "huge", "size": 2_000_000})
    with httpx.stream("GET", url, timeout=30) as dripping:
        assert [chunk for chunk, _ in zip(dripping.iter_raw(), range(5), strict=False)] == [b" "] * 5
    assert len(httpx.get(url, timeout=30).content) > 2_000_000


def test_faults_are_shown_counted_delayed_and_cleared(groq_url: str, misbehave: Misbehave) -> None:
    control, health = f"{groq_url}/_control/faults", f"{groq_url}/health"
    misbehave(groq_url, {"kind": "status", "status": 503, "times": None, "after": 1, "path": "/health"})
    assert [httpx.get(health, timeout=30).status_code for _ in range(3)] == [200, 503, 503]
    assert httpx.get(control, timeout=30).json()[0]["times"] is None
    assert httpx.delete(control, timeout=30).json() == []
    assert httpx.get(health, timeout=30).status_code == 200
    assert httpx.post(control, json=[{"kind": "explode"}], timeout=30).status_code == 400
