"""A model that is gone: news once, asked for once a minute, and forgotten when it is served again."""

from engine.llm.model_availability import PROBE_INTERVAL_S, Availability


def test_only_the_first_refusal_is_news_until_the_model_is_served_again() -> None:
    models = Availability()
    assert models.find_unavailable_reason("a", 0.0) is None
    assert models.mark_unavailable("a", "404", 0.0)
    assert not models.mark_unavailable("a", "404", 1.0)
    assert models.mark_available("a")
    assert not models.mark_available("a")
    assert models.get_last_reason("a") is None
    assert models.mark_unavailable("a", "404", 2.0)


def test_one_asker_a_minute_finds_out_whether_it_is_back() -> None:
    models = Availability()
    models.mark_unavailable("a", "404", 0.0)
    assert models.find_unavailable_reason("a", PROBE_INTERVAL_S - 1) == "404"
    assert models.find_unavailable_reason("a", PROBE_INTERVAL_S) is None
    assert models.find_unavailable_reason("a", PROBE_INTERVAL_S) == "404"
    assert models.get_last_reason("a") == "404"
    assert models.find_unavailable_reason("b", PROBE_INTERVAL_S) is None
