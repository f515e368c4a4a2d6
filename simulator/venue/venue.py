"""The simulated venue itself: markets under one clock, and the accounts that trade on them."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from simulator.market.kline_faults import KlineFault
from simulator.market.market import LATEST_MS, Market, MarketClock
from simulator.venue.account_file import AccountFile
from simulator.venue.account_settings import AccountSettings
from simulator.venue.api_error import VenueApiError
from simulator.venue.book_config import BookConfig, Level, calculate_bid_ask, take_levels
from simulator.venue.commissions import get_constant_price
from simulator.venue.funding import FundingSchedule
from simulator.venue.instrument_rules import QUOTES, InstrumentRules
from simulator.venue.margin import MarginConfig
from simulator.venue.trading_account import ORDER_KINDS, ZERO, Account, Holding, Order, OrderKind
from simulator.venue.weight_meter import WeightMeter

FillEvent = tuple[int, int, Order, Decimal]  # when, order id, order, price
FULL_PERCENT: Final = Decimal(100)
MAX_LEVERAGE: Final = 125
REDUCTIONS: Final = ("closePosition", "reduceOnly")


@dataclass
class RecordConfig:
    """Faults in what the venue reports of an account's past.

    Trades, income and forced orders are shown after `lag_ms` of market time, income after `income_lag_ms` at least.
    `trades_hidden` omits the trades of forced orders, `forced_hidden` the forced orders. Without `rows_of_flat` a
    symbol without position and order is omitted from the positions.
    """

    lag_ms: int = 0
    income_lag_ms: int = 0
    trades_hidden: bool = False
    forced_hidden: bool = False
    rows_of_flat: bool = True

    def get_newest_ms(self, now_ms: int) -> int:
        """The newest time that is shown; without a lag all, because a market that was started over may be behind its
        accounts."""
        return now_ms - self.lag_ms if self.lag_ms else LATEST_MS

    def get_newest_income_ms(self, now_ms: int) -> int:
        """The newest time of income that is shown."""
        return min(self.get_newest_ms(now_ms), now_ms - self.income_lag_ms if self.income_lag_ms else LATEST_MS)


class SimulatedVenue:
    """The venue behind the HTTP routes. Not thread-safe: used by the server's event loop only.

    Accounts are kept in `account_file`, if given, and outlive the process; `funding` is paid by schedule.
    `fill_delay_ms` (of market time) is how long new market orders stay NEW, `fill_percent` how much of them is
    filled (the rest expires), and new orders of `refused_kinds` are refused. `triggered_end` is the status with which a
    conditional order ends when it triggers. New orders fill in `trades_per_order` trades.
    """

    def __init__(
        self,
        markets: dict[str, Market],
        clock: MarketClock,
        account_file: AccountFile | None = None,
        meter: WeightMeter | None = None,
        funding: FundingSchedule | None = None,
    ) -> None:
        self.markets = markets
        self.clock = clock
        self.meter = meter or WeightMeter()
        self.fill_delay_ms = 0
        self.fill_percent = FULL_PERCENT
        self.refused_kinds: frozenset[OrderKind] = frozenset()
        self.triggered_end = "FILLED"
        self.trades_per_order = 1
        self.kline_faults: dict[tuple[str, str], list[KlineFault]] = {}  # by symbol and interval
        self.record_config = RecordConfig()
        self.settings = AccountSettings()
        self.book_configs: dict[str, BookConfig] = {}
        self.funding = funding or FundingSchedule()
        self.margin_config = MarginConfig()
        self.delisted: set[str] = set()  # symbols that were listed: the record of an account still knows them
        self._rules: dict[str, InstrumentRules] = {}
        self._account_file = account_file
        self._accounts: dict[str, Account] = {} if account_file is None else account_file.read()
        for account in self._accounts.values():
            account.coin_price = self.get_coin_price
        # Order ids go on after those of the file, because clients remember the ids of earlier orders.
        newest = (max(account.orders, default=0) for account in self._accounts.values())
        self._order_ids = itertools.count(max(newest, default=0) + 1)

    def get_market(self, symbol: str | None) -> Market:
        """Raises VenueApiError for a symbol that is not traded here."""
        if symbol is None:
            raise VenueApiError(-1102, "Mandatory parameter 'symbol' was not sent.")
        if symbol not in self.markets:
            raise VenueApiError(-1121, "Invalid symbol.")
        return self.markets[symbol]

    def get_rules(self, symbol: str) -> InstrumentRules:
        """The listing of a symbol in `markets`; `simulator.control.instrument_control` changes it."""
        if symbol not in self._rules:
            self._rules[symbol] = InstrumentRules.from_market(symbol, self.markets[symbol])
        return self._rules[symbol]

    def forget_rules(self, symbol: str) -> None:
        self._rules.pop(symbol, None)

    def check_symbol_known(self, symbol: str | None) -> None:
        """For queries about a symbol's past. Raises VenueApiError for a symbol that never was listed."""
        if symbol not in self.delisted:
            self.get_market(symbol)

    def get_price(self, symbol: str) -> Decimal:
        market = self.markets[symbol]
        return to_decimal(market.get_price(self.clock.now_ms()), market.decimals)

    def get_best_bid_ask(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Best bid and ask now."""
        market = self.markets[symbol]
        prices = calculate_bid_ask(market, self.get_book_config(symbol), self.clock.now_ms())
        bid, ask = (to_decimal(price, market.decimals) for price in prices)
        return bid, ask

    def get_book_config(self, symbol: str) -> BookConfig:
        """How the symbol is quoted."""
        return self.book_configs.get(symbol) or BookConfig()

    def get_coin_price(self, coin: str, at_ms: int) -> Decimal:
        """The price in dollars at `at_ms` of a coin in which commissions are paid: its market's if one is listed."""
        listed = (self.markets.get(f"{coin}{quote}") for quote in QUOTES)
        market = next((market for market in listed if market is not None), None)
        return (
            get_constant_price(coin, at_ms) if market is None else to_decimal(market.get_price(at_ms), market.decimals)
        )

    def list_users(self) -> list[str]:
        """All users with an account."""
        return list(self._accounts)

    def create_order_id(self) -> int:
        return next(self._order_ids)

    def get_account(self, user: str) -> Account:
        """The user's account, opened at its first use. First fills the open orders that the market has reached and pays
        the funding that was due, in order of time."""
        now_ms = self.clock.now_ms()
        account = self._accounts.get(user) or self._open_account(user, now_ms)
        due = [
            event
            for order in account.open_orders()
            if (event := self._find_fill_event(account, order, now_ms)) is not None
        ]
        for at_ms, _, order, price in sorted(due, key=lambda event: event[:2]):
            self._pay_funding(account, at_ms)  # before the fill changes the position that funding is paid on
            if order.stop_price and self.triggered_end != "FILLED":
                account.end(order, self.triggered_end, at_ms)
            else:
                account.fill(order, price, at_ms, is_maker=order.kind == "LIMIT")
        self._pay_funding(account, now_ms)
        account.checked_ms = now_ms
        return account

    def save_account(self, user: str, *, is_read_only: bool) -> None:
        """Writes what has changed in the user's account to the file; call it before the request is answered."""
        account = self._accounts.get(user)
        if account is None or (is_read_only and not account.unsaved_orders and not account.has_unsaved_funding):
            return
        if self._account_file is not None:
            self._account_file.write(user, account)
        account.unsaved_orders.clear()
        account.has_unsaved_funding = False

    def calculate_unrealized_pnl(self, account: Account) -> Decimal:
        pairs = [(symbol, held) for symbol, held in account.holdings.items() if held.amount]
        return sum((held.amount * (self.get_price(symbol) - held.entry_price) for symbol, held in pairs), ZERO)

    def place_order(self, user: str, params: Mapping[str, str]) -> Order:
        """A new order from Aster's parameters. Raises VenueApiError."""
        account = self.get_account(user)
        self.settings.check_order(params)
        order = self.build_order(params)
        if order.kind in self.refused_kinds:
            raise VenueApiError(-2010, "New order is rejected.")
        self.settings.check_client_order_id(account, order.client_order_id)
        rules, best_prices = self.get_rules(order.symbol), self.get_best_bid_ask(order.symbol)
        rules.check_price_band(order, self.get_price(order.symbol), *best_prices)
        if order.stop_price:
            rules.check_stops(sum(1 for waiting in account.open_orders(order.symbol) if waiting.stop_price))
        account.accept(order, *best_prices, self._find_level_fills(order), min_notional=rules.min_notional)
        return order

    def _find_level_fills(self, order: Order) -> list[Level] | None:
        """What a market order takes from each level of the book; None if it fills at the best price."""
        config = self.get_book_config(order.symbol)
        if order.kind != "MARKET" or not config.fills_through:
            return None
        quantity = order.quantity - order.unfilled
        market = self.markets[order.symbol]
        return take_levels(market, config, self.clock.now_ms(), quantity, is_buy=order.is_buy)

    def find_order(self, user: str, params: Mapping[str, str]) -> Order:
        """The order named by `orderId` or `origClientOrderId`. Raises VenueApiError when there is none."""
        self.check_symbol_known(params.get("symbol"))
        number = params.get("orderId")
        order_id = int(number) if number and number.isdecimal() else None
        order = self.get_account(user).find(params["symbol"], order_id, params.get("origClientOrderId"))
        if order is None:
            raise VenueApiError(-2013, "Order does not exist.")
        return order

    def cancel_order(self, user: str, params: Mapping[str, str]) -> Order:
        order = self.find_order(user, params)
        if order.status != "NEW":
            raise VenueApiError(-2011, "Unknown order sent.")
        self.get_account(user).cancel(order, self.clock.now_ms())
        return order

    def set_leverage(self, user: str, params: Mapping[str, str]) -> Holding:
        self.get_market(params.get("symbol"))
        leverage = params.get("leverage", "")
        if not leverage.isdecimal() or not 1 <= int(leverage) <= MAX_LEVERAGE:
            raise VenueApiError(-4028, f"Leverage {leverage} is not valid")
        holding = self.get_account(user).get_holding(params["symbol"])
        holding.leverage = int(leverage)
        return holding

    def _open_account(self, user: str, now_ms: int) -> Account:
        account = self._accounts[user] = Account.open_at(now_ms)
        account.coin_price = self.get_coin_price
        self.settings.set_margin_types(account, self.markets)
        self.settings.set_balance(account, now_ms)
        return account

    def _pay_funding(self, account: Account, until_ms: int) -> None:
        """Pays what was due since the last call, on the position of each moment; idempotent."""
        for symbol in self.funding.list_symbols():
            amount, since_ms = account.get_holding(symbol).amount, account.funded_ms.get(symbol, account.checked_ms)
            for payment in self.funding.list_due_payments(symbol, since_ms, until_ms) if amount else ():
                market = self.markets[symbol]
                fee = -amount * to_decimal(market.get_price(payment.at_ms), market.decimals) * payment.rate
                account.receive_funding(symbol, fee, payment.at_ms + self.funding.config.late_s * 1_000)
            account.funded_ms[symbol] = max(until_ms, since_ms)

    def _find_fill_event(self, account: Account, order: Order, now_ms: int) -> FillEvent | None:
        """When and at what price an open order has filled since the last check; None if it has not."""
        market = self.markets[order.symbol]
        if order.fill_at_ms is not None:
            return self._build_delayed_fill_event(order, order.fill_at_ms) if order.fill_at_ms <= now_ms else None
        # A market that was started over is behind its accounts.
        since_ms = min(now_ms, max(account.checked_ms, order.created_ms))
        for segment in market.iter_segments(since_ms, now_ms):
            first, last = (to_decimal(price, market.decimals) for price in (segment.first, segment.last))
            if order.is_reached(high=first, low=first):  # the market jumped beyond the level
                return segment.since_ms, order.order_id, order, order.level if order.kind == "LIMIT" else first
            if order.is_reached(high=last, low=last):
                share = (order.level - first) / (last - first)
                at_ms = segment.since_ms + int(share * (segment.until_ms - segment.since_ms))
                return at_ms, order.order_id, order, order.level
        return None

    def _build_delayed_fill_event(self, order: Order, at_ms: int) -> FillEvent:
        market = self.markets[order.symbol]
        bid, ask = calculate_bid_ask(market, self.get_book_config(order.symbol), at_ms)
        return at_ms, order.order_id, order, to_decimal(ask if order.is_buy else bid, market.decimals)

    def build_order(self, params: Mapping[str, str]) -> Order:
        """An order from Aster's parameters, not placed yet. Raises VenueApiError."""
        market = self.get_market(params.get("symbol"))
        rules = self.get_rules(params["symbol"])
        kind, side = params.get("type", ""), params.get("side", "")
        if kind not in ORDER_KINDS:
            raise VenueApiError(-1116, "Invalid orderType.")
        if side not in ("BUY", "SELL"):
            raise VenueApiError(-1117, "Invalid side.")
        order_id, now_ms = self.create_order_id(), self.clock.now_ms()
        client_order_id = params.get("newClientOrderId") or f"web_{order_id}"
        if len(client_order_id) > 36:
            raise VenueApiError(-4015, "Client order id length should not be more than 36 chars")
        if params.get("timeInForce", "GTC") not in ("GTC", "IOC"):
            raise VenueApiError(-1115, "Invalid timeInForce.")
        close_position, reduce_only = (params.get(name, "").lower() == "true" for name in REDUCTIONS)
        needs_price, needs_stop = kind == "LIMIT", kind in ("STOP_MARKET", "TAKE_PROFIT_MARKET")
        rules.check_status(is_reduction=reduce_only or close_position)
        quantity = ZERO if close_position else rules.parse_quantity(params)
        return Order(
            order_id=order_id,
            client_order_id=client_order_id,
            symbol=params["symbol"],
            kind=kind,  # type: ignore[arg-type] # one of KINDS, as checked above
            is_buy=side == "BUY",
            quantity=quantity,
            reduce_only=reduce_only,
            close_position=close_position,
            price=rules.parse_price(params, "price") if needs_price else ZERO,
            stop_price=rules.parse_price(params, "stopPrice") if needs_stop else ZERO,
            created_ms=now_ms,
            updated_ms=now_ms,
            rests=params.get("timeInForce") != "IOC",
            fill_at_ms=now_ms + self.fill_delay_ms if kind == "MARKET" and self.fill_delay_ms else None,
            unfilled=self._calculate_unfilled_quantity(quantity, rules.step) if kind == "MARKET" else ZERO,
            trades=self.trades_per_order,
            lot_decimals=market.lot_decimals,
        )

    def _calculate_unfilled_quantity(self, quantity: Decimal, step: Decimal) -> Decimal:
        """The part of a market order that expires, in whole lots."""
        return quantity - quantity * self.fill_percent / FULL_PERCENT // step * step


def to_decimal(price: float, decimals: int) -> Decimal:
    return Decimal(f"{price:.{decimals}f}")
