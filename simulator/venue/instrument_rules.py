"""The listing of one symbol, and the filters that refuse orders, with the error codes of Binance's futures.

Source: Binance's and Aster's lists of error codes and filters. Market orders, and stops and targets that act at the
market, have to satisfy MARKET_LOT_SIZE and the step of LOT_SIZE; limit orders LOT_SIZE alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from simulator.market.market import Market
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import MIN_NOTIONAL, ZERO, Order

TRADING: Final = "TRADING"
QUOTES: Final = ("USDT", "USDC", "USD")
ONE: Final = Decimal(1)


@dataclass
class LotRule:
    """A LOT_SIZE or MARKET_LOT_SIZE filter; 0 is no bound."""

    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal

    def check(self, quantity: Decimal) -> None:
        """Raises VenueApiError."""
        if self.max_quantity and quantity > self.max_quantity:
            raise VenueApiError(-4005, "Quantity greater than max quantity.")
        if self.step and _count_decimals(quantity) > _count_decimals(self.step):
            raise VenueApiError(-1111, "Precision is over the maximum defined for this asset.")
        if quantity < self.min_quantity:
            raise VenueApiError(-4004, "Quantity less than min quantity.")
        if self.step and quantity % self.step:
            raise VenueApiError(-4023, "Quantity not increased by step size.")


@dataclass
class InstrumentRules:
    """One row of exchangeInfo. `contract_type` None leaves the field out; `pair` is the perpetual's name.

    `refused_with`, if set, replaces the filters' own codes. `reductions_refused` refuses
    reductions too while the status is not TRADING.
    """

    tick: Decimal
    lot: LotRule
    market_lot: LotRule
    pair: str
    min_notional: Decimal = MIN_NOTIONAL
    multiplier_up: Decimal | None = None
    multiplier_down: Decimal | None = None
    max_stops: int | None = None
    status: str = TRADING
    contract_type: str | None = "PERPETUAL"
    maintenance_percent: Decimal = Decimal("2.5")
    refused_with: int | None = None
    reductions_refused: bool = False
    price_decimals: int = field(default=0)
    quantity_decimals: int = field(default=0)

    @classmethod
    def from_market(cls, symbol: str, market: Market) -> "InstrumentRules":
        """The default listing of a market."""
        step = ONE.scaleb(-market.lot_decimals)
        most = Decimal(market.max_quantity)
        return cls(
            tick=ONE.scaleb(-market.decimals),
            lot=LotRule(step, step, most),
            market_lot=LotRule(step, step, most),
            pair=symbol.partition("_")[0],
            price_decimals=market.decimals,
            quantity_decimals=market.lot_decimals,
        )

    @property
    def step(self) -> Decimal:
        """The step of market orders; without a filter, the smallest that the decimals allow."""
        return max(self.lot.step, self.market_lot.step) or ONE.scaleb(-self.quantity_decimals)

    @property
    def lot_decimals(self) -> int:
        """Decimals of a quantity; those of the default listing where LOT_SIZE has no step."""
        return _count_decimals(self.lot.step) if self.lot.step else self.quantity_decimals

    def parse_quantity(self, params: Mapping[str, str]) -> Decimal:
        """The quantity of an order. Raises VenueApiError."""
        quantity = parse_number(params, "quantity")
        if quantity <= 0:
            raise VenueApiError(-4003, "Quantity less than or equal to zero.")
        try:
            if params.get("type") != "LIMIT":
                self.market_lot.check(quantity)
                LotRule(self.lot.step, ZERO, ZERO).check(quantity)
            else:
                self.lot.check(quantity)
        except VenueApiError as refusal:
            raise self._with_code(refusal) from refusal
        return quantity

    def parse_price(self, params: Mapping[str, str], name: str) -> Decimal:
        """The limit or the trigger of an order. Raises VenueApiError."""
        price = parse_number(params, name)
        if price <= 0:
            raise VenueApiError(-4001 if name == "price" else -4006, "Price less than 0.")
        if price % self.tick:
            most = max(self.price_decimals, _count_decimals(self.tick))
            if _count_decimals(price) > most:
                raise self._with_code(VenueApiError(-1111, "Precision is over the maximum defined for this asset."))
            raise self._with_code(VenueApiError(-4014, "Price not increased by tick size."))
        return price

    def check_status(self, *, is_reduction: bool) -> None:
        """Raises VenueApiError while the symbol is not traded."""
        if self.status == TRADING or (is_reduction and not self.reductions_refused):
            return
        if is_reduction:
            raise VenueApiError(-1122, "Invalid symbol status.")
        raise VenueApiError(-4140, "Invalid symbol status for opening position.")

    def check_price_band(self, order: Order, mark: Decimal, bid: Decimal, ask: Decimal) -> None:
        """PERCENT_PRICE limits buys above and sales below the mark price. Raises VenueApiError."""
        if order.kind not in ("LIMIT", "MARKET"):
            return
        is_market = order.kind == "MARKET"
        price = order.price if not is_market else ask if order.is_buy else bid
        is_above = order.is_buy and self.multiplier_up is not None and price > mark * self.multiplier_up
        is_below = not order.is_buy and self.multiplier_down is not None and price < mark * self.multiplier_down
        if not (is_above or is_below):
            return
        if is_market:
            message = "The counterparty's best price does not meet the PERCENT_PRICE filter limit."
            raise self._with_code(VenueApiError(-4131, message))
        code, side = (-4016, "higher than the highest") if is_above else (-4024, "lower than the lowest")
        raise self._with_code(VenueApiError(code, f"Limit price can't be {side} price of the PERCENT_PRICE filter."))

    def check_stops(self, waiting: int) -> None:
        """Checks that one more stop may be placed beside `waiting` others. Raises VenueApiError."""
        if self.max_stops is not None and waiting >= self.max_stops:
            raise VenueApiError(-4045, "Reach max stop order limit.")

    def _with_code(self, refusal: VenueApiError) -> VenueApiError:
        return refusal if self.refused_with is None else VenueApiError(self.refused_with, str(refusal))


def parse_number(params: Mapping[str, str], name: str) -> Decimal:
    """The decimal number `name`. Raises VenueApiError if it is missing or not a number."""
    text = params.get(name, "")
    if not text.replace(".", "", 1).isdecimal():
        raise VenueApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return Decimal(text)


def _count_decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
