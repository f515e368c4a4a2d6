"""Costs of liquidations beyond the commissions of their trades: which income shows them, and which exits bear them."""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Final

import structlog

from engine.domain import decimals
from engine.store.venue_record import LiquidationExit
from engine.venues.account_record import ForcedOrder, Income, UsdConverter
from engine.venues.account_state import USD_ASSETS

logger = structlog.get_logger()

LIQUIDATION_INCOME: Final = "INSURANCE_CLEAR"  # the fee paid to the insurance fund, as Binance and Aster name it


def find_unbooked_costs(
    incomes: Iterable[Income], cost_ids: Collection[str], until_ms: int, to_usd: UsdConverter
) -> tuple[Income, ...]:
    """Liquidation costs among `incomes`, in USD, but the booked `cost_ids` and those up to `until_ms`, when a person
    settled the books. A payment in a coin without a known price is logged and left out."""
    costs = [
        income
        for income in incomes
        if income.kind == LIQUIDATION_INCOME and income.income_id not in cost_ids and income.at_ms > until_ms
    ]
    priced: list[Income] = []
    for cost in costs:
        usd = to_usd(cost.asset, cost.amount, cost.at_ms)
        if usd is None:
            logger.warning("liquidation_cost_not_priced", symbol=cost.symbol, asset=cost.asset)
        else:
            priced.append(cost.model_copy(update={"amount": usd, "asset": USD_ASSETS[0]}))
    return tuple(priced)


def split_cost(usd: Decimal, quantities: Sequence[Decimal], whole: Decimal) -> list[Decimal]:
    """The share of each of `quantities` in `usd`, the cost of a liquidation of `whole`. The last one takes the rounding
    remainder. A quantity that was liquidated beyond the books bears its own share, which is not returned."""
    remainder = decimals.quotient(decimals.product(usd, decimals.total(quantities)), whole)
    shares: list[Decimal] = []
    for quantity in quantities[:-1]:
        share = decimals.quotient(decimals.product(usd, quantity), whole)
        remainder = decimals.total((remainder, share.copy_negate()))
        shares.append(share)
    return [*shares, remainder]


def find_liquidated_exits(
    cost: Income, exits: Iterable[LiquidationExit], forced: Sequence[ForcedOrder]
) -> tuple[tuple[LiquidationExit, ...], Decimal]:
    """The booked exits of the liquidation nearest in time to `cost`, and the quantity that was liquidated in all; no
    exits where the books held none of it. Income carries no order id, hence the time."""
    own = tuple(exits)
    times = {part.order_id: part.at_ms for part in own} | {order.order_id: order.at_ms for order in forced}
    nearest = min(times, key=lambda order_id: abs(times[order_id] - cost.at_ms), default=None)
    parts = tuple(part for part in own if part.order_id == nearest)
    booked_quantity = decimals.total(part.quantity for part in parts)
    forced_quantities = (order.quantity for order in forced if order.order_id == nearest)
    return parts, max((booked_quantity, *forced_quantities))
