"""Builds a prompt: the profile's static text, the owner's notes as untrusted text, and last the market block."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from engine.deciding.prompt_profiles import SYSTEM
from engine.domain.decimals import format_plain, to_decimal
from engine.domain.market import MarketSnapshot
from engine.domain.positions import Position
from engine.domain.prompt import CANDLES, Prompt
from engine.domain.strategy import StrategyContext
from engine.llm.prompt_tokens import estimate_tokens
from engine.platform.plain_text import sanitize_for_storage
from engine.risk.entry_rules import calculate_max_entry_usd

MAX_TOKENS: Final = 1_200  # of a prompt about one symbol, the owner's notes apart
MORE_TOKENS_PER_SYMBOL: Final = 600
MAX_NOTES: Final = 4_000  # characters, as many as the column holds: about 1,000 tokens of English
MIN_CANDLES: Final = 3
_CONTEXT_INDICATORS: Final = ("sma_20", "sma_50", "macd_histogram", "rsi_14", "atr_14")
_SIGNIFICANT_DIGITS: Final = 8
_TEXT_OR_EXPONENT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+')


class SymbolView(NamedTuple):
    """One symbol's market data: the 1m snapshot, and those of the strategy's longer intervals (None: no data)."""

    minute: MarketSnapshot
    longer: Mapping[str, MarketSnapshot | None]


def build_prompt(
    context: StrategyContext,
    views: Sequence[SymbolView],
    *,
    entries_allowed: bool = True,
    without_data: Sequence[str] = (),
) -> Prompt:
    """The prompt for one cycle; `entries_allowed` is False when the strategy may only close.

    Without the owner's notes it has at most MAX_TOKENS, and MORE_TOKENS_PER_SYMBOL for each symbol after the first:
    where longer intervals or long numbers exceed that, the oldest candles are left out, and then the funding rates.
    Symbols `without_data` are named; many of them may exceed the bound.
    """
    system = SYSTEM[context.strategy.risk_profile]
    max_tokens = MAX_TOKENS + MORE_TOKENS_PER_SYMBOL * (len(views) - 1)
    shapes = [(candles, True) for candles in range(CANDLES, MIN_CANDLES - 1, -1)]
    for candles, has_funding in (*shapes, (MIN_CANDLES, False)):
        block = build_market_block(
            context,
            views,
            entries_allowed=entries_allowed,
            candles=candles,
            has_funding=has_funding,
            without_data=without_data,
        )
        market = f"<market>\n{_expand_exponents(json.dumps(block, separators=(',', ':'), allow_nan=False))}\n</market>"
        if estimate_tokens(Prompt(system, market)) <= max_tokens:
            break
    return Prompt(system, render_notes(context.strategy.custom_prompt) + market, candles)


def build_market_block(
    context: StrategyContext,
    views: Sequence[SymbolView],
    *,
    entries_allowed: bool = True,
    is_rounded: bool = True,
    candles: int = CANDLES,
    has_funding: bool = True,
    without_data: Sequence[str] = (),
) -> dict[str, Any]:
    """Market, positions and limits as JSON values, with the last `candles` of each symbol.

    `is_rounded` rounds prices to 8 significant digits, for the prompt; the record has them as computed.
    """
    round_value = _round_for_prompt if is_rounded else _keep_exact
    strategy = context.strategy
    return {
        "symbols": [_build_symbol_block(view, round_value, candles, has_funding=has_funding) for view in views],
        **({"no_data_close_only": list(without_data)} if without_data else {}),
        "positions": [_build_position_block(position) for position in context.positions],
        "equity_usd": round(float(context.equity_usd), 2),
        "limits": {
            "max_position_usd": float(strategy.max_position_usd),
            "leverage_max": strategy.leverage_max,
            "min_confidence": strategy.min_confidence,
            "entries_allowed": entries_allowed,
            "max_entry_usd": float(calculate_max_entry_usd(strategy.rules, strategy.max_position_usd)),
            "stop_loss_required": strategy.rules.stop_loss_required,
            "min_stop_loss_percent": float(strategy.rules.min_stop_loss_percent),
            "adding": strategy.rules.adding.value,
        },
        "risk_profile": strategy.risk_profile.value,
    }


def _expand_exponents(document: str) -> str:
    """JSON without exponents: models read 1e-11 worse than 0.00000000001, and take it for another size."""
    return _TEXT_OR_EXPONENT.sub(
        lambda found: found[0] if found[0][0] == '"' else format_plain(to_decimal(found[0])), document
    )


@lru_cache(maxsize=8)
def hash_system_prompt(system: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a static text, which names it in records."""
    return hashlib.sha256(system.encode()).hexdigest()[:16]


def _build_symbol_block(
    view: SymbolView, round_value: Callable[[float | None], float | None], candles: int, *, has_funding: bool
) -> dict[str, Any]:
    snapshot = view.minute
    block: dict[str, Any] = {
        "symbol": snapshot.symbol,
        "last_price": round_value(snapshot.last_price),
        "change_24h_percent": round_value(snapshot.change_24h_percent),
        "as_of_ms": snapshot.as_of_ms,
        "candles": [[candle[0], *map(round_value, candle[1:])] for candle in snapshot.candles[-candles:]],
        "indicators": {name: round_value(value) for name, value in snapshot.indicators.model_dump().items()},
    }
    if snapshot.filled_count:
        block["filled"] = _describe_filled_candles(snapshot, candles)
    if snapshot.funding_rate_percent and has_funding:
        block["funding_rate_percent"] = round_value(snapshot.funding_rate_percent)
        block["next_funding_minutes"] = snapshot.next_funding_minutes
    if view.longer:
        block["context"] = {
            interval: _build_longer_block(longer, round_value) for interval, longer in view.longer.items()
        }
    return block


def _describe_filled_candles(snapshot: MarketSnapshot, candles: int) -> dict[str, Any]:
    """Which of the candles in the prompt, and how many of all that the indicators use, are filled minutes."""
    first_ms = snapshot.candles[-candles:][0].open_time_ms
    return {"shown": [at_ms for at_ms in snapshot.filled if at_ms >= first_ms], "in_all": snapshot.filled_count}


def _build_longer_block(
    snapshot: MarketSnapshot | None, round_value: Callable[[float | None], float | None]
) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    values = {name: round_value(getattr(snapshot.indicators, name)) for name in _CONTEXT_INDICATORS}
    filled = {"filled": snapshot.filled_count} if snapshot.filled_count else {}
    return {"close": round_value(snapshot.candles[-1].close), **values, **filled}


def _build_position_block(position: Position) -> dict[str, Any]:
    pnl, at = position.unrealized_pnl_usd, position.liquidation_price
    funding = {"funding_usd": round(float(position.funding_usd), 2)} if position.funding_usd else {}
    return {
        "symbol": position.symbol,
        "side": position.side.value,
        "quantity": _round_for_prompt(float(position.quantity)),
        "entry_price": _round_for_prompt(float(position.entry_price)),
        "unrealized_pnl_usd": None if pnl is None else round(float(pnl), 2),
        **funding,
        **({} if at is None else {"liquidation_price": _round_for_prompt(float(at))}),
    }


def _keep_exact(value: float | None) -> float | None:
    return value


def _round_for_prompt(value: float | None) -> float | None:
    if value is None:
        return None
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def render_notes(custom_prompt: str | None) -> str:
    """The owner's text in a `<notes>` element that it cannot close: its angle brackets become other characters."""
    text = sanitize_for_storage(custom_prompt or "").strip()[:MAX_NOTES]
    if not text:
        return ""
    harmless = text.replace("<", "\u2039").replace(">", "\u203a")
    return f"<notes>\n{harmless}\n</notes>\n"
