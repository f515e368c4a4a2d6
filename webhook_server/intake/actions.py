"""What a signal asks for, out of its words: an entry on a side, or an exit. Nothing opens that was not asked for."""

from dataclasses import dataclass
from typing import Final

from engine.domain.signal import SignalAction
from webhook_server.intake import ascii_case, field_reasons

EXITS: Final = ("CLOSE", "EXIT", "FLAT")
ENTRIES: Final = {
    "BUY": SignalAction.BUY,
    "SELL": SignalAction.SELL,
    "LONG": SignalAction.BUY,
    "SHORT": SignalAction.SELL,
}
WORDS: Final = (*ENTRIES, *EXITS)
# TradingView's {{strategy.market_position}}, under the names that it is sent by.
POSITION_NAMES: Final = ("market_position", "marketPosition", "sentiment")
POSITIONS: Final = {
    "LONG": SignalAction.BUY,
    "BULLISH": SignalAction.BUY,
    "SHORT": SignalAction.SELL,
    "BEARISH": SignalAction.SELL,
    "FLAT": SignalAction.CLOSE,
}
_POSITION_FORM: Final = "must be long (or bullish), short (or bearish) or flat"
_SIDES: Final = ("LONG", "SHORT")  # words that name the side itself, which an order's direction does not


def action_of(word: object) -> SignalAction:
    """The action that `word` alone asks for, in any case. Raises ValueError."""
    upper = ascii_case.upper(word)
    if upper in EXITS:
        return SignalAction.CLOSE
    if upper not in ENTRIES:
        raise ValueError(f"must be one of {', '.join(WORDS).lower()}")
    return ENTRIES[upper]


def is_order_word(word: object) -> bool:
    """Whether an entry is asked for by the words that other bots also have for closing a part of what is held."""
    return ascii_case.upper(word) in {"BUY", "SELL"}


@dataclass(frozen=True)
class Intent:
    """What a signal asks for; `is_flat` says that nothing of the position is to stay, whatever part else is named."""

    action: SignalAction
    is_flat: bool = False


def intent_of(word: object, position: object, *, names_share: bool) -> Intent:
    """What a signal asks for that also tells the position that is wanted after it; None tells nothing.

    `names_share` says whether the signal names the part of a position to close. A word for an exit is one whatever
    `position` says. Raises ValueError about `position`, and what `action_of` raises.
    """
    action = action_of(word)
    wanted = POSITIONS.get(ascii_case.upper(position) or "")
    if action is SignalAction.CLOSE or position is None:
        return Intent(action, is_flat=wanted is SignalAction.CLOSE)
    if wanted is None:
        raise ValueError(
            field_reasons.UNFILLED_PLACEHOLDER if field_reasons.has_placeholder(position) else _POSITION_FORM
        )
    if wanted in {action, SignalAction.CLOSE}:
        return Intent(wanted, is_flat=wanted is SignalAction.CLOSE)
    if ascii_case.upper(word) in _SIDES:
        raise ValueError("contradicts the action")
    if not names_share:
        raise ValueError("tells a partial exit; send sell_percentage, the part of the position to close")
    return Intent(SignalAction.CLOSE)
