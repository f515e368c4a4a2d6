"""The parser on generated and mutated answers: it never raises, never leaves its bounds and never guesses.

2,000 seeded answers in an ordinary run. ``make fuzz`` tries ``FUZZ_CASES`` of them (100,000), from ``FUZZ_SEED``.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from engine.deciding.decision_parser import DecisionLimits, parse_decision
from engine.domain.decision import Action, Decision
from engine.platform.plain_text import sanitize_for_storage
from engine.risk.entry_rules import UNRESTRICTED

CASES: Final = int(os.environ.get("FUZZ_CASES", "2000"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "20261121"))
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT")
LIMITS: Final = DecisionLimits(
    target_assets=SYMBOLS, min_confidence=0.6, max_position_usd=Decimal(1000), rules=UNRESTRICTED
)
FIELDS: Final = ("action", "symbol", "size_usd", "confidence", "reasoning", "stop_loss_percent", "take_profit_percent")
NASTY_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -0.0, 1, -1, 0.5, 1.0000001, 59, 100, 1e-300, 1e300, 10**40, float("nan"), float("inf")),
    *("", "LONG", "long", "HOLD ", "BTCUSDT", "btcusdt", "DOGEUSDT", "1,000", "250", "\uff2c\uff2f\uff2e\uff27", "\0"),
    *([], {}, ["LONG"], {"LONG": 1}, "x" * 300, "\ud83d", "NaN", "null"),
)
FRAGMENTS: Final = (
    *(
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
        ":",
        "\n",
        "\0",
        "\ufeff",
        "\u2028",
        "\uff0c",
        "\u201c",
        "```json\n",
        "\n```",
    ),
    *("NaN", "-Infinity", "1e999", "1,000", "0x1F", "+5", "007", ".5", "5.", "// no", "/*", "null", "true", "\ud800"),
    *('"action":"SHORT",', '"symbol":"ETHUSDT",', '"size_usd":1e9,', "{}", "[[", "Sure! ", "</market>", "\uff11\uff12"),
)
Mutation = Callable[[random.Random, str], str]


def test_no_answer_raises_leaves_the_bounds_or_is_guessed_from() -> None:
    dice, seen = random.Random(SEED), Counter[str]()
    for number in range(CASES):
        text = answer(dice)
        try:
            decision = parse_decision(text, LIMITS)
            check(text, decision)
        except Exception as error:
            raise AssertionError(f"case {number} of seed {SEED}: {text[:2_000]!r}") from error
        seen["fault" if decision.is_fault else decision.action] += 1
    # A fuzzer that never gets through, or never is refused, would prove nothing.
    assert all(seen[kind] > CASES / 100 for kind in ("fault", *Action)), seen


def answer(dice: random.Random) -> str:
    """A fair answer, an unfair one, or either with up to four things done to its text."""
    fields = fair(dice)
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
        unfair(dice, fields)
    text = json.dumps(fields, ensure_ascii=dice.random() < 0.7, indent=dice.choice((None, None, 2)))
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2, 4))):
        text = dice.choice(MUTATIONS)(dice, text)
    return text


def fair(dice: random.Random) -> dict[str, Any]:
    action = dice.choice(list(Action))
    entry = action in (Action.LONG, Action.SHORT)
    fields = {
        "action": action.value,
        "symbol": None if action is Action.HOLD and dice.random() < 0.5 else dice.choice(SYMBOLS),
        "size_usd": dice.choice((dice.uniform(0, 2_000), 0, 5_000)) if entry else 0,
        "confidence": round(dice.uniform(0.4, 1), dice.choice((1, 2, 17))),
        "reasoning": dice.choice(("trend is up", "x" * 150, "\u4e16\u754c", "")),
        "stop_loss_percent": dice.choice((None, 1.5, dice.uniform(0, 100))),
        "take_profit_percent": dice.choice((None, 3, dice.uniform(0, 100))),
    }
    keys = dice.sample(list(fields), len(fields)) if dice.random() < 0.3 else list(fields)
    return {key: fields[key] for key in keys}


def unfair(dice: random.Random, fields: dict[str, Any]) -> None:
    name = dice.choice(FIELDS)
    kind = dice.randrange(4)
    if kind == 0:
        fields.pop(name, None)
    elif kind == 1:
        fields[dice.choice(("leverage", "Action", "side", "decision"))] = dice.choice(NASTY_VALUES)
    else:
        fields[name] = dice.choice(NASTY_VALUES)


def flip(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + chr(dice.choice((dice.randrange(128), dice.randrange(0x11000)))) + text[at + 1 :]


def cut(dice: random.Random, text: str) -> str:
    start = dice.randrange(len(text) + 1)
    return text[:start] + text[start + dice.randrange(20) :]


def truncate(dice: random.Random, text: str) -> str:
    return text[: dice.randrange(len(text) + 1)]


def insert(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(FRAGMENTS) + text[at:]


def repeat(dice: random.Random, text: str) -> str:
    start = dice.randrange(len(text) + 1)
    end = min(len(text), start + dice.randrange(40))
    return text[:end] + text[start:end] * dice.choice((1, 1, 2, 50)) + text[end:]


def wrap(dice: random.Random, text: str) -> str:
    before, after = dice.choice(
        (("```json\n", "\n```"), ("Here it is:\n", "\nGood luck!"), ("[", "]"), ('{"decision":', "}"), ("  ", "\n\n"))
    )
    return before + text + after


def widen(dice: random.Random, text: str) -> str:
    """Some characters in their full-width form."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and dice.random() < 0.05 else c for c in text)


def enlarge(dice: random.Random, text: str) -> str:
    return text.replace("0", "0" * dice.choice((2, 30, 400)), 1)


def twice(dice: random.Random, text: str) -> str:
    return text + dice.choice(("", "\n", ",")) + text


MUTATIONS: Final[tuple[Mutation, ...]] = (flip, cut, truncate, insert, repeat, wrap, widen, enlarge, twice)


def check(text: str, decision: Decision) -> None:
    """The bounds, whatever was said; and for what was usable, that it was said exactly so."""
    is_entry = decision.action in (Action.LONG, Action.SHORT)
    assert decision.symbol in (*SYMBOLS, None)
    assert 0 <= decision.size_usd <= LIMITS.max_position_usd
    assert 0 <= decision.confidence <= 1
    assert len(decision.reasoning) <= 100
    for percent in (decision.stop_loss_percent, decision.take_profit_percent):
        assert percent is None or 0 < percent < 100
    if is_entry:
        assert decision.symbol is not None
        assert decision.size_usd > 0
        assert decision.size_usd == round(decision.size_usd, 2)
        assert decision.confidence >= LIMITS.min_confidence
    else:
        assert decision.size_usd == 0
    if decision.is_fault:
        assert (decision.action, decision.symbol, decision.confidence) == (Action.HOLD, None, 0.0)
        assert decision.reason
        return
    said = json.loads(text[text.index("{") : text.rindex("}") + 1], parse_float=Decimal, parse_int=Decimal)
    assert decision.action.value == said["action"] or (decision.action is Action.HOLD and decision.reason)
    assert decision.symbol == said["symbol"]
    if said["action"] in ("CLOSE", "HOLD"):  # what has no effect on them is not looked at
        assert decision.confidence == 0.0 or decision.confidence == float(said["confidence"])
        assert (decision.stop_loss_percent, decision.take_profit_percent) == (None, None)
        return
    assert decision.confidence == float(said["confidence"])
    assert decision.size_usd <= said["size_usd"]
    assert decision.reasoning == sanitize_for_storage(said["reasoning"])[:100]
    decision.model_dump_json()
