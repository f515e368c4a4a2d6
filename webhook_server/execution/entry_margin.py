"""With which margin an entry is made, and whether it can be made so: others of its account, and its own stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, NamedTuple

from engine.domain import decimals
from engine.domain.errors import OrderRejected
from engine.domain.positions import MarginMode, Side
from engine.risk import sizing
from engine.risk.liquidation import ZERO, MarginedPosition, calculate_maintenance_rate
from engine.store.margin import EntryMargin, HeldMargin
from engine.venues.ccxt_client.errors import is_margin_mode_locked
from engine.venues.instrument import Instrument
from webhook_server.execution.execution_context import TradeContext
from webhook_server.reconciliation.account_checks import AccountFault


class MarginFault(AccountFault):
    """The entry would not have the margin that it asks for, or could not be protected with it; nothing was sent."""


_MODE_UNKNOWN: Final = ", and the venue does not tell which margin mode the symbol has"


class PlannedEntry(NamedTuple):
    """An entry that is not made yet, and the mark price (None: not known)."""

    quantity: Decimal
    price: Decimal
    mark: Decimal | None


def select_margin_mode(trade: TradeContext, margin: EntryMargin) -> MarginMode | None:
    """The margin mode of the entry of `trade`. None, live only, leaves it as the account has it. On paper it is
    isolated unless the strategy says cross, and what is added to keeps its own."""
    if not trade.is_paper:
        return margin.wanted
    if trade.increases_position and trade.held is not None:
        return trade.held.margin_mode or MarginMode.ISOLATED
    return margin.wanted or MarginMode.ISOLATED


def check_margin(trade: TradeContext, margin: EntryMargin, size_usd: Decimal) -> None:
    """Raises MarginFault where another strategy's margin mode is in the way of an entry of `size_usd`, and
    OrderRejected where a strategy on paper has too little free margin for it."""
    if trade.is_paper:
        _check_free_margin(trade, margin, size_usd)
    else:
        _check_other_strategies(trade, margin)


def _check_other_strategies(trade: TradeContext, margin: EntryMargin) -> None:
    """Raises MarginFault where another of the account's strategies holds the symbol in another mode: it is the venue's
    for both."""
    known = (each for each in margin.others if each.margin_mode is not None)
    other = next((each for each in known if each.margin_mode is not margin.wanted), None)
    if margin.wanted is not None and other is not None:
        raise _build_conflict(trade, margin.wanted, other, f"{other.margin_mode} margin")


@contextmanager
def explain_margin_conflict(trade: TradeContext, margin: EntryMargin) -> Iterator[None]:
    """Around a live entry: where the venue refuses to change the margin mode because another strategy holds the symbol,
    raises MarginFault with that holder's name. The venue itself names only positions and orders, which may be the other
    strategy's stops."""
    try:
        yield
    except OrderRejected as refusal:
        if margin.wanted is None or not margin.others or not is_margin_mode_locked(refusal):
            raise
        raise _build_conflict(trade, margin.wanted, margin.others[0], "other margin") from refusal


def _build_conflict(trade: TradeContext, wanted: MarginMode, other: HeldMargin, margin: str) -> MarginFault:
    holder = "the person" if other.strategy_name is None else f"strategy {other.strategy_name}"
    remedy = "give both strategies one margin mode" if other.strategy_name else f"trade without {wanted} margin"
    return MarginFault(
        f"{trade.signal.symbol}: {wanted} margin is wanted, and {holder} holds it with {margin} on the same account: "
        f"wait until that is closed, or {remedy}"
    )


def _check_free_margin(trade: TradeContext, margin: EntryMargin, size_usd: Decimal) -> None:
    """Raises OrderRejected where an entry of `size_usd` on paper needs more initial margin than its strategy has free,
    as a venue does (-2019)."""
    free_usd, wanted_usd = margin.paper_free_usd, decimals.quotient(size_usd, Decimal(trade.signal.leverage))
    if free_usd is not None and wanted_usd > free_usd:
        raise OrderRejected(
            f"{trade.signal.symbol}: Margin is insufficient: {wanted_usd:.2f} USD of initial margin are needed, and "
            f"{max(free_usd, Decimal(0)):.2f} USD of the strategy's equity are free: trade less, or with more leverage",
            "funds",
        )


def check_liquidation(
    trade: TradeContext, mode: Callable[[], MarginMode | None], instrument: Instrument, entry: PlannedEntry
) -> None:
    """Raises MarginFault where an isolated `entry` would be liquidated before its stop acts, or at once.

    `mode` is asked for only where that counts; None (the venue does not tell it) may be isolated.
    """
    signal, stop = trade.signal, _find_stop_price(trade, instrument, entry)
    level = _calculate_isolated_liquidation(trade, instrument, entry.quantity, entry.price)
    sign = 1 if signal.side is Side.LONG else -1

    def is_beyond(price: Decimal | None) -> bool:
        return price is not None and level is not None and (price - level) * sign <= 0

    if level is None or not (is_beyond(entry.mark) or is_beyond(stop)):
        return
    actual = mode()
    if actual is MarginMode.CROSS:
        return
    price_text = decimals.format_plain(_round_to_tick(level, instrument))
    margin = f"isolated margin at a leverage of {signal.leverage} is liquidated at about {price_text}"
    margin += _MODE_UNKNOWN if actual is None else ""
    if entry.mark is not None and is_beyond(entry.mark):
        mark = f"the mark price of {decimals.format_plain(entry.mark)} is beyond that"
        raise MarginFault(f"{signal.symbol}: {margin}, and {mark}: take less leverage or cross margin")
    raise MarginFault(
        f"{signal.symbol}: the stop at {decimals.format_plain(stop or level)} could never act, as {margin}: "
        "take a nearer stop, "
        "less leverage or cross margin"
    )


def liquidation_price(
    trade: TradeContext, mode: MarginMode | None, instrument: Instrument, quantity: Decimal, price: Decimal
) -> Decimal | None:
    """At which a paper position is liquidated that has just got `quantity` at `price`; None where others decide it too,
    as with cross margin and live, or no price does."""
    if not trade.is_paper or mode is not MarginMode.ISOLATED:
        return None
    level = _calculate_isolated_liquidation(trade, instrument, quantity, price)
    return None if level is None else _round_to_tick(level, instrument)


def _find_stop_price(trade: TradeContext, instrument: Instrument, entry: PlannedEntry) -> Decimal | None:
    stop, _ = sizing.calculate_protective_prices(trade.signal, entry.price, instrument.tick)
    return trade.held.stop_loss_price if stop is None and trade.increases_position and trade.held is not None else stop


def _calculate_isolated_liquidation(
    trade: TradeContext, instrument: Instrument, quantity: Decimal, price: Decimal
) -> Decimal | None:
    """Of the whole position once the entry is made."""
    signal, held = trade.signal, trade.held if trade.increases_position else None
    before = (ZERO, ZERO, ZERO) if held is None else (held.quantity, held.position_size_usd, held.funding_usd)
    cost = decimals.add(decimals.product(quantity, price), before[1])
    whole, rate = (
        decimals.add(quantity, before[0]),
        calculate_maintenance_rate(instrument.maintenance_rate, signal.leverage),
    )
    stake = MarginedPosition(signal.side, whole, cost, rate)
    return stake.calculate_liquidation_price(decimals.add(decimals.quotient(cost, Decimal(signal.leverage)), before[2]))


def _round_to_tick(price: Decimal, instrument: Instrument) -> Decimal:
    return decimals.round_for_books(decimals.round_to_step(price, instrument.tick, ROUND_HALF_EVEN))
