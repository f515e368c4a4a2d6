"""What the model is asked: one prompt per risk profile, bounded, with nothing in it that could loosen a limit."""

from engine.prompts.build import (
    MORE_TOKENS_PER_SYMBOL,
    MOST_TOKENS,
    Prompt,
    View,
    asked_again,
    build,
    estimate_tokens,
    fingerprint,
    market_block,
    shown_notes,
)

__all__ = [
    "MORE_TOKENS_PER_SYMBOL",
    "MOST_TOKENS",
    "Prompt",
    "View",
    "asked_again",
    "build",
    "estimate_tokens",
    "fingerprint",
    "market_block",
    "shown_notes",
]
