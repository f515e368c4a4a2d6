"""What a venue accepts of one symbol: steps, limits and status."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from pydantic import Field

from engine.domain import decimals
from engine.domain.errors import OrderRejected
from engine.platform.values import Frozen

# Statuses of an instrument: the one of Binance-shaped venues for tradable, and ours for one no longer listed.
TRADING: Final = "TRADING"
GONE: Final = "GONE"


class LotSize(Frozen):
    """Which quantities (base asset) an order of one kind may have."""

    step: Decimal = Field(gt=0)
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None

    def floor_quantity(self, quantity: Decimal) -> Decimal:
        """The largest multiple of the step that is at most `quantity`."""
        return decimals.round_to_step(quantity, self.step, ROUND_FLOOR)

    def find_fault(self, quantity: Decimal) -> str | None:
        """What is wrong with `quantity`, floored; None when the venue accepts it."""
        floored = self.floor_quantity(quantity)
        if floored <= 0 or floored < self.min_quantity:
            minimum = decimals.format_plain(max(self.step, self.min_quantity))
            return f"quantity {decimals.format_plain(quantity)} is below the minimum of {minimum}"
        if self.max_quantity is not None and floored > self.max_quantity:
            maximum = decimals.format_plain(self.max_quantity)
            return f"quantity {decimals.format_plain(floored)} is above the maximum of {maximum}"
        return None


class Instrument(Frozen):
    """What the venue accepts of one symbol. Quantities are in the base asset, `min_notional` in USD.

    `lot`, `min_quantity` and `max_quantity` apply to market orders, also protective ones; `limit` to limit orders, if
    they differ. `max_leverage` and the maxima are None where the venue does not publish them. `status` is the venue's:
    entries need `TRADING`; `GONE` was listed before and is no longer. `maintenance_rate` is the maintenance margin as
    a share of the notional, from the public list. A buy is accepted at up to `multiplier_up` times the mark price, a
    sale at `multiplier_down` times it or more. At most `max_trigger_orders` conditional orders may be open at once.
    """

    symbol: str
    tick: Decimal = Field(gt=0)
    lot: Decimal = Field(gt=0)
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None
    min_notional: Decimal = Decimal(0)
    max_leverage: int | None = None
    limit: LotSize | None = None
    status: str = TRADING
    maintenance_rate: Decimal | None = None
    multiplier_up: Decimal | None = None
    multiplier_down: Decimal | None = None
    max_trigger_orders: int | None = None

    @property
    def is_trading(self) -> bool:
        return self.status == TRADING

    @property
    def market_lot(self) -> LotSize:
        return LotSize(step=self.lot, min_quantity=self.min_quantity, max_quantity=self.max_quantity)

    def floor_to_lot(self, quantity: Decimal) -> Decimal:
        """The largest multiple of the lot that is at most `quantity`."""
        return decimals.round_to_step(quantity, self.lot, ROUND_FLOOR)

    def require_lot_quantity(self, quantity: Decimal) -> Decimal:
        """`quantity` floored to the lot. Raises OrderRejected for a quantity that the venue does not accept."""
        fault = self.market_lot.find_fault(quantity)
        if fault is not None:
            raise self._build_refusal(fault)
        return self.floor_to_lot(quantity)

    def round_limit_price(self, price: Decimal, *, is_buy: bool) -> Decimal:
        """`price` rounded to the tick: down for a buy, up for a sale, so that the limit is never exceeded.

        Raises OrderRejected for a buy below the first tick.
        """
        limit = decimals.round_to_step(price, self.tick, ROUND_FLOOR if is_buy else ROUND_CEILING)
        if limit <= 0:
            raise self._build_refusal(
                f"price {decimals.format_plain(price)} is below the tick of {decimals.format_plain(self.tick)}"
            )
        return limit

    def _build_refusal(self, reason: str) -> OrderRejected:
        return OrderRejected(f"{self.symbol}: {reason}", "filter")
