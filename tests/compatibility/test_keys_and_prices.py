"""Keys, addresses and prices that cannot be right: said before anything starts, never at the first cycle."""

import json
from decimal import Decimal

import pytest

from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings, read_environment

KEY = "gsk_0123456789abcdefABCDEF"
BROKEN_KEYS: dict[str, str] = {
    "a zero-width space inside": f"{KEY[:8]}\u200b{KEY[8:]}",
    "a zero-width space before it": f"\u200b{KEY}",
    "a byte-order mark": f"\ufeff{KEY}",
    "a no-break space": f"{KEY}\u00a0x",
    "an inner space": f"{KEY[:8]} {KEY[8:]}",
    "an inner line break": f"{KEY[:8]}\n{KEY[8:]}",
    "quotes": f'"{KEY}"',
    "single quotes": f"'{KEY}'",
    "typographic quotes": f"\u201c{KEY}\u201d",
    "a scheme": f"Bearer {KEY}",
    "a scheme without a space": f"Bearer:{KEY}",
    "its own name": f"GROQ_API_KEY={KEY}",
    "a full-width letter": f"{KEY}\uff21",
    "a control character": f"{KEY}\x07",
}


@pytest.mark.parametrize("key", BROKEN_KEYS.values(), ids=BROKEN_KEYS.keys())
@pytest.mark.parametrize("name", ["GROQ_API_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SPARKY_ADMIN_TOKEN"])
def test_what_cannot_be_a_key_is_refused_by_name_and_never_shown(name: str, key: str) -> None:
    given = {name: key} | ({"SUPABASE_URL": "https://x.supabase.co"} if name.startswith("SUPABASE") else {})
    with pytest.raises(ConfigurationError) as refused:
        read_environment(given)
    told = str(refused.value)
    assert name in told
    assert KEY not in told
    assert KEY[8:] not in told
    assert told.replace("\n", "").isprintable()


def test_spaces_around_a_key_are_of_no_consequence() -> None:
    key = read_environment({"GROQ_API_KEY": f"  {KEY}\n"}).groq_api_key
    assert key is not None
    assert key.get_secret_value() == KEY


@pytest.mark.parametrize(
    "given",
    [
        {"GROQ_BASE_URL": "https://api.groq.com/openai/v1"},
        {"GROQ_BASE_URL": "https://api.groq.com/openai/v1/chat/completions"},
        {"GROQ_BASE_URL": "https://api.gro\u200bq.com"},
        {"GROQ_BASE_URL": "https://api.groq.com /x"},
        {"GROQ_BASE_URL": "http://localhost:11434/v1"},
        {"GROQ_BASE_URL": "https://host:abc"},
        {"GROQ_BASE_URL": "https://"},
        {"GROQ_BASE_URL": "http://[::1"},
        {"GROQ_BASE_URL": "https://a.example,https://b.example"},
        {"GROQ_BASE_URL": '"https://api.groq.com"'},
        {"SPARKY_LLM_PRICES": "[" * 5_000},
        {"GROQ_API_KEY": "${GROQ_API_KEY}"},
        {"GROQ_API_KEY": "<your-key>"},
        {"GROQ_MODEL": "openai/gpt\u200b-oss-120b"},
        {"GROQ_MODEL": '"openai/gpt-oss-120b"'},
    ],
)
def test_an_address_or_a_model_that_cannot_be_one_is_refused_by_name(given: dict[str, str]) -> None:
    (name,) = given
    with pytest.raises(ConfigurationError, match=name):
        read_environment(given)


@pytest.mark.parametrize(
    "model", ["gpt-oss:20b", "hf.co/x/y:Q4_K_M", "@cf/openai/gpt-oss-120b", "/models/Qwen3-8B", "./models/7B.gguf"]
)
def test_names_that_other_endpoints_use_are_taken(model: str) -> None:
    assert read_environment({"GROQ_MODEL": model}).groq_model == (model,)


@pytest.mark.parametrize("url", ["HTTPS://api.groq.com", "http://[::1]:8000", "https://api.cloudflare.com/client/v4/x"])
def test_addresses_of_other_endpoints_are_taken(url: str) -> None:
    assert read_environment({"GROQ_BASE_URL": url}).groq_base_url == url


def test_cached_tokens_without_a_price_cost_as_much_as_others() -> None:
    settings = read_environment({"SPARKY_LLM_PRICES": '{"Acme/New-1": {"input": 1, "output": 2}}'})
    assert settings.sparky_llm_prices["Acme/New-1"].cached_input == 1
    with pytest.raises(ConfigurationError, match=r"SPARKY_LLM_PRICES\.Acme/New-1\.output"):
        read_environment({"SPARKY_LLM_PRICES": '{"Acme/New-1": {"input": 1}}'})


def test_a_price_for_one_more_model_keeps_all_others() -> None:
    price = {"input": 0.29, "cached_input": 0.29, "output": 0.59}
    settings = read_environment({"SPARKY_LLM_PRICES": json.dumps({"qwen/qwen3.6-27b": price})})
    assert set(settings.sparky_llm_prices) == {"openai/gpt-oss-120b", "openai/gpt-oss-20b", "qwen/qwen3.6-27b"}
    assert settings.sparky_llm_prices["openai/gpt-oss-120b"].output == Decimal("0.60")
    again = Settings.from_child_json(settings.to_child_json())
    assert again.sparky_llm_prices == settings.sparky_llm_prices


def test_a_price_of_ones_own_takes_the_place_of_the_built_in_one() -> None:
    price = {"input": 1, "cached_input": 1, "output": 2}
    settings = read_environment({"SPARKY_LLM_PRICES": json.dumps({"openai/gpt-oss-20b": price})})
    assert settings.sparky_llm_prices["openai/gpt-oss-20b"].output == 2
