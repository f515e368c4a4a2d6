"""What the model is asked: one prompt per risk profile, bounded, with nothing in it that could loosen a limit."""

from engine.prompts.build import Prompt, build, estimate_tokens, market_block

__all__ = ["Prompt", "build", "estimate_tokens", "market_block"]
