"""The entry rules of a risk profile, enforced by one pure function: whether an entry may be made, and its size.

The engine calls it before it records a decision, the webhook server again before it sends an order, because two signals
in execution at once do not know of each other. The rules in force come from the database (SQL function `entry_rules`).
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
    """A requested entry: its notional in USD, and the distance of its stop-loss from the entry price in percent."""

    side: Side
    size_usd: Decimal
    stop_loss_percent: Decimal | None


@dataclass(frozen=True)
class BrokenRule:
    """`rule` is the field of `EntryRules` whose `limit` the entry's `current` value breaks; `reason` is a sentence."""

    rule: str
    reason: str
    current: str | Decimal | None
    limit: str | Decimal | bool


def calculate_max_entry_usd(rules: EntryRules, max_position_usd: Decimal) -> Decimal:
    """The maximum notional of one entry in USD, rounded down to cents so that it never exceeds the share."""
    return (max_position_usd * rules.max_entry_percent / _HUNDRED).quantize(_CENT, ROUND_DOWN)


def apply_entry_rules(
    entry: Entry, rules: EntryRules, max_position_usd: Decimal, held: Position | None
) -> Decimal | BrokenRule:
    """The notional in USD that `entry` may have, or the first rule that it breaks.

    `held` is the strategy's position in the entry's symbol; an entry on its opposite side is a reversal and adds
    nothing. A size beyond the maximum is reduced to it. A missing or too near stop-loss is never replaced by another
    one: it is the strategy's decision, and a wider one would risk more than the strategy decided.
    """
    broken = _check_stop_loss(entry, rules) or _check_adding(entry, rules, held)
    return broken or min(entry.size_usd, calculate_max_entry_usd(rules, max_position_usd))


def _check_stop_loss(entry: Entry, rules: EntryRules) -> BrokenRule | None:
    percent, least = entry.stop_loss_percent, rules.min_stop_loss_percent
    if percent is None:
        if not rules.stop_loss_required:
            return None
        return BrokenRule("stop_loss_required", "an entry needs stop_loss_percent", None, limit=True)
    if percent >= least:
        return None
    reason = f"a stop {percent:f} % from the entry is nearer than the least distance of {least.normalize():f} %"
    return BrokenRule("min_stop_loss_percent", reason, percent, least)


def _check_adding(entry: Entry, rules: EntryRules, held: Position | None) -> BrokenRule | None:
    if held is None or held.side is not entry.side or rules.adding is Adding.ALWAYS:
        return None
    what = f"the {held.side.value} in {held.symbol}"
    pnl_usd = held.unrealized_pnl_usd
    if rules.adding is Adding.NEVER:
        return BrokenRule("adding", f"adding to {what} is not allowed", held.side.value, rules.adding.value)
    if pnl_usd is not None and pnl_usd > 0:
        return None
    pnl_text = "its P&L is not known" if pnl_usd is None else f"its P&L is {pnl_usd:.2f} USD"
    return BrokenRule("adding", f"adding to {what} is allowed while it wins; {pnl_text}", pnl_usd, rules.adding.value)
