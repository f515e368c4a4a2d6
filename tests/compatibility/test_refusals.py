"""Every refusal is taken for what it is: whose it is, what is done next, and with the provider's own words."""

import json
import time
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from engine.domain.errors import StrategyFault
from engine.llm.groq_client import GroqClient
from engine.platform.errors import UpstreamUnavailable
from engine.platform.settings.settings import Settings
from tests.compatibility.conftest import KEY, PlayCycle
from tests.engine.deciding.cycle_world import LONG
from tests.engine.deciding.examples import a_context, a_strategy
from tests.support.servers.groq_double import error, ok, raw

HTML = b"<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head></html>"
TPM = "Request too large for model `m` on tokens per minute (TPM): Limit 8000, Requested 9313, please reduce its size"


class Case(NamedTuple):
    """`words` must be told. `requests` is how many are made in the cycle of a strategy that names no model; whose
    fault it is in the end, `blame` says: the provider's or the row's."""

    status: int
    body: object
    outcome: str
    words: str
    requests: int = 1
    blame: str = "provider"


def refused(status: int, code: str | None, message: str, **more: Any) -> tuple[int, object]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "code": code, **more}}


CASES: dict[str, Case] = {
    "a restricted organisation": Case(
        *refused(400, "organization_restricted", "Organization has been restricted."),
        "account_refused",
        "Organization has been restricted",
    ),
    "no money left": Case(*refused(402, None, "Insufficient balance"), "account_refused", "Insufficient balance"),
    "a quota that is used up": Case(
        *refused(429, "insufficient_quota", "You exceeded your current quota"),
        "account_refused",
        "exceeded your current quota",
    ),
    "forbidden without a reason": Case(403, {"error": {"message": "Forbidden"}}, "account_refused", "Forbidden"),
    "a network that is not let in": Case(
        403,
        {"error": {"message": "Access denied. Please check your network settings."}},
        "network_refused",
        "check your network settings",
    ),
    "a page of the network's": Case(403, HTML, "network_refused", "Attention Required! | Cloudflare"),
    "a page of a proxy's": Case(407, b"<html><title>Proxy login</title></html>", "network_refused", "Proxy login"),
    "a wrong key": Case(*refused(401, "invalid_api_key", "Invalid API Key"), "key_refused", "Invalid API Key"),
    "an expired key": Case(
        *refused(400, "expired_api_key", "The key has expired"), "key_refused", "The key has expired"
    ),
    "a tool that was called": Case(
        *refused(
            400, "tool_use_failed", "Tool choice is none, but model called a tool", failed_generation='{"name":"open"}'
        ),
        "unusable",
        "called a tool",
        2,
        "row",
    ),
    "output that was not parsed": Case(
        *refused(400, "output_parse_failed", "Parsing failed."), "unusable", "Parsing failed", 2, "row"
    ),
    "too large for a minute": Case(
        *refused(413, "rate_limit_exceeded", TPM), "exceeds_limit", "Limit 8000, Requested 9313"
    ),
    "too large for a minute, by its words": Case(
        413, {"error": {"message": TPM}}, "exceeds_limit", "tokens per minute"
    ),
    "too large at all": Case(
        *refused(413, "request_too_large", "Request Entity Too Large"),
        "too_large",
        "Request Entity Too Large",
        1,
        "row",
    ),
    "longer than the context": Case(
        *refused(400, "context_length_exceeded", "Please reduce the length of the messages"),
        "too_large",
        "reduce the length",
        1,
        "row",
    ),
    "an error inside a 200": Case(
        200, {"error": {"code": 429, "message": "upstream is busy"}}, "rate_limited", "upstream is busy", 3
    ),
    "an error inside a 200, as text": Case(
        200, {"error": {"code": "429", "message": "busy"}}, "rate_limited", "busy", 3
    ),
    "a wrong key inside a 200": Case(200, {"error": {"code": 401, "message": "No auth"}}, "key_refused", "No auth"),
    "words inside a 200": Case(
        200, {"error": "the engine is overloaded"}, "server_error", "the engine is overloaded", 3
    ),
    "error as text": Case(500, {"error": "the engine fell over"}, "server_error", "the engine fell over", 3),
    "detail as text": Case(503, {"detail": "warming up"}, "server_error", "warming up", 3),
    "detail as a list": Case(
        422, {"detail": [{"msg": "field required", "loc": ["body"]}]}, "unusable", "field required", 2, "row"
    ),
    "a message alone": Case(502, {"message": "no healthy upstream"}, "server_error", "no healthy upstream", 3),
    "plain text": Case(503, b"no healthy upstream", "server_error", "no healthy upstream", 3),
    "a list of errors": Case(
        503,
        [{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}],
        "server_error",
        "overloaded",
        3,
    ),
    "Gemini's words for a key": Case(
        400,
        {"error": {"message": "API key not valid. Please pass a valid API key."}},
        "key_refused",
        "API key not valid",
    ),
    "a quota that comes back": Case(
        429,
        {"error": {"message": "You exceeded your current quota. Please retry in 4.07s"}},
        "rate_limited",
        "retry in 4.07s",
        3,
    ),
    "an overloaded model": Case(
        400, {"error": {"message": "Model x is overloaded: capacity not available right now"}}, "rejected", "overloaded"
    ),
    "a page of a server's": Case(413, b"<html><title>413 Too Large</title></html>", "server_error", "413 Too Large", 3),
    "a field that the endpoint does not know": Case(
        422, {"detail": "extra fields not permitted: tool_choice"}, "rejected", "extra fields"
    ),
    "Cloudflare's number": Case(403, b"error code: 1020", "network_refused", "1020"),
    "an error inside a choice": Case(
        200,
        {"choices": [{"error": {"code": 429, "message": "Provider is busy"}, "finish_reason": "error"}]},
        "rate_limited",
        "Provider is busy",
        3,
    ),
    "an error of another shape": Case(
        200, {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "server_error", "login fail", 3
    ),
    "a message alone inside a 200": Case(200, {"code": 401, "message": "Unauthorized"}, "key_refused", "Unauthorized"),
    "nothing": Case(500, b"", "server_error", "500", 3),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_refusal_is_taken_for_what_it_is_with_the_providers_words(play: PlayCycle, case: Case) -> None:
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    cycle = play(raw(case.status, body))
    assert {call.outcome.value for call in cycle.outcome.calls} == {case.outcome}
    assert all(case.words in (call.reason or "") for call in cycle.outcome.calls)
    assert case.words in (cycle.outcome.reason or "")
    assert len(cycle.requests) == case.requests
    assert isinstance(cycle.outcome.failure, StrategyFault if case.blame == "row" else UpstreamUnavailable)
    if case.outcome not in ("unusable", "cut"):
        assert cycle.cost_usd == 0


NOT_FOR_THIS_ACCOUNT: dict[str, tuple[int, object]] = {
    "blocked by the organisation": refused(
        403, "model_permission_blocked_org", "The model `first` is blocked at the organization level."
    ),
    "blocked by the project": refused(
        403, "model_permission_blocked_project", "The model `first` is blocked at the project level."
    ),
    "terms not accepted": refused(400, "model_terms_required", "The model `first` requires terms acceptance."),
    "not active": refused(404, "model_not_active", "The model `first` is not active."),
    "blocked, by its words": (403, {"error": {"message": "The model `first` is blocked at the organization level."}}),
    "decommissioned, by its words": (400, {"error": {"message": "The model `first` has been decommissioned."}}),
    "not found inside a 200": (200, {"error": {"code": 404, "message": "model first not found"}}),
}


@pytest.mark.parametrize("refusal", NOT_FOR_THIS_ACCOUNT.values(), ids=NOT_FOR_THIS_ACCOUNT.keys())
def test_a_model_that_is_not_for_this_account_gives_way_to_the_next(
    play: PlayCycle, refusal: tuple[int, object]
) -> None:
    status, body = refusal
    cycle = play(raw(status, json.dumps(body).encode()), ok(LONG), groq_model=("first", "openai/gpt-oss-20b"))
    assert [request["model"] for request in cycle.requests] == ["first", "openai/gpt-oss-20b"]
    assert cycle.signals == ["BUY"]


@pytest.mark.parametrize(
    "refusal",
    [
        refused(400, "organization_restricted", "Organization has been restricted."),
        refused(413, None, TPM),
        (403, HTML),
    ],
)
def test_what_concerns_the_account_is_no_fault_of_a_row_that_names_its_model(
    play: PlayCycle, refusal: tuple[int, object]
) -> None:
    status, body = refusal
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    cycle = play(raw(status, content), context=a_context(a_strategy(model="openai/gpt-oss-20b")))
    assert isinstance(cycle.outcome.failure, UpstreamUnavailable)


def test_a_tool_call_is_ruled_out_and_repaired(play: PlayCycle) -> None:
    cycle = play(error(400, "tool_use_failed", message="model called a tool", failed_generation="{}"), ok(LONG))
    assert cycle.signals == ["BUY"]
    assert [request.get("tool_choice") for request in cycle.requests] == ["none", "none"]


@pytest.mark.parametrize("status", [401, 400, 403, 500, 200])
def test_the_providers_words_are_told_without_the_key_and_without_control_characters(
    play: PlayCycle, status: int
) -> None:
    message = f"Incorrect key {KEY}\x1b]0;owned\x07\x1b[31m\r\nsecond\u202eline \ud83d"
    cycle = play(raw(status, json.dumps({"error": {"message": message}}).encode()))
    told = [cycle.outcome.reason or "", *(call.reason or "" for call in cycle.outcome.calls)]
    assert all(KEY not in text and text.isprintable() and len(text) < 500 for text in told)
    assert all("Incorrect key" in text for text in told)


WAITS: dict[str, tuple[str, float]] = {
    "minutes": ("Please try again in 7m27.5s. Need more tokens? Upgrade", 447.5),
    "hours": ("Please try again in 1h2m3s.", 3_723.0),
    "milliseconds": ("Please try again in 579ms. Visit", 0.579),
    "many digits": ("Please try again in 50.597142857s. Visit", 50.597142857),
    "words": ("Rate limited, please retry after 20 seconds.", 20.0),
    "a word for minutes": ("Try again in 5 minutes", 300.0),
    "two words": ("Please try again in 1m 30s.", 90.0),
    "no preposition": ("Please wait 12s", 12.0),
}


@pytest.mark.parametrize(("text", "seconds"), WAITS.values(), ids=WAITS.keys())
def test_a_wait_that_stands_only_in_the_text_is_read(play: PlayCycle, text: str, seconds: float) -> None:
    message = f"Rate limit reached for model `m` on tokens per day (TPD): Limit 200000, Used 199900. {text}"
    cycle = play(error(429, "rate_limit_exceeded", message=message))
    assert cycle.outcome.calls[0].retry_after_s == pytest.approx(seconds)
    if seconds > 40:  # longer than the cycle may take
        assert len(cycle.requests) == 1


def test_a_wait_in_the_limits_headers_is_read_where_nothing_else_tells_it(play: PlayCycle) -> None:
    headers = {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "2m3s",
        "x-ratelimit-reset-requests": "9h",
    }
    assert play(error(429, "rate_limit_exceeded", headers)).outcome.calls[0].retry_after_s == 123.0


NOT_WHAT_THEY_SEEM: dict[str, str] = {
    "a key of a schema": "Invalid key 'minItems' in response_format schema",
    "a missing key": "missing key `messages`",
    "a parameter of the model": "model `openai/gpt-oss-120b`: parameter tool_choice is not supported",
    "a format of the model": "This model does not support response format `json_schema`.",
    "a parameter's bound": "`max_completion_tokens` must be less than the `context_window` for this model",
}


@pytest.mark.parametrize("message", NOT_WHAT_THEY_SEEM.values(), ids=NOT_WHAT_THEY_SEEM.keys())
def test_a_request_that_was_refused_is_no_refused_key_and_no_missing_model(play: PlayCycle, message: str) -> None:
    cycle = play(error(400, "invalid_request_error", message=message))
    assert [call.outcome.value for call in cycle.outcome.calls] == ["rejected"]


def test_words_that_are_nested_without_measure_are_read_to_some_depth(play: PlayCycle) -> None:
    body = '{"error":' * 400 + '"deep"' + "}" * 400
    assert {call.outcome.value for call in play(raw(500, body.encode())).outcome.calls} == {"server_error"}


@pytest.mark.parametrize(
    "charset", ["utf-16", "utf-32", "hex", "base64", "zlib", "undefined", "punycode", "\u00e9", ""]
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_no_codec_that_a_server_names_kills_a_strategy(play: PlayCycle, charset: str, status: int) -> None:
    headers = {"content-type": f"text/html; charset={charset}"}
    cycle = play(raw(status, b'{"error":{"message":"busy \xff"}}', headers))
    assert cycle.outcome.calls
    assert all("busy" in (call.reason or "") for call in cycle.outcome.calls)


@pytest.mark.parametrize("encoding", ["Identity", "none", "utf-8", ""])
def test_an_answer_that_is_not_packed_is_read_whatever_its_encoding_is_called(play: PlayCycle, encoding: str) -> None:
    assert play(ok(LONG, {"content-encoding": encoding})).signals == ["BUY"]


@pytest.mark.parametrize(
    "error_field", [{"code": 0, "message": "success"}, {"message": None, "code": None}, {}, "", None]
)
def test_an_error_that_is_none_beside_an_answer_is_none(play: PlayCycle, error_field: object) -> None:
    assert play(ok(LONG, error=error_field)).signals == ["BUY"]


def test_no_part_of_the_key_is_told_where_words_are_cut_or_come_by_another_way(play: PlayCycle) -> None:
    long_words = json.dumps({"error": {"message": "x" * 280 + f" key {KEY}"}}).encode()
    answers = [raw(500, long_words), ok(LONG, finish=f"no {KEY}"), ok(LONG, {"content-encoding": f"gzip {KEY}"})]
    for answer in answers:
        calls = play(answer).outcome.calls
        assert calls
        assert all(KEY[:12] not in (call.reason or "") and len(call.reason or "") <= 400 for call in calls)


def test_a_model_that_was_gone_is_asked_for_again_by_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    client = GroqClient(Settings(groq_api_key=SecretStr(KEY), groq_model=("a", "b")))
    now = time.monotonic()
    client.mark_unavailable("a", "404")
    assert client.select_model(None) == "b"
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert client.select_model(None) == "a"
    client.close()
