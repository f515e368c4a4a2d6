"""Puts a prompt together: the profile's static text, the owner's notes as untrusted text, and last the market block."""

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from engine.decision import clean
from engine.prompts.profiles import SYSTEM
from engine.types import MarketSnapshot, Position, StrategyContext

LONGEST_NOTES: Final = 4_000  # characters, as many as the column holds: about 1,000 tokens
_SIGNIFICANT_DIGITS: Final = 8
# How tokenizers of this family cut: a word with its space, up to three digits, punctuation by ones and twos, spaces by
# fours; what is not ASCII by bytes at worst.
_PIECES: Final = re.compile(r" ?_?[A-Za-z]{1,8}| ?[0-9]{1,3}|\n+| ?[!-/:-@\[-`{-~]{1,2}| {1,4}|[\x00-\x1f\x7f]")


class Prompt(NamedTuple):
    """`system` is the same bytes in every cycle of a profile; `user` ends with the market block."""

    system: str
    user: str


def build(context: StrategyContext, snapshots: Sequence[MarketSnapshot], *, entries_allowed: bool = True) -> Prompt:
    """The prompt for one cycle; `entries_allowed` is False when the strategy may only close."""
    block = market_block(context, snapshots, entries_allowed=entries_allowed)
    market = json.dumps(block, separators=(",", ":"), allow_nan=False)
    user = f"{_notes(context.strategy.custom_prompt)}<market>\n{market}\n</market>"
    return Prompt(SYSTEM[context.strategy.risk_profile], user)


def market_block(
    context: StrategyContext,
    snapshots: Sequence[MarketSnapshot],
    *,
    entries_allowed: bool = True,
    rounded: bool = True,
) -> dict[str, Any]:
    """What the model is shown of market, positions and limits, as JSON values.

    `rounded` to 8 significant digits for the prompt, and as computed for the record.
    """
    short = _short if rounded else _as_computed
    strategy = context.strategy
    return {
        "symbols": [_symbol(snapshot, short) for snapshot in snapshots],
        "positions": [_position(position) for position in context.positions],
        "equity_usd": round(float(context.equity_usd), 2),
        "limits": {
            "max_position_usd": float(strategy.max_position_usd),
            "leverage_max": strategy.leverage_max,
            "min_confidence": strategy.min_confidence,
            "entries_allowed": entries_allowed,
        },
        "risk_profile": strategy.risk_profile.value,
    }


def estimate_tokens(prompt: Prompt) -> int:
    """An upper estimate of the prompt's tokens, made without a tokenizer; 16 are for the frame of its two messages."""
    return 16 + _static_pieces(prompt.system) + _pieces(prompt.user)


@lru_cache(maxsize=8)
def _static_pieces(text: str) -> int:
    return _pieces(text)


def _pieces(text: str) -> int:
    beyond_ascii = 0 if text.isascii() else sum(len(char.encode("utf-8", "replace")) for char in text if char > "\x7f")
    return len(_PIECES.findall(text)) + beyond_ascii


def _symbol(snapshot: MarketSnapshot, short: Callable[[float | None], float | None]) -> dict[str, Any]:
    return {
        "symbol": snapshot.symbol,
        "last_price": short(snapshot.last_price),
        "change_24h_percent": short(snapshot.change_24h_percent),
        "as_of_ms": snapshot.as_of_ms,
        "candles": [[candle[0], *map(short, candle[1:])] for candle in snapshot.candles[-10:]],
        "indicators": {name: short(value) for name, value in snapshot.indicators.model_dump().items()},
    }


def _position(position: Position) -> dict[str, Any]:
    pnl = position.unrealized_pnl_usd
    return {
        "symbol": position.symbol,
        "side": position.side.value,
        "quantity": _short(float(position.quantity)),
        "entry_price": _short(float(position.entry_price)),
        "unrealized_pnl_usd": None if pnl is None else round(float(pnl), 2),
    }


def _as_computed(value: float | None) -> float | None:
    return value


def _short(value: float | None) -> float | None:
    if value is None:
        return None
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def _notes(custom_prompt: str | None) -> str:
    """The owner's text between fences that it cannot close: its angle brackets become other characters."""
    text = clean(custom_prompt or "").strip()[:LONGEST_NOTES]
    if not text:
        return ""
    harmless = text.replace("<", "\u2039").replace(">", "\u203a")
    return f"<notes>\n{harmless}\n</notes>\n"
