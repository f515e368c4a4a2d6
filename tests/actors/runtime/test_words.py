"""The runtime supervises processes of any product: its code and its words know nothing of trading."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = [ROOT / "supervisor.py", *sorted((ROOT / "actors" / "runtime").glob("*.py"))]
TRADING = re.compile(
    r"strateg(?:y|ies)|trad(?:e|es|ing|er)|market|venue|exchange|positions?|candles?|symbols?|prices?|permits?"
    r"|limiter|roster|dispatcher|outbox|webhook|llm|groq",
    re.IGNORECASE,
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_runtime_has_no_word_of_trading(file: Path) -> None:
    words = [word for word in re.split(r"[^a-zA-Z]+|(?<=[a-z])(?=[A-Z])", file.read_text()) if TRADING.fullmatch(word)]
    assert words == []
