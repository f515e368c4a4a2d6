"""The words for actions and positions, and the entry or exit that they mean together.

Where words disagree the signal is refused or read as an exit, never as an entry.
"""

from dataclasses import dataclass
from typing import Final

from engine.domain.signal import SignalAction
from webhook_server.intake import field_reasons, sent_values

EXIT_WORDS: Final = ("CLOSE", "EXIT", "FLAT")
ENTRY_ACTIONS: Final = {
    "BUY": SignalAction.BUY,
    "SELL": SignalAction.SELL,
    "LONG": SignalAction.BUY,
    "SHORT": SignalAction.SELL,
}
ACTION_WORDS: Final = (*ENTRY_ACTIONS, *EXIT_WORDS)
# Names under which senders pass on TradingView's {{strategy.market_position}}.
POSITION_FIELDS: Final = ("market_position", "marketPosition", "sentiment")
POSITION_ACTIONS: Final = {
    "LONG": SignalAction.BUY,
    "BULLISH": SignalAction.BUY,
    "SHORT": SignalAction.SELL,
    "BEARISH": SignalAction.SELL,
    "FLAT": SignalAction.CLOSE,
}
_POSITION_HINT: Final = "must be long (or bullish), short (or bearish) or flat"
_SIDE_WORDS: Final = ("LONG", "SHORT")  # these name a position; BUY and SELL name an order, which may also reduce one


def parse_action(word: object) -> SignalAction:
    """The action that `word` means by itself, in any case. Raises ValueError."""
    upper = sent_values.to_upper(word)
    if upper in EXIT_WORDS:
        return SignalAction.CLOSE
    if upper not in ENTRY_ACTIONS:
        raise ValueError(f"must be one of {', '.join(ACTION_WORDS).lower()}")
    return ENTRY_ACTIONS[upper]


def is_buy_or_sell(word: object) -> bool:
    """Whether `word` is BUY or SELL, which other bots also send to reduce a position."""
    return sent_values.to_upper(word) in {"BUY", "SELL"}


@dataclass(frozen=True)
class Intent:
    """The action of a signal; `is_flat` closes the whole position, whatever `sell_percentage` says."""

    action: SignalAction
    is_flat: bool = False


def parse_intent(word: object, position: object, *, has_share: bool) -> Intent:
    """The intent of an action `word` with the wanted `position` after it (None: not sent).

    `has_share` is whether the signal has a `sell_percentage`. A word for an exit stays an exit whatever `position`
    says. Raises ValueError about `position`, and the errors of `parse_action`.
    """
    action = parse_action(word)
    wanted = POSITION_ACTIONS.get(sent_values.to_upper(position) or "")
    if action is SignalAction.CLOSE or position is None:
        return Intent(action, is_flat=wanted is SignalAction.CLOSE)
    if wanted is None:
        raise ValueError(
            field_reasons.UNFILLED_PLACEHOLDER if sent_values.has_placeholder(position) else _POSITION_HINT
        )
    if wanted in {action, SignalAction.CLOSE}:
        return Intent(wanted, is_flat=wanted is SignalAction.CLOSE)
    if sent_values.to_upper(word) in _SIDE_WORDS:
        raise ValueError("contradicts the action")
    if not has_share:
        raise ValueError("tells a partial exit; send sell_percentage, the part of the position to close")
    return Intent(SignalAction.CLOSE)
