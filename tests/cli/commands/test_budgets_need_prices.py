"""A budget that cannot be kept is refused when it is made, not at the strategy's first cycle."""

import pytest

from tests.cli.conftest import Sparky


@pytest.mark.parametrize("more", [("--model", "qwen/qwen3.6-27b"), ("--model", "qwen/qwen3.6-27b", "--start")])
def test_a_budget_for_a_model_without_a_price_is_refused(sparky: Sparky, more: tuple[str, ...]) -> None:
    told = sparky.refused("strategy", "create", "--name", "a", "--budget", "1", *more, code=78)
    assert "qwen/qwen3.6-27b" in told
    assert "SPARKY_LLM_PRICES" in told
    assert sparky.json("strategy", "list") == []


def test_every_model_that_the_settings_name_may_be_asked_and_so_needs_a_price(sparky: Sparky) -> None:
    sparky.environment["GROQ_MODEL"] = "openai/gpt-oss-120b,other/model"
    assert "other/model" in sparky.refused("strategy", "create", "--name", "a", "--budget", "1", code=78)
    sparky.ok("strategy", "create", "--name", "b", "--budget", "1", "--model", "openai/gpt-oss-20b")
    sparky.ok("strategy", "create", "--name", "c")


def test_a_row_that_was_made_elsewhere_is_refused_when_it_is_started(sparky: Sparky) -> None:
    sparky.environment["SPARKY_LLM_PRICES"] = '{"my/model": {"input": 1, "cached_input": 1, "output": 1}}'
    sparky.ok("strategy", "create", "--name", "a", "--budget", "1", "--model", "my/model")
    sparky.environment["SPARKY_LLM_PRICES"] = ""
    assert "my/model" in sparky.refused("strategy", "start", "a", code=78)
    assert sparky.json("strategy", "show", "a")["status"] == "paused"
