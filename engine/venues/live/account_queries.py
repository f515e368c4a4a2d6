"""What an account tells of itself: its record (see `AccountRecord`), positions, open orders, balance and settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import ccxt

from engine.domain.errors import StrategyFault
from engine.platform.errors import UpstreamUnavailable
from engine.venues.account_record import AccountTrade, Forced, ForcedOrder, Income
from engine.venues.account_setup import AccountState
from engine.venues.ccxt_client.venue_clock import offset_s
from engine.venues.live import parsers
from engine.venues.live import record_parsers as rows
from engine.venues.live.account_setup_query import read_state
from engine.venues.live.conditional_orders import ConditionalOrders
from engine.venues.live.record_pages import WEEK_MS, Pages, Row, once, windows
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import contract_size, is_linear_perpetual, record_market
from engine.venues.venue import Balance, OpenOrder, VenuePosition

MOST_ROWS: Final = 1_000
MOST_FORCED: Final = 100
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Endpoints:
    """ccxt's names for what a venue is asked."""

    trades: str
    income: str
    forced: str
    order: str
    positions: str


V3: Final = "fapiPrivateGetV3"
BINANCE: Final = Endpoints(
    "fapiPrivateGetUserTrades",
    "fapiPrivateGetIncome",
    "fapiPrivateGetForceOrders",
    "fapiPrivateGetOrder",
    "fapiPrivateV3GetPositionRisk",
)
ENDPOINTS: Final[Mapping[str, Endpoints]] = {
    "aster": Endpoints(f"{V3}UserTrades", f"{V3}Income", f"{V3}ForceOrders", f"{V3}Order", f"{V3}PositionRisk"),
    "binance": BINANCE,
    "binanceusdm": BINANCE,
}


class CcxtRecord(ABC):
    """Every question takes its own turn at the account, so that an exit need not wait for the end of a long record."""

    _exchange: Any
    _conditional: ConditionalOrders
    _coins: CoinPrices

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """The account's turn, in which ccxt's errors become ours."""

    def trades(
        self, symbol: str, *, since_ms: int | None = None, after_id: int | None = None
    ) -> tuple[AccountTrade, ...]:
        pages = Pages(f"trades in {symbol}", MOST_ROWS)

        def ask(**query: int) -> list[AccountTrade]:
            told = self._told("trades", symbol, limit=MOST_ROWS, **query)
            return [rows.account_trade(row, symbol) for row in told]

        if after_id is not None:
            found = pages.above(lambda first: self._turn(lambda: ask(fromId=first)), after_id)
        else:
            found = self._since(pages, ask, since_ms or 0, WEEK_MS)
        with self._asking():
            return tuple(sorted(once(found, _trade_key), key=lambda trade: trade.trade_id))

    def forced_orders(self, symbol: str, since_ms: int) -> tuple[ForcedOrder, ...]:
        def ask(**query: int) -> list[ForcedOrder]:
            told = self._told("forced", symbol, limit=MOST_FORCED, **query)
            adl = self._adl(symbol, query) if any(rows.cause_of(row) is None for row in told) else frozenset()
            return [rows.forced_order(row, symbol, adl) for row in told]

        found = self._since(Pages(f"forced orders in {symbol}", MOST_FORCED), ask, since_ms, WEEK_MS)
        with self._asking():
            return tuple(once((order for order in found if order.quantity), lambda order: order.order_id))

    def income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        asked: dict[str, object] = {"limit": MOST_ROWS} | ({} if kind is None else {"incomeType": kind})

        def ask(**query: int) -> list[Income]:
            if symbol is not None:
                return [rows.income(row, symbol) for row in self._told("income", symbol, **asked, **query)]
            told = rows.rows_of(self._endpoint("income")({**asked, **query}), None)
            return [rows.income(row, self._symbol_told(row)) for row in told]

        found = self._since(Pages(f"income in {symbol or 'all symbols'}", MOST_ROWS), ask, since_ms, None)
        with self._asking():
            return tuple(once(found, lambda row: (row.symbol, row.income_id)))

    def client_order_id(self, symbol: str, order_id: str) -> str | None:
        with self._asking():
            ask = self._endpoint("order")
            try:
                row = ask({"symbol": record_market(self._exchange, symbol)["id"], "orderId": order_id})
            except ccxt.OrderNotFound:
                return None
            if rows.name(row["orderId"]) != order_id:
                raise ValueError(f"asked about order {order_id}, the venue told of {row['orderId']}")
            return str(row["clientOrderId"])

    def worth_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        with self._asking():
            return self._coins.worth_usd(asset, amount, at_ms)

    def positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        with self._asking():
            market = None if symbol is None else record_market(self._exchange, symbol)
            if self._exchange.id not in ENDPOINTS:
                found = self._unified_positions(market)
            else:
                query = {} if market is None else {"symbol": market["id"]}
                told = rows.rows_of(self._endpoint("positions")(query), query.get("symbol"))
                found = [rows.position(row, self._symbol(row["symbol"])) for row in told]
        return tuple(position for position in found if position is not None)

    def orders_open(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        with self._asking():
            self._exchange.listing.bring(self._exchange)
            unified = None if symbol is None else record_market(self._exchange, symbol)["symbol"]
            self._exchange.options["fetchOpenOrders"] = {"warnIfNoSymbol": False}  # its weight is the caller's choice
            rows = [*self._exchange.fetch_open_orders(unified), *self._conditional.open(unified)]
            found = [self._open_order(row) for row in rows]
        wanted = [each for each in found if symbol in (None, each.symbol)]
        return tuple(sorted(wanted, key=lambda order: order.at_ms))

    def _open_order(self, row: Mapping[str, Any]) -> OpenOrder:
        """Under the venue's own name where it is of no perpetual that is listed."""
        market = self._exchange.markets.get(row["symbol"])
        if market is None:
            return parsers.open_order(row, str(row["info"].get("symbol") or row["symbol"]), Decimal(1))
        return parsers.open_order(row, parsers.symbol_of(market), contract_size(market))

    def balance(self) -> Balance:
        with self._asking():
            return parsers.balance(self._exchange.fetch_balance())

    def state(self) -> AccountState:
        return read_state(self._exchange, self._asking)

    def clock_offset_s(self) -> float:
        """How many seconds the venue's clock is ahead of this host's. Raises as `quote` does."""
        with self._asking():
            return offset_s(self._exchange)

    def _unified_positions(self, market: Mapping[str, Any] | None) -> list[VenuePosition | None]:
        told = self._exchange.fetch_positions(None if market is None else [market["symbol"]])
        return [parsers.position(row, self._exchange.market(row["symbol"])) for row in told]

    def _symbol(self, market_id: str) -> str:
        """Ours for a perpetual; the venue's own for anything else, which may have the same base and quote."""
        self._exchange.listing.bring(self._exchange)
        listed = self._exchange.markets_by_id.get(market_id, [])
        return next((parsers.symbol_of(market) for market in listed if is_linear_perpetual(market)), market_id)

    def _symbol_told(self, row: rows.Row) -> str:
        """The symbol of a row of income, in whatever letters; empty where it is about none (a transfer)."""
        told = row.get("symbol")
        return self._symbol(str(told).upper()) if told else ""

    def _since(
        self, pages: Pages, ask: Callable[..., Sequence[Row]], since_ms: int, length_ms: int | None
    ) -> list[Row]:
        now_ms = self._turn(lambda: int(self._exchange.fetch_time()))

        def between(start_ms: int, end_ms: int | None) -> Sequence[Row]:
            until = {} if end_ms is None else {"endTime": end_ms}
            return self._turn(lambda: ask(startTime=start_ms, **until))

        found: list[Row] = []
        for start_ms, end_ms in windows(since_ms, now_ms, length_ms):
            found += pages.between(between, start_ms, end_ms)
        return [row for row in found if row.at_ms >= since_ms]

    def _adl(self, symbol: str, query: Mapping[str, int]) -> frozenset[str]:
        """Order ids of the forced orders that the venue itself calls ADL."""
        told = self._told("forced", symbol, limit=MOST_FORCED, autoCloseType=str(Forced.ADL).upper(), **query)
        return frozenset(rows.name(row["orderId"]) for row in told)

    def _told(self, what: str, symbol: str, **query: object) -> list[rows.Row]:
        ask = self._endpoint(what)
        market_id = record_market(self._exchange, symbol)["id"]
        try:
            return rows.rows_of(ask({"symbol": market_id, **query}), market_id)
        except ccxt.BadSymbol as error:
            raise StrategyFault(f"{self._exchange.id} tells nothing of {symbol}, which it does not list") from error

    def _endpoint(self, what: str) -> Callable[[Mapping[str, object]], Any]:
        endpoints = ENDPOINTS.get(self._exchange.id)
        if endpoints is None:
            raise UpstreamUnavailable("venue", f"{self._exchange.id}'s record of an account cannot be read here")
        ask: Callable[[Mapping[str, object]], Any] = getattr(self._exchange, getattr(endpoints, what))
        return ask

    def _turn(self, ask: Callable[[], Answer]) -> Answer:
        with self._asking():
            return ask()


def _trade_key(trade: AccountTrade) -> tuple[int, str, bool]:
    """Both sides of a trade of the account with itself have one id."""
    return trade.trade_id, trade.order_id, trade.is_buy
