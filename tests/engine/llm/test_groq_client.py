"""The Groq client: the real SDK against real sockets that answer well, badly, slowly or never."""

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from engine.domain.decision import SCHEMA
from engine.domain.errors import StrategyFault
from engine.domain.prompt import Prompt
from engine.llm.groq_client import SCHEMA_TOKENS, GroqClient
from engine.llm.llm_call import LlmCall, LlmOutcome
from engine.llm.prompt_tokens import estimate_tokens
from engine.llm.provider_errors import classify
from engine.llm.rate_limit_headers import parse_rate_limit_headers
from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.platform.settings.settings import Settings
from tests.support.servers.groq_double import (
    Answer,
    GroqDouble,
    completion,
    drip_body,
    drip_headers,
    endless,
    error,
    hang,
    ok,
    raw,
    reset,
    truncated,
)

MODEL = "openai/gpt-oss-120b"
PROMPT = Prompt("You decide.", "<market>\n{}\n</market>")
PATIENCE_S = 120.0


def settings(url: str, **changes: Any) -> Settings:
    return Settings(groq_api_key=SecretStr("gsk_test"), groq_base_url=url, **changes)


@pytest.fixture
def server() -> Iterator[GroqDouble]:
    with GroqDouble(ok("{}")) as running:
        yield running


def ask(server: GroqDouble, *answers: Answer, within_s: float = PATIENCE_S, model: str = MODEL) -> LlmCall:
    server.answers = list(answers)
    client = GroqClient(settings(server.url))
    try:
        return client.complete(PROMPT, model, time.monotonic() + within_s)
    finally:
        client.close()


def test_an_answer_comes_with_usage_cost_latency_and_the_announced_limits(server: GroqDouble) -> None:
    headers = {"x-request-id": "req_1", "x-ratelimit-limit-requests": "14400", "x-ratelimit-limit-tokens": "8000"}
    call = ask(server, ok('{"action": "HOLD"}', headers, prompt=1_000, cached=400, answer=100))
    assert call.outcome is LlmOutcome.OK
    assert call.completion is not None
    assert call.completion.text == '{"action": "HOLD"}'
    assert call.completion.request_id == "req_1"
    assert call.completion.cost_usd == (600 * Decimal("0.15") + 400 * Decimal("0.075") + 100 * Decimal("0.6")) / 10**6
    assert 0 < call.network_s <= call.latency_s
    assert call.tokens == 700
    assert (call.requests_per_day, call.tokens_per_minute) == (14_400, 8_000)
    assert server.paths == ["/openai/v1/chat/completions"]


def test_gpt_oss_is_held_to_the_strict_schema_and_told_its_effort(server: GroqDouble) -> None:
    ask(server, ok("{}"))
    (request,) = server.requests
    assert request["response_format"]["type"] == "json_schema"
    assert request["response_format"]["json_schema"] == {"name": "decision", "strict": True, "schema": SCHEMA}
    assert (request["temperature"], request["max_completion_tokens"], request["reasoning_effort"]) == (0.2, 800, "low")
    assert [message["role"] for message in request["messages"]] == ["system", "user"]


def test_other_models_get_json_mode_and_no_effort(server: GroqDouble) -> None:
    ask(server, ok("{}"), model="meta-llama/llama-4-maverick")
    (request,) = server.requests
    assert request["response_format"] == {"type": "json_object"}
    assert request["max_completion_tokens"] == 400
    assert "reasoning_effort" not in request
    assert "tool_choice" not in request


@pytest.mark.parametrize(
    ("answer", "outcome", "repeat"),
    [
        (error(400, "invalid_request_error"), LlmOutcome.REJECTED, False),
        (error(400, "model_decommissioned"), LlmOutcome.MODEL_GONE, False),
        (error(401, "invalid_api_key"), LlmOutcome.KEY_REFUSED, False),
        (error(403), LlmOutcome.ACCOUNT_REFUSED, False),
        (error(404, "model_not_found"), LlmOutcome.MODEL_GONE, False),
        (error(404), LlmOutcome.SERVER_ERROR, True),
        (error(413), LlmOutcome.TOO_LARGE, False),
        (error(422), LlmOutcome.UNUSABLE, False),
        (error(424), LlmOutcome.SERVER_ERROR, True),
        (error(429), LlmOutcome.RATE_LIMITED, True),
        (error(498), LlmOutcome.SERVER_ERROR, True),
        (error(499), LlmOutcome.SERVER_ERROR, True),
        (error(500), LlmOutcome.SERVER_ERROR, True),
        (error(502), LlmOutcome.SERVER_ERROR, True),
        (raw(503, b"<html>busy</html>", {"content-type": "text/html"}), LlmOutcome.SERVER_ERROR, True),
        (raw(302, b"", {"location": "http://127.0.0.1:1/"}), LlmOutcome.SERVER_ERROR, True),
        (raw(200, b"<html>hello</html>", {"content-type": "text/html"}), LlmOutcome.SERVER_ERROR, True),
        (raw(200, b'{"choices": []}'), LlmOutcome.SERVER_ERROR, True),
        (raw(200, b"null"), LlmOutcome.SERVER_ERROR, True),
        (raw(200, b"\xff\xfe"), LlmOutcome.SERVER_ERROR, True),
        (truncated, LlmOutcome.UNREACHABLE, True),
        (reset, LlmOutcome.UNREACHABLE, True),
    ],
)
def test_every_end_has_its_word_and_is_asked_for_once(
    server: GroqDouble, answer: Answer, outcome: LlmOutcome, *, repeat: bool
) -> None:
    call = ask(server, answer)
    assert call.outcome is outcome
    assert call.is_retryable is repeat
    assert call.completion is None
    assert call.reason
    assert "gsk_test" not in repr(call)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("wish", "seconds"), [("2", 2.0), ("120", 120.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("garbage", None)]
)
def test_a_429_tells_how_long_to_wait(server: GroqDouble, wish: str, seconds: float | None) -> None:
    call = ask(server, error(429, "rate_limit_exceeded", {"retry-after": wish}))
    assert (call.outcome, call.retry_after_s, call.tokens) == (LlmOutcome.RATE_LIMITED, seconds, 0)


def test_what_the_provider_itself_found_unusable_is_kept(server: GroqDouble) -> None:
    call = ask(server, error(400, "json_validate_failed", failed_generation="I would buy"))
    assert (call.outcome, call.rejected_text) == (LlmOutcome.UNUSABLE, "I would buy")


@pytest.mark.parametrize("answer", [truncated, error(422), error(400, "json_validate_failed", failed_generation="{")])
def test_an_answer_of_unknown_use_counts_with_the_most_it_may_have_cost(server: GroqDouble, answer: Answer) -> None:
    most = (estimate_tokens(PROMPT) + SCHEMA_TOKENS) * Decimal("0.15") + 800 * Decimal("0.6")
    assert ask(server, answer).cost_usd == most / 10**6


@pytest.mark.parametrize("answer", [error(401), error(429), error(500), error(503)])
def test_a_refusal_costs_nothing(server: GroqDouble, answer: Answer) -> None:
    assert ask(server, answer).cost_usd == 0


def test_an_answer_without_content_is_an_empty_text(server: GroqDouble) -> None:
    call = ask(server, ok(None))
    assert call.completion is not None
    assert call.completion.text == ""


@pytest.mark.parametrize("answer", [hang, drip_body, drip_headers])
def test_no_server_can_outlast_the_deadline(server: GroqDouble, answer: Answer) -> None:
    """The connection is open already, so the request leaves however little of the deadline a busy machine left."""
    server.answers = [ok("{}"), answer]
    client = GroqClient(settings(server.url))
    assert client.complete(PROMPT, MODEL, time.monotonic() + PATIENCE_S).outcome is LlmOutcome.OK
    start = time.monotonic()
    call = client.complete(PROMPT, MODEL, start + 1.5)
    client.close()
    assert call.outcome is LlmOutcome.TIMEOUT
    assert call.sent
    assert call.tokens is None
    assert 1.5 <= call.latency_s < PATIENCE_S


@pytest.mark.parametrize(
    "answer",
    [endless, raw(200, json.dumps(completion("x" * 2_000_000)).encode())],
)
def test_an_answer_without_measure_is_cut_off(server: GroqDouble, answer: Answer) -> None:
    call = ask(server, answer)
    assert call.outcome is LlmOutcome.SERVER_ERROR
    assert "bytes" in (call.reason or "")


def test_a_compressed_answer_is_refused_before_it_is_unpacked(server: GroqDouble) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    call = ask(server, raw(200, bomb, {"content-encoding": "gzip"}))
    assert call.outcome is LlmOutcome.UNREACHABLE
    assert "gzip" in (call.reason or "")


def test_nobody_listening_means_that_nothing_was_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = GroqClient(settings(f"http://127.0.0.1:{taken.getsockname()[1]}"))
        call = client.complete(PROMPT, MODEL, time.monotonic() + PATIENCE_S)
        client.close()
    assert (call.outcome, call.sent) == (LlmOutcome.UNREACHABLE, False)


def test_a_deadline_that_has_passed_sends_nothing(server: GroqDouble) -> None:
    call = ask(server, ok("{}"), within_s=-1)
    assert call.outcome in (LlmOutcome.TIMEOUT, LlmOutcome.UNREACHABLE)
    assert not call.sent
    assert server.requests == []


def test_the_client_recovers_on_the_same_object_after_any_trouble(server: GroqDouble) -> None:
    server.answers = [reset, truncated, error(500), ok("fine")]
    client = GroqClient(settings(server.url))
    outcomes = [client.complete(PROMPT, MODEL, time.monotonic() + PATIENCE_S).outcome for _ in range(4)]
    client.close()
    assert outcomes[-1] is LlmOutcome.OK


def test_the_next_model_is_chosen_when_one_is_gone_and_all_are_tried_again_later() -> None:
    client = GroqClient(settings("http://127.0.0.1:1", groq_model=("a", "b")))
    assert client.select_model(None) == "a"
    client.mark_unavailable("a", "404")
    assert client.select_model(None) == "b"
    client.mark_unavailable("b", "400 decommissioned")
    with pytest.raises(UpstreamUnavailable, match=r"no model of GROQ_MODEL is available.*404; 400 decommissioned"):
        client.select_model(None)
    assert client.select_model(None) == "a"
    client.close()


def test_a_rows_own_model_has_no_stand_in() -> None:
    client = GroqClient(settings("http://127.0.0.1:1", groq_model=("a",)))
    assert client.select_model("mine") == "mine"
    client.mark_unavailable("mine", "404")
    with pytest.raises(StrategyFault, match="the row's model mine is not available"):
        client.select_model("mine")
    assert client.select_model(None) == "a"
    client.close()


def test_no_key_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        GroqClient(Settings())


@pytest.mark.parametrize(
    "body", [None, "text", [], {"error": "text"}, {"error": {"message": None}}, {"error": {"code": 5}}]
)
def test_error_bodies_of_any_shape_are_read(body: object) -> None:
    assert classify(500, json.dumps(body).encode()).outcome is LlmOutcome.SERVER_ERROR


@pytest.mark.parametrize("value", ["", "0", "-1", "many", "1.5", "9" * 400, "\uff11"])
def test_announced_limits_that_make_no_sense_are_ignored(value: str) -> None:
    told = parse_rate_limit_headers(
        {"x-ratelimit-limit-requests": value, "retry-after": value}, None, datetime.now(UTC)
    )
    assert told["requests_per_day"] is None


def test_importing_what_a_strategy_needs_starts_no_thread_and_opens_no_socket() -> None:
    """Children are forked from a process that has imported all of it."""
    program = (
        "import os, threading, actors.strategy, engine.llm\n"
        "links = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 2\n"
        "         and os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "print(threading.active_count(), [link for link in links if link.startswith('socket')])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert ran.stdout.strip() == "1 []"
