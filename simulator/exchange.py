"""The simulated venue itself: markets under one clock, and the accounts that trade on them."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Final

from simulator.account_book import AccountBook
from simulator.account_settings import AccountSettings
from simulator.aster_shapes import MOST_LEVERAGE
from simulator.aster_weights import Meter
from simulator.funding import FundingSchedule
from simulator.ledger import KINDS, ZERO, Account, Holding, Kind, Order
from simulator.market import Market, MarketClock
from simulator.refusals import AsterRefusal

Event = tuple[int, int, Order, Decimal]  # when, order id, order, price
WHOLE: Final = Decimal(100)
LATEST_MS: Final = 2**62


@dataclass
class RecordManners:
    """How what the venue tells of an account's past differs from what happened.

    `lag_ms` of market time pass before trades, income and forced orders are shown; before income at least
    `income_lag_ms`. `trades_hidden` keeps the trades of
    forced orders out of the trades, `forced_hidden` forced orders out of their list. Without `rows_of_flat` a symbol
    that has neither position nor order is left out of the positions.
    """

    lag_ms: int = 0
    income_lag_ms: int = 0
    trades_hidden: bool = False
    forced_hidden: bool = False
    rows_of_flat: bool = True

    def newest_ms(self, now_ms: int) -> int:
        """Until when the record is shown. A market that was started over may be behind its accounts."""
        return now_ms - self.lag_ms if self.lag_ms else LATEST_MS

    def newest_income_ms(self, now_ms: int) -> int:
        """Until when income is shown."""
        return min(self.newest_ms(now_ms), now_ms - self.income_lag_ms if self.income_lag_ms else LATEST_MS)


class Exchange:
    """All that the HTTP routes speak to. One thread at a time: the server's event loop.

    Accounts live in `book`, where there is one, and outlive the process; `funding` is paid by schedule.
    `fill_delay_ms` (of market time) is how long the next market orders stay NEW, `fill_percent` how much of them is
    filled (the rest expires), and orders of `refused_kinds` are refused. `triggered_end` is the status with which a
    conditional order ends when it triggers.
    """

    def __init__(
        self,
        markets: dict[str, Market],
        clock: MarketClock,
        book: AccountBook | None = None,
        meter: Meter | None = None,
        funding: FundingSchedule | None = None,
    ) -> None:
        self.markets = markets
        self.clock = clock
        self.meter = meter or Meter()
        self.fill_delay_ms = 0
        self.fill_percent = WHOLE
        self.refused_kinds: frozenset[Kind] = frozenset()
        self.triggered_end = "FILLED"
        self.record = RecordManners()
        self.settings = AccountSettings()
        self.funding = funding or FundingSchedule()
        self._book = book
        self._accounts: dict[str, Account] = {} if book is None else book.read()
        newest = (max(account.orders, default=0) for account in self._accounts.values())
        self._order_ids = itertools.count(max(newest, default=0) + 1)

    def market(self, symbol: str | None) -> Market:
        """Raises AsterRefusal for a symbol that is not traded here."""
        if symbol is None:
            raise AsterRefusal(-1102, "Mandatory parameter 'symbol' was not sent.")
        if symbol not in self.markets:
            raise AsterRefusal(-1121, "Invalid symbol.")
        return self.markets[symbol]

    def price(self, symbol: str) -> Decimal:
        market = self.markets[symbol]
        return exact(market.price(self.clock.now_ms()), market.decimals)

    def best(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Bid and ask now."""
        market = self.markets[symbol]
        bid, ask = (exact(price, market.decimals) for price in market.book(self.clock.now_ms()))
        return bid, ask

    def users(self) -> list[str]:
        """Everybody with an account here."""
        return list(self._accounts)

    def new_order_id(self) -> int:
        return next(self._order_ids)

    def account(self, user: str) -> Account:
        """The user's account, opened on first sight, with every held order that the market has reached filled and all
        funding paid that was due, in the order of time."""
        now_ms = self.clock.now_ms()
        account = self._accounts.get(user) or self._opened(user, now_ms)
        due = [event for order in account.open_orders() if (event := self._due(account, order, now_ms)) is not None]
        for at_ms, _, order, price in sorted(due, key=lambda event: event[:2]):
            self._pay_funding(account, at_ms)
            if order.stop_price and self.triggered_end != "FILLED":
                account.end(order, self.triggered_end, at_ms)
            else:
                account.fill(order, price, at_ms, is_maker=order.kind == "LIMIT")
        self._pay_funding(account, now_ms)
        account.checked_ms = now_ms
        return account

    def keep(self, user: str, *, has_asked_only: bool) -> None:
        """Writes what has changed in the user's account to the book; the answer to the user comes after that."""
        account = self._accounts.get(user)
        if account is None or (has_asked_only and not account.changed and not account.was_funded):
            return
        if self._book is not None:
            self._book.write(user, account)
        account.changed.clear()
        account.was_funded = False

    def unrealized(self, account: Account) -> Decimal:
        pairs = account.holdings.items()
        return sum((held.amount * (self.price(symbol) - held.entry_price) for symbol, held in pairs), ZERO)

    def place(self, user: str, given: Mapping[str, str]) -> Order:
        """A new order from Aster's parameters. Raises AsterRefusal."""
        account = self.account(user)
        self.settings.check_order(given)
        order = self.order(given)
        if order.kind in self.refused_kinds:
            raise AsterRefusal(-2010, "New order is rejected.")
        self.settings.check_name(account, order.client_order_id)
        account.accept(order, *self.best(order.symbol))
        return order

    def find(self, user: str, given: Mapping[str, str]) -> Order:
        """The order named by `orderId` or `origClientOrderId`. Raises AsterRefusal when there is none."""
        self.market(given.get("symbol"))
        number = given.get("orderId")
        order_id = int(number) if number and number.isdecimal() else None
        order = self.account(user).find(given["symbol"], order_id, given.get("origClientOrderId"))
        if order is None:
            raise AsterRefusal(-2013, "Order does not exist.")
        return order

    def cancel(self, user: str, given: Mapping[str, str]) -> Order:
        order = self.find(user, given)
        if order.status != "NEW":
            raise AsterRefusal(-2011, "Unknown order sent.")
        self.account(user).cancel(order, self.clock.now_ms())
        return order

    def set_leverage(self, user: str, given: Mapping[str, str]) -> Holding:
        self.market(given.get("symbol"))
        leverage = given.get("leverage", "")
        if not leverage.isdecimal() or not 1 <= int(leverage) <= MOST_LEVERAGE:
            raise AsterRefusal(-4028, f"Leverage {leverage} is not valid")
        holding = self.account(user).holding(given["symbol"])
        holding.leverage = int(leverage)
        return holding

    def _opened(self, user: str, now_ms: int) -> Account:
        account = self._accounts[user] = Account.opened(now_ms)
        self.settings.set_margin_types(account, self.markets)
        self.settings.set_balance(account, now_ms)
        return account

    def _pay_funding(self, account: Account, until_ms: int) -> None:
        """What was due since the last look, on what was held at each moment; a second call finds nothing more."""
        for symbol in self.funding.symbols():
            amount, since_ms = account.holding(symbol).amount, account.funded_ms.get(symbol, account.checked_ms)
            for payment in self.funding.due(symbol, since_ms, until_ms) if amount else ():
                market = self.markets[symbol]
                fee = -amount * exact(market.price(payment.at_ms), market.decimals) * payment.rate
                account.receive_funding(symbol, fee, payment.at_ms + self.funding.manners.late_s * 1_000)
            account.funded_ms[symbol] = max(until_ms, since_ms)

    def _due(self, account: Account, order: Order, now_ms: int) -> Event | None:
        """When and at what price an open order fills between the last look and now; None when it does not."""
        market = self.markets[order.symbol]
        if order.fill_at_ms is not None:
            return self._late(order, order.fill_at_ms) if order.fill_at_ms <= now_ms else None
        # A market that was started over is behind its accounts.
        since_ms = min(now_ms, max(account.checked_ms, order.created_ms))
        for stretch in market.stretches(since_ms, now_ms):
            first, last = (exact(price, market.decimals) for price in (stretch.first, stretch.last))
            if order.is_reached(high=first, low=first):  # the market jumped beyond the level
                return stretch.since_ms, order.order_id, order, order.level if order.kind == "LIMIT" else first
            if order.is_reached(high=last, low=last):
                share = (order.level - first) / (last - first)
                at_ms = stretch.since_ms + int(share * (stretch.until_ms - stretch.since_ms))
                return at_ms, order.order_id, order, order.level
        return None

    def _late(self, order: Order, at_ms: int) -> Event:
        market = self.markets[order.symbol]
        bid, ask = market.book(at_ms)
        return at_ms, order.order_id, order, exact(ask if order.is_buy else bid, market.decimals)

    def order(self, given: Mapping[str, str]) -> Order:
        """An order from Aster's parameters, not placed yet. Raises AsterRefusal."""
        market = self.market(given.get("symbol"))
        kind, side = given.get("type", ""), given.get("side", "")
        if kind not in KINDS:
            raise AsterRefusal(-1116, "Invalid orderType.")
        if side not in ("BUY", "SELL"):
            raise AsterRefusal(-1117, "Invalid side.")
        order_id, now_ms = self.new_order_id(), self.clock.now_ms()
        client_order_id = given.get("newClientOrderId") or f"web_{order_id}"
        if len(client_order_id) > 36:
            raise AsterRefusal(-4015, "Client order id length should not be more than 36 chars")
        if given.get("timeInForce", "GTC") not in ("GTC", "IOC"):
            raise AsterRefusal(-1115, "Invalid timeInForce.")
        close_position = given.get("closePosition") == "true"
        needs_price, needs_stop = kind == "LIMIT", kind in ("STOP_MARKET", "TAKE_PROFIT_MARKET")
        quantity = ZERO if close_position else _number(given, "quantity", market.lot_decimals)
        if quantity > market.most_quantity:
            raise AsterRefusal(-4005, "Quantity greater than max quantity.")
        return Order(
            order_id=order_id,
            client_order_id=client_order_id,
            symbol=given["symbol"],
            kind=kind,  # type: ignore[arg-type] # one of KINDS, as checked above
            is_buy=side == "BUY",
            quantity=quantity,
            reduce_only=given.get("reduceOnly", "").lower() == "true",
            close_position=close_position,
            price=_number(given, "price", market.decimals) if needs_price else ZERO,
            stop_price=_number(given, "stopPrice", market.decimals) if needs_stop else ZERO,
            created_ms=now_ms,
            updated_ms=now_ms,
            rests=given.get("timeInForce") != "IOC",
            fill_at_ms=now_ms + self.fill_delay_ms if kind == "MARKET" and self.fill_delay_ms else None,
            unfilled=self._unfilled(quantity, market.lot_decimals) if kind == "MARKET" else ZERO,
        )

    def _unfilled(self, quantity: Decimal, decimals: int) -> Decimal:
        """What of a market order finds nobody, in whole lots."""
        lot = Decimal(1).scaleb(-decimals)
        return quantity - (quantity * self.fill_percent / WHOLE).quantize(lot, ROUND_FLOOR)


def exact(price: float, decimals: int) -> Decimal:
    return Decimal(f"{price:.{decimals}f}")


def _number(given: Mapping[str, str], name: str, decimals: int) -> Decimal:
    text = given.get(name, "")
    if not text.replace(".", "", 1).isdecimal():
        raise AsterRefusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    number = Decimal(text)
    if number <= 0:
        raise AsterRefusal(-4003, "Quantity less than or equal to zero.")
    if number != round(number, decimals):
        raise AsterRefusal(-1111, "Precision is over the maximum defined for this asset.")
    return number
