"""Generated thoughts around generated answers: a draft inside a thought is never a decision, what follows it is one.

400 seeded texts in an ordinary run; ``make fuzz`` tries a fifth of ``FUZZ_CASES``.
"""

import json
import os
import random
from decimal import Decimal
from typing import Final

from engine.deciding.decision_parser import DecisionLimits, parse_decision
from engine.domain.decision import Action
from engine.risk.entry_rules import UNRESTRICTED

CASES: Final = int(os.environ.get("FUZZ_CASES", "2000")) // 5
SEED: Final = int(os.environ.get("FUZZ_SEED", "20261127"))
LIMITS: Final = DecisionLimits(
    target_assets=("BTCUSDT",), min_confidence=0.6, max_position_usd=Decimal(1000), rules=UNRESTRICTED
)
NAMES: Final = (
    "think",
    "thinking",
    "Thought",
    "reasoning",
    "REFLECTION",
    "scratchpad",
    "seed:think",
    "mm:think",
    "musing",
)
MARKS: Final = (
    *((f"<{name}>", f"</{name}>") for name in NAMES),
    *((f"\u25c1{name}\u25b7", f"\u25c1/{name}\u25b7") for name in NAMES[:3]),
    *((f"[{name.upper()}]", f"[/{name.upper()}]") for name in NAMES[:3]),
    *((f"<|begin_of_{name}|>", f"<|end_of_{name}|>") for name in NAMES[:3]),
    *((f"<|START_{name.upper()}|>", f"<|END_{name.upper()}|>") for name in NAMES[:2]),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("\uff1cthink\uff1e", "\uff1c/think\uff1e"),
)
PROSE: Final = (
    "RSI is 61.",
    "Hmm {x}",
    "price < 5 and > 3",
    "\n\n",
    "so: ",
    "I would",
    "\u4e0d",
    "```json",
    '"quoted"',
    "",
)


def decision(action: str, size_usd: int) -> str:
    return json.dumps(
        {
            "action": action,
            "symbol": "BTCUSDT",
            "size_usd": size_usd,
            "confidence": 0.9,
            "reasoning": "x",
            "stop_loss_percent": 2,
            "take_profit_percent": None,
        }
    )


def test_a_draft_in_a_thought_is_never_a_decision_and_what_follows_is() -> None:
    dice = random.Random(SEED)
    for number in range(CASES):
        before, after = dice.choice(MARKS)
        draft = decision("SHORT", 7)
        thought = dice.choice(PROSE) + draft * dice.choice((1, 1, 2)) + dice.choice(PROSE)
        is_ended, is_answered = dice.random() < 0.7, dice.random() < 0.6
        text = before + thought + (after if is_ended else "")
        if is_ended and is_answered:
            text += dice.choice(("", "\n", " ")) + decision("LONG", 9) + dice.choice(("", "\n", "<|im_end|>"))
        found = parse_decision(text, LIMITS)
        told = f"case {number} of seed {SEED}: {text!r} gave {found}"
        assert found.action is not Action.SHORT, told
        if is_ended and is_answered:
            assert (found.action, found.size_usd) == (Action.LONG, Decimal(9)), told
        else:
            assert found.is_fault, told
