"""Limits that the provider has stated, in headers and in the words of refusals, and how long they are believed."""

from pathlib import Path

from engine.domain.completion import KnownLimit
from engine.ratelimit.provider_limits import REFUSED_LIMIT_TTL_S, ProviderLimitsFile

MODEL = "openai/gpt-oss-120b"


def test_what_only_a_refusal_told_is_known_to_the_next_process_and_forgotten_after_a_day(tmp_path: Path) -> None:
    limits = ProviderLimitsFile(tmp_path)
    limits.update(MODEL, 1_000, 8_000, KnownLimit(name="tpd", size=200_000))
    known = ProviderLimitsFile(tmp_path).load()[MODEL]
    told_at = known.from_refusals["tpd"].at
    assert known.get_sizes(told_at + REFUSED_LIMIT_TTL_S - 1) == {"rpd": 1_000, "tpm": 8_000, "tpd": 200_000}
    assert known.get_sizes(told_at + REFUSED_LIMIT_TTL_S) == {"rpd": 1_000, "tpm": 8_000}


def test_a_header_is_newer_than_the_words_of_a_refusal(tmp_path: Path) -> None:
    limits = ProviderLimitsFile(tmp_path)
    limits.update(MODEL, None, None, KnownLimit(name="tpm", size=8_000))
    limits.update(MODEL, None, None, KnownLimit(name="rpm", size=30))
    assert limits.get(MODEL).get_sizes(limits.get(MODEL).from_refusals["tpm"].at)["tpm"] == 8_000
    limits.update(MODEL, None, 250_000)
    assert limits.get(MODEL).get_sizes(limits.get(MODEL).from_refusals["rpm"].at) == {
        "rpd": None,
        "tpm": 250_000,
        "rpm": 30,
    }


def test_a_refusal_that_names_a_limit_without_its_size_teaches_nothing(tmp_path: Path) -> None:
    limits = ProviderLimitsFile(tmp_path)
    limits.update(MODEL, None, None, KnownLimit(name="tpd"))
    assert limits.load() == {}


def test_the_same_refusal_again_and_again_is_not_written_each_time(tmp_path: Path) -> None:
    limits = ProviderLimitsFile(tmp_path)
    limits.update(MODEL, None, None, KnownLimit(name="tpd", size=200_000))
    path = tmp_path / "state" / "limits.json"
    path.unlink()
    limits.update(MODEL, None, None, KnownLimit(name="tpd", size=200_000))
    assert not path.exists()
