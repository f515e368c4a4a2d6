"""Whether an entry may be made, and how large: what a risk profile demands and code can hold, as one pure function.

The engine asks it before a decision is recorded, the webhook server again before an order is sent, since two signals
under way at once cannot see each other. The rules in force come from the database (SQL function `entry_rules`).
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Final

from engine.domain.positions import Position, Side
from engine.domain.strategy import Adding, EntryRules

_CENT: Final = Decimal("0.01")
_HUNDRED: Final = Decimal(100)

UNRESTRICTED: Final = EntryRules(
    stop_loss_required=False,
    max_entry_percent=_HUNDRED,
    adding=Adding.ALWAYS,
    min_stop_loss_percent=Decimal(0),
)


@dataclass(frozen=True)
class Entry:
    """An entry as it is asked for: USD of notional, and the distance of its stop from the entry in percent, or None."""

    side: Side
    size_usd: Decimal
    stop_loss_percent: Decimal | None


@dataclass(frozen=True)
class BrokenRule:
    """Why an entry is not made: `current` against `limit` of the field `rule` of `EntryRules`, and a sentence."""

    rule: str
    reason: str
    current: str | Decimal | None
    limit: str | Decimal | bool


def largest_entry_usd(rules: EntryRules, max_position_usd: Decimal) -> Decimal:
    """The notional in USD that one entry may have, rounded down to cents."""
    return (max_position_usd * rules.max_entry_percent / _HUNDRED).quantize(_CENT, ROUND_DOWN)


def allowed_size(
    entry: Entry, rules: EntryRules, max_position_usd: Decimal, held: Position | None
) -> Decimal | BrokenRule:
    """The notional in USD that `entry` may have, or the first rule that it breaks.

    `held` is what the strategy holds in the entry's symbol; against it the entry is a reversal, which adds nothing. A
    size beyond the largest entry is cut to it. Nothing is filled in: no missing stop, and no wider one.
    """
    broken = _stop(entry, rules) or _adding(entry, rules, held)
    return broken or min(entry.size_usd, largest_entry_usd(rules, max_position_usd))


def _stop(entry: Entry, rules: EntryRules) -> BrokenRule | None:
    percent, least = entry.stop_loss_percent, rules.min_stop_loss_percent
    if percent is None:
        if not rules.stop_loss_required:
            return None
        return BrokenRule("stop_loss_required", "an entry needs stop_loss_percent", None, limit=True)
    if percent >= least:
        return None
    reason = f"a stop {percent:f} % from the entry is nearer than the least distance of {least.normalize():f} %"
    return BrokenRule("min_stop_loss_percent", reason, percent, least)


def _adding(entry: Entry, rules: EntryRules, held: Position | None) -> BrokenRule | None:
    if held is None or held.side is not entry.side or rules.adding is Adding.ALWAYS:
        return None
    what = f"the {held.side.value} in {held.symbol}"
    pnl_usd = held.unrealized_pnl_usd
    if rules.adding is Adding.NEVER:
        return BrokenRule("adding", f"adding to {what} is not allowed", held.side.value, rules.adding.value)
    if pnl_usd is not None and pnl_usd > 0:
        return None
    made = "its P&L is not known" if pnl_usd is None else f"its P&L is {pnl_usd:.2f} USD"
    return BrokenRule("adding", f"adding to {what} is allowed while it wins; {made}", pnl_usd, rules.adding.value)
