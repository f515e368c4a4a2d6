"""What a signal asks for, out of its words: an entry on a side, or an exit. Nothing opens that was not asked for."""

from dataclasses import dataclass
from typing import Final

from engine.domain.signal import SignalAction
from webhook_server.intake import ascii_case, field_reasons

EXIT_WORDS: Final = ("CLOSE", "EXIT", "FLAT")
ENTRY_ACTIONS: Final = {
    "BUY": SignalAction.BUY,
    "SELL": SignalAction.SELL,
    "LONG": SignalAction.BUY,
    "SHORT": SignalAction.SELL,
}
ACTION_WORDS: Final = (*ENTRY_ACTIONS, *EXIT_WORDS)
# TradingView's {{strategy.market_position}}, under the names that it is sent by.
POSITION_FIELDS: Final = ("market_position", "marketPosition", "sentiment")
POSITION_ACTIONS: Final = {
    "LONG": SignalAction.BUY,
    "BULLISH": SignalAction.BUY,
    "SHORT": SignalAction.SELL,
    "BEARISH": SignalAction.SELL,
    "FLAT": SignalAction.CLOSE,
}
_POSITION_HINT: Final = "must be long (or bullish), short (or bearish) or flat"
_SIDE_WORDS: Final = ("LONG", "SHORT")  # words that name the side itself, which an order's direction does not


def parse_action(word: object) -> SignalAction:
    """The action that `word` alone asks for, in any case. Raises ValueError."""
    upper = ascii_case.upper(word)
    if upper in EXIT_WORDS:
        return SignalAction.CLOSE
    if upper not in ENTRY_ACTIONS:
        raise ValueError(f"must be one of {', '.join(ACTION_WORDS).lower()}")
    return ENTRY_ACTIONS[upper]


def is_buy_or_sell(word: object) -> bool:
    """Whether an entry is asked for by the words that other bots also have for closing a part of what is held."""
    return ascii_case.upper(word) in {"BUY", "SELL"}


@dataclass(frozen=True)
class Intent:
    """What a signal asks for; `is_flat` says that nothing of the position is to stay, whatever part else is named."""

    action: SignalAction
    is_flat: bool = False


def parse_intent(word: object, position: object, *, has_share: bool) -> Intent:
    """What a signal asks for that also tells the position that is wanted after it; None tells nothing.

    `has_share` says whether the signal names the part of a position to close. A word for an exit is one whatever
    `position` says. Raises ValueError about `position`, and what `parse_action` raises.
    """
    action = parse_action(word)
    wanted = POSITION_ACTIONS.get(ascii_case.upper(position) or "")
    if action is SignalAction.CLOSE or position is None:
        return Intent(action, is_flat=wanted is SignalAction.CLOSE)
    if wanted is None:
        raise ValueError(
            field_reasons.UNFILLED_PLACEHOLDER if field_reasons.has_placeholder(position) else _POSITION_HINT
        )
    if wanted in {action, SignalAction.CLOSE}:
        return Intent(wanted, is_flat=wanted is SignalAction.CLOSE)
    if ascii_case.upper(word) in _SIDE_WORDS:
        raise ValueError("contradicts the action")
    if not has_share:
        raise ValueError("tells a partial exit; send sell_percentage, the part of the position to close")
    return Intent(SignalAction.CLOSE)
