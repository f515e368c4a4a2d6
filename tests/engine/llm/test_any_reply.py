"""Whatever a provider sends is read without an exception, within its bounds: properties over any JSON and any bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.completion import Usage
from engine.llm.llm_call import LlmOutcome
from engine.llm.models import FAMILIES, MAX_ANSWER_TOKENS, find_family
from engine.llm.provider_errors import classify, classify_error_in
from engine.llm.responses import read_completion, read_json, read_usage
from engine.llm.stated_limits import find_limit
from engine.llm.thoughts import MAX_TEXT, NoAnswer, check_surroundings, strip_thoughts
from engine.platform.http.retry_after import retry_after_in_text

MOST = Usage(prompt_tokens=1_500, completion_tokens=800)
LARGEST = Usage(prompt_tokens=9_000, completion_tokens=800)
WORDS = ("error", "errors", "message", "detail", "msg", "code", "type", "status", "choices", "content", "finish_reason")
USES = ("usage", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "failed_generation")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS + USES), inner, max_size=5),
    max_leaves=12,
)
bodies = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": values, "finish_reason": values}), max_size=2) | values},
    optional={"usage": values, "error": values, "detail": values},
)


@given(values | bodies)
def test_any_body_is_read_within_what_a_request_can_have_used(body: Any) -> None:
    reading = read_completion(body, MOST, LARGEST)
    if reading is not None:
        assert 0 <= reading.usage.cached_tokens <= reading.usage.prompt_tokens <= LARGEST.prompt_tokens
        assert 0 <= reading.usage.completion_tokens <= LARGEST.completion_tokens
        assert isinstance(reading.text, str)


@given(values)
def test_a_use_that_is_told_whole_is_taken_as_it_is_and_any_other_is_at_the_most(told: Any) -> None:
    usage, is_told = read_usage(told, MOST, LARGEST)
    if is_told:
        assert usage.prompt_tokens == told["prompt_tokens"]
        assert usage.completion_tokens >= told["completion_tokens"]
    else:
        assert MOST.prompt_tokens == usage.prompt_tokens or MOST.completion_tokens == usage.completion_tokens


@given(st.integers(300, 599), st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
def test_any_refusal_has_an_outcome_and_words_for_people(status: int, content: bytes) -> None:
    refusal = classify(status, content)
    assert refusal.outcome is not LlmOutcome.OK
    assert refusal.reason.isprintable()
    assert 3 <= len(refusal.reason) < 450


@given(values)
def test_any_body_of_a_success_tells_an_error_or_none(body: Any) -> None:
    found = classify_error_in(body)
    assert found is None or found.reason.isprintable()


@given(st.text(max_size=200) | st.from_regex(r"try again in [0-9dhms.]{1,30}( [a-z]{1,8})?", fullmatch=True))
def test_any_words_ask_for_a_wait_within_a_day_or_for_none(words: str) -> None:
    wait_s = retry_after_in_text(words)
    assert wait_s is None or 0 <= wait_s <= 86_400
    limit = find_limit(words)
    assert limit is None or limit.size is None or limit.size > 0


@pytest.mark.parametrize("content", [b"9" * 10_000, b'{"a":' * 5_000, b"\xff", b"", b"[" * 100_000, b'{"a": NaN}'])
def test_json_that_no_program_should_send_is_read_or_refused(content: bytes) -> None:
    read_json(content)


@given(st.text(max_size=400) | st.text(alphabet='<>|/[]{}"thinkanalysfc \u25c1\u25b7`\n', max_size=200))
def test_any_text_has_an_end_of_its_thoughts_or_none(text: str) -> None:
    try:
        rest = strip_thoughts(text)
        check_surroundings(rest, "")
    except NoAnswer:
        return
    assert rest in text


@pytest.mark.parametrize(
    "text",
    [
        piece * (MAX_TEXT // len(piece))
        for piece in (
            "<",
            "<a",
            "<think ",
            "</",
            "&lt;",
            "[think",
            "\u25c1",
            "```think",
            "<|channel|>",
            "assistantfinal",
        )
    ]
    + ["```think" + "a" * (MAX_TEXT - 8), "<think" + "a" * (MAX_TEXT - 6)],
)
def test_a_long_text_without_sense_takes_no_more_than_linear_work(text: str) -> None:
    """A quadratic search would take minutes here, and the test's own limit of time would end it."""
    for _ in range(3):
        try:
            check_surroundings(strip_thoughts(text), text)
        except NoAnswer:
            continue


@pytest.mark.parametrize(
    ("words", "name", "size"),
    [
        ("on tokens per day (TPD): Limit 200000, Used 199990, Requested 1500. Try again in 7m27.5s", "tpd", 200_000),
        ("on tokens per minute (TPM): Limit 8,000, Requested 9313", "tpm", 8_000),
        ("on requests per minute (RPM): Limit 30, Used 30", "rpm", 30),
        ("tokens per day: limit 1.5M", "tpd", None),
        ("tokens per day: limit 1 000 000", "tpd", None),
        ("tokens per day. No limit 7 days a week with Pro", "tpd", None),
        ("on tokens per minute: limit 3", "tpm", None),
        ("Crossed TPM / RPM / Max Parallel Request Limit. current rpm: 4, rpm limit: 3, tpm limit: 10000", "rpm", 3),
        ("requests per minute and tokens per day are used up", None, None),
        ("too many requests", None, None),
    ],
)
def test_a_limit_is_learned_only_where_its_size_stands_behind_its_name(
    words: str, name: str | None, size: int | None
) -> None:
    found = find_limit(words)
    assert (found.name if found else None, found.size if found else None) == (name, size)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please wait 1,200 seconds before retrying", 1_200.0),
        ("wait 10 hours 58 minutes before trying again", 39_480.0),
        ("try again in 2 hours and 5 minutes", 7_500.0),
        ("retry-after: 20", 20.0),
        ("available for 1000 requests", None),
        ("try again after 3 attempts", None),
        ("try again later", None),
    ],
)
def test_a_wait_is_read_only_where_it_is_one(words: str, seconds: float | None) -> None:
    assert retry_after_in_text(words) == seconds


def test_every_family_fits_into_the_largest_allowance() -> None:
    for family in FAMILIES:
        for effort in ("low", "medium", "high"):
            assert family.get_answer_allowance(effort) <= MAX_ANSWER_TOKENS
    assert find_family("openai/gpt-oss-safeguard-20b").takes_schema
    assert not find_family("my/gpt-ossified").takes_schema or find_family("my/gpt-ossified") is FAMILIES[0]
