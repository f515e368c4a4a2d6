"""What liquidations cost beyond the commissions of their trades: which income says so, and which exits bear it."""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Final

import structlog

from engine.domain import decimals
from engine.store.venue_record import LiquidationExit
from engine.venues.account_record import ForcedOrder, Income, UsdConverter
from engine.venues.account_state import USD_ASSETS

logger = structlog.get_logger()

LIQUIDATION_INCOME: Final = "INSURANCE_CLEAR"


def find_unbooked_costs(
    incomes: Iterable[Income], cost_ids: Collection[str], until_ms: int, worth: UsdConverter
) -> tuple[Income, ...]:
    """Those of `incomes` that a liquidation cost, are not among the booked `cost_ids`, and are later than what a person
    has settled; in dollars. What was paid in a coin without a known price is left out."""
    found = [
        each
        for each in incomes
        if each.kind == LIQUIDATION_INCOME and each.income_id not in cost_ids and each.at_ms > until_ms
    ]
    usd = [worth(each.asset, each.amount, each.at_ms) for each in found]
    for each in (one for one, amount in zip(found, usd, strict=True) if amount is None):
        logger.warning("liquidation_cost_not_priced", symbol=each.symbol, asset=each.asset)
    priced = ((each, amount) for each, amount in zip(found, usd, strict=True) if amount is not None)
    return tuple(each.model_copy(update={"amount": amount, "asset": USD_ASSETS[0]}) for each, amount in priced)


def split_cost(usd: Decimal, quantities: Sequence[Decimal], whole: Decimal) -> list[Decimal]:
    """The shares of `quantities` in what a liquidation of `whole` cost; the last takes what rounding leaves. What was
    liquidated beyond the books bears its own share."""
    remainder = decimals.quotient(decimals.product(usd, decimals.total(quantities)), whole)
    found: list[Decimal] = []
    for quantity in quantities[:-1]:
        share = decimals.quotient(decimals.product(usd, quantity), whole)
        remainder = decimals.total((remainder, share.copy_negate()))
        found.append(share)
    return [*found, remainder]


def find_liquidated_exits(
    cost: Income, exits: Iterable[LiquidationExit], forced: Sequence[ForcedOrder]
) -> tuple[tuple[LiquidationExit, ...], Decimal]:
    """The booked exits of the liquidation that `cost` is about, which is the nearest in time, and how much was
    liquidated in all. None of them when it was nobody's in the books."""
    own = tuple(exits)
    times = {each.order_id: each.at_ms for each in own} | {each.order_id: each.at_ms for each in forced}
    nearest = min(times, key=lambda order_id: abs(times[order_id] - cost.at_ms), default=None)
    parts = tuple(each for each in own if each.order_id == nearest)
    ended = decimals.total(each.quantity for each in parts)
    known = (each.quantity for each in forced if each.order_id == nearest)
    return parts, max((ended, *known))
