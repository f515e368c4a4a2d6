"""The simulated venue itself: markets under one clock, and the accounts that trade on them."""

import itertools
from collections.abc import Mapping
from decimal import Decimal

from simulator.aster_shapes import MOST_LEVERAGE
from simulator.candles import MINUTE_MS
from simulator.ledger import KINDS, ZERO, Account, Holding, Order
from simulator.market import Market, MarketClock
from simulator.refusals import AsterRefusal


class Exchange:
    """All that the HTTP routes speak to. One thread at a time: the server's event loop."""

    def __init__(self, markets: dict[str, Market], clock: MarketClock) -> None:
        self.markets = markets
        self.clock = clock
        self._accounts: dict[str, Account] = {}
        self._order_ids = itertools.count(1)

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

    def account(self, user: str) -> Account:
        """The user's account, opened on first sight, with every held order that the market has reached filled."""
        now_ms = self.clock.now_ms()
        account = self._accounts.setdefault(user, Account(checked_ms=now_ms))
        for order in account.open_orders():
            self._settle(account, order, now_ms)
        account.checked_ms = now_ms
        return account

    def unrealized(self, account: Account) -> Decimal:
        pairs = account.holdings.items()
        return sum((held.amount * (self.price(symbol) - held.entry_price) for symbol, held in pairs), ZERO)

    def place(self, user: str, given: Mapping[str, str]) -> Order:
        """A new order from Aster's parameters. Raises AsterRefusal."""
        account = self.account(user)
        order = self._order(given)
        market = self.markets[order.symbol]
        bid, ask = (exact(price, market.decimals) for price in market.book(order.created_ms))
        account.accept(order, bid, ask)
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
        order.status, order.updated_ms = "CANCELED", self.clock.now_ms()
        return order

    def set_leverage(self, user: str, given: Mapping[str, str]) -> Holding:
        self.market(given.get("symbol"))
        leverage = given.get("leverage", "")
        if not leverage.isdecimal() or not 1 <= int(leverage) <= MOST_LEVERAGE:
            raise AsterRefusal(-4028, f"Leverage {leverage} is not valid")
        holding = self.account(user).holding(given["symbol"])
        holding.leverage = int(leverage)
        return holding

    def _settle(self, account: Account, order: Order, now_ms: int) -> None:
        """Fills a held order in the first minute since the last look that reached its level, at that level."""
        market = self.markets[order.symbol]
        since_ms = max(account.checked_ms, order.created_ms)
        minutes = (now_ms - now_ms % MINUTE_MS - (since_ms - since_ms % MINUTE_MS)) // MINUTE_MS + 1
        for candle in market.candles(now_ms, 1, minutes):
            high, low = exact(candle.high, market.decimals), exact(candle.low, market.decimals)
            if order.is_reached(high=high, low=low):
                at_ms = min(now_ms, candle.open_time_ms + MINUTE_MS)
                account.fill(order, order.level, at_ms, is_maker=order.kind == "LIMIT")
                return

    def _order(self, given: Mapping[str, str]) -> Order:
        market = self.market(given.get("symbol"))
        kind, side = given.get("type", ""), given.get("side", "")
        if kind not in KINDS:
            raise AsterRefusal(-1116, "Invalid orderType.")
        if side not in ("BUY", "SELL"):
            raise AsterRefusal(-1117, "Invalid side.")
        order_id, now_ms = next(self._order_ids), self.clock.now_ms()
        client_order_id = given.get("newClientOrderId") or f"web_{order_id}"
        if len(client_order_id) > 36:
            raise AsterRefusal(-4015, "Client order id length should not be more than 36 chars")
        close_position = given.get("closePosition") == "true"
        needs_price, needs_stop = kind == "LIMIT", kind in ("STOP_MARKET", "TAKE_PROFIT_MARKET")
        return Order(
            order_id=order_id,
            client_order_id=client_order_id,
            symbol=given["symbol"],
            kind=kind,  # type: ignore[arg-type] # one of KINDS, as checked above
            is_buy=side == "BUY",
            quantity=ZERO if close_position else _number(given, "quantity", market.lot_decimals),
            reduce_only=given.get("reduceOnly", "").lower() == "true",
            close_position=close_position,
            price=_number(given, "price", market.decimals) if needs_price else ZERO,
            stop_price=_number(given, "stopPrice", market.decimals) if needs_stop else ZERO,
            created_ms=now_ms,
            updated_ms=now_ms,
        )


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
