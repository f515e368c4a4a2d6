"""One account of the simulated venue: orders, netted positions, fees, balance and income, in exact decimals.

Simplifications: one-way mode; orders fill in full, market orders at once and at the best bid or ask whatever their
size. Partial, delayed and level-by-level fills of market orders can be switched on.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from simulator.venue.api_error import VenueApiError
from simulator.venue.commissions import DOLLAR, CoinPrice, calculate_commission, get_constant_price, split_quantity

START_BALANCE: Final = Decimal(10_000)
TAKER_RATE: Final = Decimal("0.0004")
MAKER_RATE: Final = Decimal("0.0002")
MIN_NOTIONAL: Final = Decimal(5)
DEFAULT_LEVERAGE: Final = 20
ZERO: Final = Decimal(0)

OrderKind = Literal["MARKET", "LIMIT", "STOP_MARKET", "TAKE_PROFIT_MARKET"]
ORDER_KINDS: Final = ("MARKET", "LIMIT", "STOP_MARKET", "TAKE_PROFIT_MARKET")
AutoClose = Literal["LIQUIDATION", "ADL"]


@dataclass
class Order:
    """An order; times are market time in ms."""

    order_id: int
    client_order_id: str
    symbol: str
    kind: OrderKind
    is_buy: bool
    quantity: Decimal
    reduce_only: bool
    close_position: bool
    price: Decimal  # limit price, 0 for the others
    stop_price: Decimal  # trigger, 0 for the others
    created_ms: int
    updated_ms: int
    status: str = "NEW"
    filled: Decimal = ZERO
    average: Decimal = ZERO
    rests: bool = True  # False: immediate or cancel
    fill_at_ms: int | None = None  # when a slow market order fills; None: at once
    unfilled: Decimal = ZERO  # the part of a market order that expires
    auto_close: AutoClose | None = None  # why the venue itself made the order
    trades: int = 1  # in how many trades it fills, as far as there are whole lots for them
    lot_decimals: int = 3

    @property
    def triggers_above(self) -> bool:
        """Whether the order waits for a rise (sell limits, sell take-profits, buy stops) rather than a fall."""
        return self.is_buy if self.kind == "STOP_MARKET" else not self.is_buy

    @property
    def level(self) -> Decimal:
        return self.price if self.kind == "LIMIT" else self.stop_price

    def is_reached(self, *, high: Decimal, low: Decimal) -> bool:
        """Whether a market between `low` and `high` reached the level of an open order."""
        return high >= self.level if self.triggers_above else low <= self.level


@dataclass
class Holding:
    """The netted position of one symbol: `amount` is negative when short."""

    amount: Decimal = ZERO
    entry_price: Decimal = ZERO
    leverage: int = DEFAULT_LEVERAGE
    margin_type: str = "cross"
    changed_ms: int = 0  # when a trade last changed the amount


@dataclass(frozen=True)
class Fill:
    """One trade, a row of `userTrades`."""

    trade_id: int
    order: Order
    price: Decimal
    quantity: Decimal
    commission: Decimal
    realized: Decimal
    at_ms: int
    is_maker: bool
    asset: str = DOLLAR  # of the commission


@dataclass(frozen=True)
class Income:
    """One change of the balance, a row of `income`; `symbol` is empty and `trade_id` None where there is none."""

    income_id: int
    kind: str
    symbol: str
    amount: Decimal
    trade_id: int | None
    at_ms: int
    asset: str = DOLLAR


@dataclass
class Account:
    """`balance` is changed by `pay` only, so that it is the sum of all `incomes` in dollars, the first deposit
    included.

    With a `fee_coin` commissions are paid in that coin, which the balance does not hold, as long as `fee_coin_left`
    (None: unlimited) is enough for the whole commission of a trade.
    """

    balance: Decimal = START_BALANCE
    holdings: dict[str, Holding] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    incomes: list[Income] = field(default_factory=list)
    fee_coin: str | None = None
    fee_coin_left: Decimal | None = None
    coin_price: CoinPrice = field(default=get_constant_price, repr=False, compare=False)
    checked_ms: int = 0  # until when held orders have been compared with the market
    funded_ms: dict[str, int] = field(default_factory=dict)  # until when funding of a symbol has been paid
    has_unsaved_funding: bool = False  # since the account was saved
    unsaved_orders: list[Order] = field(default_factory=list)  # changed since the account was saved

    @classmethod
    def open_at(cls, at_ms: int) -> "Account":
        """A new account with its first deposit."""
        account = cls(balance=ZERO, checked_ms=at_ms)
        account.pay("TRANSFER", "", START_BALANCE, at_ms)
        return account

    def get_holding(self, symbol: str) -> Holding:
        return self.holdings.setdefault(symbol, Holding())

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        return [o for o in self.orders.values() if o.status == "NEW" and symbol in (None, o.symbol)]

    def find(self, symbol: str, order_id: int | None, client_order_id: str | None) -> Order | None:
        """By order id, else the newest with that client id (which is unique among open orders only)."""
        for order in reversed(self.orders.values()):
            by_id = order_id is not None and order.order_id == order_id
            by_client_id = order_id is None and order.client_order_id == client_order_id
            if order.symbol == symbol and (by_id or by_client_id):
                return order
        return None

    def accept(
        self,
        order: Order,
        bid: Decimal,
        ask: Decimal,
        level_fills: list[tuple[Decimal, Decimal]] | None = None,
        *,
        min_notional: Decimal = MIN_NOTIONAL,
    ) -> None:
        """Accepts `order`; a market order is filled at once, by `level_fills` (prices, quantities) if given.

        Raises VenueApiError and then changes nothing.
        """
        # As at the venues, a client order id may be used again once its order has ended.
        if any(o.client_order_id == order.client_order_id for o in self.open_orders()):
            raise VenueApiError(-4115, "ClientOrderId is duplicated among open orders.")
        is_market = order.kind == "MARKET"
        at_once = order.fill_at_ms is None if is_market else order.is_reached(high=bid, low=ask)
        if at_once and order.kind not in ("MARKET", "LIMIT"):
            raise VenueApiError(-2021, "Order would immediately trigger.")
        self._check_order(order, ask if order.is_buy else bid, min_notional)
        self.orders[order.order_id] = order
        self.unsaved_orders.append(order)
        if at_once:
            best = ask if order.is_buy else bid
            self.fill(order, best, order.created_ms, is_maker=False, level_fills=level_fills)
        elif not order.rests:
            order.status = "EXPIRED"

    def cancel(self, order: Order, at_ms: int) -> None:
        self.end(order, "CANCELED", at_ms)

    def end(self, order: Order, status: str, at_ms: int) -> None:
        """Ends `order` without a fill."""
        order.status, order.updated_ms = status, at_ms
        self.unsaved_orders.append(order)

    def fill(
        self,
        order: Order,
        price: Decimal,
        at_ms: int,
        *,
        is_maker: bool,
        level_fills: list[tuple[Decimal, Decimal]] | None = None,
    ) -> None:
        """Executes `order` at `price`, or by `level_fills`: commission, realised profit and the netted position.

        A reduction is limited to the position. What cannot be filled expires.
        """
        wanted = self._calculate_executable_quantity(order) - order.unfilled
        by_price = [(price, wanted)] if level_fills is None else _limit_level_fills(level_fills, wanted)
        quantity = sum((part for _, part in by_price), ZERO)
        order.unfilled += wanted - quantity
        order.updated_ms = at_ms
        self.unsaved_orders.append(order)
        if quantity <= 0:
            order.status = "EXPIRED"
            return
        for paid, part in by_price:
            for piece in split_quantity(part, order.trades, order.lot_decimals):
                self.trade(order, piece, paid, at_ms, is_maker=is_maker)
        order.quantity = quantity + order.unfilled
        order.status = "EXPIRED" if order.unfilled else "FILLED"

    def trade(
        self,
        order: Order,
        quantity: Decimal,
        price: Decimal,
        at_ms: int,
        *,
        is_maker: bool,
        trade_id: int | None = None,
    ) -> Fill:
        """Adds one trade to `order`, to the netted position and to the balance.

        `trade_id` is given for the second side of a trade of the account with itself.
        """
        paid, asset = self._charge_commission(quantity * price * (MAKER_RATE if is_maker else TAKER_RATE), at_ms)
        holding = self.get_holding(order.symbol)
        realized = _apply_trade(holding, quantity if order.is_buy else -quantity, price)
        holding.changed_ms = at_ms
        filled = order.filled + quantity
        order.average = price if not order.filled else (order.filled * order.average + quantity * price) / filled
        order.filled = filled
        trade_id = trade_id or len(self.fills) + 1
        if realized:
            self.pay("REALIZED_PNL", order.symbol, realized, at_ms, trade_id)
        self.pay("COMMISSION", order.symbol, -paid, at_ms, trade_id, asset)
        self.fills.append(Fill(trade_id, order, price, quantity, paid, realized, at_ms, is_maker, asset))
        return self.fills[-1]

    def pay(
        self, kind: str, symbol: str, amount: Decimal, at_ms: int, trade_id: int | None = None, asset: str = DOLLAR
    ) -> None:
        """Adds `amount` to `incomes` and, in dollars, to the balance; it may be negative."""
        if asset == DOLLAR:
            self.balance += amount
        self.incomes.append(Income(len(self.incomes) + 1, kind, symbol, amount, trade_id, at_ms, asset))

    def receive_funding(self, symbol: str, amount: Decimal, at_ms: int) -> None:
        """Books a payment of funding, which may be negative; nothing if it is 0."""
        if amount:
            self.pay("FUNDING_FEE", symbol, amount, at_ms)
            self.has_unsaved_funding = True

    def _charge_commission(self, dollars: Decimal, at_ms: int) -> tuple[Decimal, str]:
        """Amount and asset of a trade's commission; deducts it from the coin if it is paid in that."""
        paid, asset = calculate_commission(dollars, self.fee_coin, self.fee_coin_left, self.coin_price, at_ms)
        if asset != DOLLAR and self.fee_coin_left is not None:
            self.fee_coin_left -= paid
        return paid, asset

    def _calculate_executable_quantity(self, order: Order) -> Decimal:
        if not (order.reduce_only or order.close_position):
            return order.quantity
        amount = self.get_holding(order.symbol).amount
        opposite = max(ZERO, -amount if order.is_buy else amount)
        return opposite if order.close_position else min(order.quantity, opposite)

    def _check_order(self, order: Order, price: Decimal, min_notional: Decimal) -> None:
        if order.reduce_only or order.close_position:
            if self._calculate_executable_quantity(order) <= 0:
                raise VenueApiError(-2022, "ReduceOnly Order is rejected.")
            return
        if order.quantity * price < min_notional:
            raise VenueApiError(-4164, f"Order's notional must be no smaller than {min_notional} (unless reduce only).")
        holding = self.get_holding(order.symbol)
        after = holding.amount + (order.quantity if order.is_buy else -order.quantity)
        # Only an increase needs margin: a reduction, or a reversal up to the same size, is paid by what it frees.
        more = max(ZERO, abs(after) - abs(holding.amount)) * price / holding.leverage
        if more > self.balance - self.calculate_initial_margin():
            raise VenueApiError(-2019, "Margin is insufficient.")

    def calculate_initial_margin(self) -> Decimal:
        """Initial margin of all positions, at their entry prices."""
        return sum((abs(h.amount) * h.entry_price / h.leverage for h in self.holdings.values()), ZERO)


def _limit_level_fills(level_fills: list[tuple[Decimal, Decimal]], wanted: Decimal) -> list[tuple[Decimal, Decimal]]:
    """`level_fills` up to a quantity of `wanted`."""
    parts = []
    for price, quantity in level_fills:
        part = min(quantity, wanted)
        if part > 0:
            parts.append((price, part))
            wanted -= part
    return parts


def _apply_trade(holding: Holding, change: Decimal, price: Decimal) -> Decimal:
    """Applies a signed `change` at `price`; returns the realised profit."""
    before, after = holding.amount, holding.amount + change
    realized = ZERO
    if before * change >= 0:  # the same side: the entry price is averaged
        holding.entry_price = (abs(before) * holding.entry_price + abs(change) * price) / abs(after)
    else:
        closed = min(abs(before), abs(change))
        realized = closed * (price - holding.entry_price) * (1 if before > 0 else -1)
        if before * after <= 0:
            holding.entry_price = price if after else ZERO
    holding.amount = after
    return realized
