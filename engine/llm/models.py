"""The table of model families: how to request a reasoning effort, the reasoning's allowance, and JSON output.

A family is found by the model's name, with or without its vendor: ``openai/gpt-oss-120b``, ``gpt-oss:20b`` and
``GPT-OSS-120B`` are one. Sources: Groq's pages on reasoning and on structured outputs (2026).
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from engine.platform.settings.setting_types import Effort

ANSWER_TOKENS: Final = 400  # a decision takes about 100
MAX_ANSWER_TOKENS: Final = 8_192  # reasoning included, after raises; Groq allows twice as many for every family


class Reasoning(NamedTuple):
    """The `reasoning_effort` to send for one of our efforts (None: do not send it), and the tokens for reasoning."""

    effort: str | None
    tokens: int


class Family(NamedTuple):
    """`takes_schema`: the API enforces a JSON schema during generation; for other families it enforces JSON alone.

    `has_digit_tokens`: its vocabulary has one token for each digit. `calls_tools_unasked`: it calls tools that it was
    never given unless `tool_choice` is "none", a field that servers of other families refuse without tools.
    """

    name: re.Pattern[str]
    takes_schema: bool
    reasoning: Mapping[Effort, Reasoning]
    has_digit_tokens: bool = False
    calls_tools_unasked: bool = False

    def get_answer_allowance(self, effort: Effort) -> int:
        """The most tokens that an answer may have at first, its reasoning included."""
        return ANSWER_TOKENS + self.reasoning[effort].tokens


def _compile_name_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|[/.]){pattern}", re.IGNORECASE)


_ALWAYS_REASONING_TOKENS: Final = {"low": 1_200, "medium": 2_400, "high": 4_000}
FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        _compile_name_pattern(r"gpt-oss"),
        takes_schema=True,
        reasoning={
            "low": Reasoning("low", 400),
            "medium": Reasoning("medium", 1_200),
            "high": Reasoning("high", 4_000),
        },
        calls_tools_unasked=True,
    ),
    Family(  # always reason, with no setting for the effort
        _compile_name_pattern(
            r"(?:qwq|deepseek-(?:r\d|reasoner|v3\.[1-9])|magistral|qwen-qwq|minimax-m\d|glm-?[45]|kimi-k2-thinking|gpt-5|o[134]\b"
            r"|gemini-[23]\S*pro|grok-[3-9]|phi-?4\S*reasoning|qwen-?3\S*thinking)"
        ),
        takes_schema=False,
        reasoning={
            "low": Reasoning(None, _ALWAYS_REASONING_TOKENS["low"]),
            "medium": Reasoning(None, _ALWAYS_REASONING_TOKENS["medium"]),
            "high": Reasoning(None, _ALWAYS_REASONING_TOKENS["high"]),
        },
    ),
    Family(  # reasoning is on or off, without degrees, and on by default
        _compile_name_pattern(r"qwen-?3"),
        takes_schema=False,
        reasoning={
            "low": Reasoning("none", 0),
            "medium": Reasoning("default", 4_000),
            "high": Reasoning("default", 6_000),
        },
        has_digit_tokens=True,
    ),
)
_NOT_REASONING: Final = Family(
    re.compile(""),
    takes_schema=False,
    reasoning={"low": Reasoning(None, 0), "medium": Reasoning(None, 0), "high": Reasoning(None, 0)},
)


def find_family(model: str) -> Family:
    """The first family that matches `model`; an unknown model counts as one without reasoning."""
    return next((family for family in FAMILIES if family.name.search(model)), _NOT_REASONING)
