"""The rule that answers in place of a model: deterministic arithmetic on the market block; answers are labelled.

For each symbol in ``<market>`` (see `decide`), with h the MACD histogram, t = EMA 12 - EMA 26, both in units of ATR 14:

| profile | goes LONG (SHORT mirrored) | distance d | closes a LONG (SHORT mirrored) | share of max_position_usd |
|---|---|---|---|---|
| conservative | RSI < 47 (mean reversion) | (47 - RSI) / 20 | RSI > 50, or RSI < 25 | 0.25 |
| balanced | t > 0 and h > 0 | min(t, 5 h) / 2 | h < 0 | 0.5 |
| aggressive | h > 0 | 5 h / 2 | h < 0 | 0.8 |

Confidence is 0.65 + 0.3 min(d, 1), rounded to 2 places; a CLOSE has 0.9. Exits come before entries; among entries the
one with the largest distance wins; a symbol that is held is not entered again, and none is while the block's limits say
``"entries_allowed": false``; else HOLD, with confidence 0.5.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LABEL: Final = "stand-in rule: "
BLOCK: Final = re.compile(r"<market>\s*(\{.*\})\s*</market>", re.DOTALL)
SHARE: Final = {"conservative": 0.25, "balanced": 0.5, "aggressive": 0.8}
STOP_AND_PROFIT_PERCENT: Final = {"conservative": (1.0, 1.5), "balanced": (1.5, 2.5), "aggressive": (2.0, 4.0)}
RSI_LOW: Final = 47.0
RSI_MIDDLE: Final = 50.0
RSI_EXTREME: Final = 25.0


@dataclass(frozen=True)
class SymbolView:
    """The indicators of one symbol; `trend` and `momentum` are positive for LONG, in units of ATR."""

    symbol: str
    rsi: float
    trend: float
    momentum: float


def answer_prompt(prompt: str) -> dict[str, Any]:
    """The decision for the last market block in `prompt`, in the fields of the product's answer schema."""
    block = parse_market_block(prompt)
    return _build_hold("", "no market block in the prompt") if block is None else decide(block)


def parse_market_block(prompt: str) -> dict[str, Any] | None:
    """The JSON object between the last ``<market>`` and ``</market>``; None when there is none."""
    start = prompt.rfind("<market>")
    match = BLOCK.search(prompt, start) if start >= 0 else None
    try:
        block = json.loads(match[1]) if match else None
    except ValueError:
        return None
    return block if isinstance(block, dict) else None


def decide(block: Mapping[str, Any]) -> dict[str, Any]:
    """The rule above for ``{"symbols": [{"symbol", "indicators"}...], "positions": [...], "limits": {...},
    "risk_profile"}``. Symbols whose indicators are still warming up are ignored."""
    profile = str(block.get("risk_profile"))
    profile = profile if profile in SHARE else "balanced"
    held = {str(row.get("symbol")): str(row.get("side")).upper() == "LONG" for row in block.get("positions") or []}
    views = [view for row in block.get("symbols") or [] if (view := _parse_view(row)) is not None]
    for view in views:
        if view.symbol in held and _should_exit(profile, view, is_long=held[view.symbol]):
            return _build_decision(
                "CLOSE", view.symbol, 0, 0.9, f"{_describe_view(view)}, the {_get_side_name(held[view.symbol])} is done"
            )
    if (block.get("limits") or {}).get("entries_allowed") is False:
        return _build_hold(_get_first_symbol(block), "no entries are allowed")
    entries = [(abs(distance), distance, view) for view in views if (distance := _calculate_distance(profile, view))]
    entries = [entry for entry in entries if entry[2].symbol not in held]
    if not entries:
        return _build_hold(_get_first_symbol(block), _build_hold_reason(views))
    return _build_entry(block, profile, *max(entries, key=lambda entry: entry[0])[1:])


def _build_entry(block: Mapping[str, Any], profile: str, distance: float, view: SymbolView) -> dict[str, Any]:
    most = float((block.get("limits") or {}).get("max_position_usd") or 0)
    confidence = round(0.65 + 0.3 * min(abs(distance), 1.0), 2)
    action = "LONG" if distance > 0 else "SHORT"
    stop, profit = STOP_AND_PROFIT_PERCENT[profile]
    decision = _build_decision(action, view.symbol, round(most * SHARE[profile], 2), confidence, _describe_view(view))
    return decision | {"stop_loss_percent": stop, "take_profit_percent": profit}


def _calculate_distance(profile: str, view: SymbolView) -> float:
    """How far the market is beyond the profile's threshold: positive for LONG, negative for SHORT, 0 for neither."""
    if profile == "conservative":
        sold, bought = RSI_LOW - view.rsi, view.rsi - (100 - RSI_LOW)
        return max(sold, 0.0) / 20 - max(bought, 0.0) / 20
    if profile == "balanced":
        if view.trend * view.momentum <= 0:
            return 0.0
        return min(abs(view.trend), 5 * abs(view.momentum)) / 2 * (1 if view.trend > 0 else -1)
    return 5 * view.momentum / 2


def _should_exit(profile: str, view: SymbolView, *, is_long: bool) -> bool:
    if profile == "conservative":
        rsi = view.rsi if is_long else 100 - view.rsi
        return rsi > RSI_MIDDLE or rsi < RSI_EXTREME
    return view.momentum < 0 if is_long else view.momentum > 0


def _parse_view(row: Mapping[str, Any]) -> SymbolView | None:
    shown = row.get("indicators") or {}
    names = ("rsi_14", "ema_12", "ema_26", "macd_histogram", "atr_14")
    values = [shown.get(name) for name in names]
    figures = [float(value) for value in values if isinstance(value, (int, float))]
    if len(figures) < len(names) or not figures[-1]:
        return None
    rsi, fast, slow, histogram, atr = figures
    return SymbolView(str(row.get("symbol")), rsi, (fast - slow) / atr, histogram / atr)


def _describe_view(view: SymbolView) -> str:
    return f"RSI {view.rsi:.0f}, trend {view.trend:+.2f} and momentum {view.momentum:+.2f} ATR"


def _build_hold_reason(views: Sequence[SymbolView]) -> str:
    return f"nothing to do at {_describe_view(views[0])}" if views else "indicators are warming up"


def _get_side_name(is_long: bool) -> str:  # noqa: FBT001 - it only names its argument
    return "long" if is_long else "short"


def _get_first_symbol(block: Mapping[str, Any]) -> str:
    rows = block.get("symbols") or [{}]
    return str(rows[0].get("symbol", ""))


def _build_hold(symbol: str, reason: str) -> dict[str, Any]:
    return _build_decision("HOLD", symbol, 0, 0.5, reason)


def _build_decision(action: str, symbol: str, size_usd: float, confidence: float, reason: str) -> dict[str, Any]:
    return {
        "action": action,
        "symbol": symbol,
        "size_usd": size_usd,
        "confidence": confidence,
        "reasoning": (LABEL + reason)[:100],
        "stop_loss_percent": None,
        "take_profit_percent": None,
    }
