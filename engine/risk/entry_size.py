"""The size of an entry that the strategy's entry rules, the caps on a position and the leverage limit allow. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from engine.domain.positions import Position
from engine.domain.signal import TradeSignal
from engine.risk.entry_rules import BrokenRule, Entry, apply_entry_rules
from engine.risk.limit_breach import LimitBreach, LimitType, build_unreadable_breach
from engine.risk.sizing import ReducedBy
from engine.store.webhook_rows import Portfolio


@dataclass(frozen=True)
class AllowedEntry:
    """An entry may go ahead with up to `size_usd` of notional; 0 when the position has reached its maximum.

    `reduced_by` names the limits that reduced the requested size, the strictest last.
    """

    size_usd: Decimal
    reduced_by: tuple[ReducedBy, ...] = ()


def apply_strategy_rules(signal: TradeSignal, portfolio: Portfolio, held: Position | None) -> Decimal | LimitBreach:
    """The size in USD that the entry rules allow, or their breach. They apply to AI signals only, not to people's."""
    asked = signal.position_size_usd or Decimal(0)
    strategy = portfolio.strategy
    if strategy is None or not signal.is_ai_signal:
        return asked
    if strategy.rules is None:
        return build_unreadable_breach("the strategy's entry rules are not known")
    entry = Entry(signal.side, asked, signal.stop_loss_percent)
    allowed = apply_entry_rules(entry, strategy.rules, strategy.max_position_usd, held)
    if isinstance(allowed, BrokenRule):
        message = f"The strategy's rules allow no such entry: {allowed.reason}"
        return LimitBreach(LimitType.ENTRY_RULES, message, allowed.current, allowed.limit)
    return allowed


def check_leverage(signal: TradeSignal, portfolio: Portfolio, allowance: AllowedEntry) -> LimitBreach | None:
    """The breach of the strategy's maximum leverage, or None: by the requested leverage, and by the notional of all its
    positions and this entry as a multiple of its equity."""
    strategy = portfolio.strategy
    if strategy is None:
        return None
    limit = strategy.leverage_max
    if signal.leverage > limit:
        return LimitBreach(LimitType.LEVERAGE, f"Leverage {signal.leverage} of at most {limit}", signal.leverage, limit)
    own = [position for position in portfolio.open_positions if position.strategy_id == signal.strategy_id]
    # A position that this entry reverses is closed first, so it does not count.
    kept = sum((position.position_size_usd for position in own if not _is_reversal(signal, position)), Decimal(0))
    exposure = kept + allowance.size_usd
    if strategy.equity_usd > 0 and exposure <= limit * strategy.equity_usd:
        return None
    message = f"{exposure:.2f} USD of positions on {strategy.equity_usd:.2f} USD of equity exceed leverage {limit}"
    current = round(exposure / strategy.equity_usd, 2) if strategy.equity_usd > 0 else None
    return LimitBreach(LimitType.LEVERAGE, message, current, limit)


def apply_caps(allowed: Decimal, signal: TradeSignal, portfolio: Portfolio, held: Position | None) -> AllowedEntry:
    """`allowed` USD, reduced to what the caps on the position leave beside what is held on the same side."""
    asked = signal.position_size_usd or Decimal(0)
    reduced_by = [ReducedBy.MAX_ENTRY_PERCENT] if allowed < asked else []
    held_usd = held.position_size_usd if held is not None and not _is_reversal(signal, held) else Decimal(0)
    for name, cap in _iter_caps(portfolio):
        if cap - held_usd < allowed:
            allowed = cap - held_usd
            reduced_by.append(name)
    return AllowedEntry(max(Decimal(0), allowed), tuple(reduced_by))


def _iter_caps(portfolio: Portfolio) -> Iterator[tuple[ReducedBy, Decimal]]:
    """The maximum notional (USD) of one position, by strategy and by person."""
    if portfolio.strategy is not None:
        yield ReducedBy.MAX_POSITION_USD, portfolio.strategy.max_position_usd
    if portfolio.settings is not None and portfolio.settings.max_position_size_usd:
        yield ReducedBy.MAX_POSITION_SIZE_USD, portfolio.settings.max_position_size_usd


def _is_reversal(signal: TradeSignal, position: Position) -> bool:
    return position.symbol == signal.symbol and position.side is not signal.side
