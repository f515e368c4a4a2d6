"""Queries about an account: its record (see `AccountRecord`), positions, open orders, balance and settings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

import ccxt

from engine.domain.errors import StrategyFault, VenueUnavailable
from engine.venues.account_record import AccountTrade, ForcedExitCause, ForcedOrder, Income
from engine.venues.account_setup import AccountSetup
from engine.venues.account_state import Balance, OpenOrder, VenuePosition
from engine.venues.ccxt_client.venue_clock import measure_offset_s
from engine.venues.live import parsers
from engine.venues.live import record_parsers as rows
from engine.venues.live.account_setup_query import fetch_account_setup
from engine.venues.live.conditional_orders import TriggerOrders
from engine.venues.live.record_pages import WEEK_MS, PagedReader, Row, deduplicate, split_windows
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import get_contract_size, get_record_market, is_linear_perpetual

MAX_ROWS: Final = 1_000
MAX_FORCED_ORDERS: Final = 100
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Endpoints:
    """ccxt's method names of a venue's endpoints."""

    trades: str
    income: str
    forced: str
    order: str
    positions: str


ASTER_PREFIX: Final = "fapiPrivateGetV3"
BINANCE_ENDPOINTS: Final = Endpoints(
    "fapiPrivateGetUserTrades",
    "fapiPrivateGetIncome",
    "fapiPrivateGetForceOrders",
    "fapiPrivateGetOrder",
    "fapiPrivateV3GetPositionRisk",
)
ENDPOINTS: Final[Mapping[str, Endpoints]] = {
    "aster": Endpoints(
        f"{ASTER_PREFIX}UserTrades",
        f"{ASTER_PREFIX}Income",
        f"{ASTER_PREFIX}ForceOrders",
        f"{ASTER_PREFIX}Order",
        f"{ASTER_PREFIX}PositionRisk",
    ),
    "binance": BINANCE_ENDPOINTS,
    "binanceusdm": BINANCE_ENDPOINTS,
}


class CcxtAccountQueries(ABC):
    """Every request locks the account separately, so that an exit does not wait for a long record."""

    _exchange: Any
    _trigger_orders: TriggerOrders
    _coin_prices: CoinPrices

    @abstractmethod
    def _query(self) -> AbstractContextManager[None]:
        """Locks the account and translates ccxt's errors."""

    def fetch_trades(
        self, symbol: str, *, since_ms: int | None = None, after_id: int | None = None
    ) -> tuple[AccountTrade, ...]:
        pages = PagedReader(f"trades in {symbol}", MAX_ROWS)

        def fetch_page(**query: int) -> list[AccountTrade]:
            raw = self._fetch_rows("trades", symbol, limit=MAX_ROWS, **query)
            return [rows.parse_account_trade(row, symbol) for row in raw]

        if after_id is not None:
            trades = pages.read_above(lambda first: self._run_query(lambda: fetch_page(fromId=first)), after_id)
        else:
            trades = self._fetch_since(pages, fetch_page, since_ms or 0, WEEK_MS)
        with self._query():
            return tuple(sorted(deduplicate(trades, _build_trade_key), key=lambda trade: trade.trade_id))

    def fetch_forced_orders(self, symbol: str, since_ms: int) -> tuple[ForcedOrder, ...]:
        def fetch_page(**query: int) -> list[ForcedOrder]:
            raw = self._fetch_rows("forced", symbol, limit=MAX_FORCED_ORDERS, **query)
            adl = (
                self._fetch_adl_order_ids(symbol, query)
                if any(rows.parse_cause(row) is None for row in raw)
                else frozenset()
            )
            return [rows.parse_forced_order(row, symbol, adl) for row in raw]

        orders = self._fetch_since(
            PagedReader(f"forced orders in {symbol}", MAX_FORCED_ORDERS), fetch_page, since_ms, WEEK_MS
        )
        with self._query():
            return tuple(deduplicate((order for order in orders if order.quantity), lambda order: order.order_id))

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        asked: dict[str, object] = {"limit": MAX_ROWS} | ({} if kind is None else {"incomeType": kind})

        def fetch_page(**query: int) -> list[Income]:
            if symbol is not None:
                return [rows.parse_income(row, symbol) for row in self._fetch_rows("income", symbol, **asked, **query)]
            raw = rows.parse_rows(self._get_endpoint("income")({**asked, **query}), None)
            return [rows.parse_income(row, self._parse_symbol(row)) for row in raw]

        incomes = self._fetch_since(
            PagedReader(f"income in {symbol or 'all symbols'}", MAX_ROWS), fetch_page, since_ms, None
        )
        with self._query():
            return tuple(deduplicate(incomes, lambda row: (row.symbol, row.income_id)))

    def find_client_order_id(self, symbol: str, order_id: str) -> str | None:
        with self._query():
            fetch = self._get_endpoint("order")
            try:
                row = fetch({"symbol": get_record_market(self._exchange, symbol)["id"], "orderId": order_id})
            except ccxt.OrderNotFound:
                return None
            if rows.parse_text(row["orderId"]) != order_id:
                raise ValueError(f"the request was about order {order_id}, the answer is about {row['orderId']}")
            return str(row["clientOrderId"])

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        with self._query():
            return self._coin_prices.convert_to_usd(asset, amount, at_ms)

    def fetch_positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        with self._query():
            market = None if symbol is None else get_record_market(self._exchange, symbol)
            if self._exchange.id not in ENDPOINTS:
                positions = self._fetch_unified_positions(market)
            else:
                query = {} if market is None else {"symbol": market["id"]}
                raw = rows.parse_rows(self._get_endpoint("positions")(query), query.get("symbol"))
                positions = [rows.parse_position(row, self._to_symbol(row["symbol"])) for row in raw]
        return tuple(position for position in positions if position is not None)

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        with self._query():
            self._exchange.listing.update_client(self._exchange)
            unified = None if symbol is None else get_record_market(self._exchange, symbol)["symbol"]
            self._exchange.options["fetchOpenOrders"] = {"warnIfNoSymbol": False}  # its weight is the caller's choice
            rows = [*self._exchange.fetch_open_orders(unified), *self._trigger_orders.fetch_open_orders(unified)]
            orders = [self._parse_open_order(row) for row in rows]
        wanted = [order for order in orders if symbol in (None, order.symbol)]
        return tuple(sorted(wanted, key=lambda order: order.at_ms))

    def _parse_open_order(self, row: Mapping[str, Any]) -> OpenOrder:
        """Under the venue's own name where it is of no perpetual that is listed."""
        market = self._exchange.markets.get(row["symbol"])
        if market is None:
            return parsers.parse_open_order(row, str(row["info"].get("symbol") or row["symbol"]), Decimal(1))
        return parsers.parse_open_order(row, parsers.to_symbol(market), get_contract_size(market))

    def fetch_balance(self) -> Balance:
        with self._query():
            return parsers.parse_balance(self._exchange.fetch_balance())

    def fetch_setup(self) -> AccountSetup:
        return fetch_account_setup(self._exchange, self._query)

    def measure_clock_offset_s(self) -> float:
        """How many seconds the venue's clock is ahead of this host's. Raises as `fetch_quote` does."""
        with self._query():
            return measure_offset_s(self._exchange)

    def _fetch_unified_positions(self, market: Mapping[str, Any] | None) -> list[VenuePosition | None]:
        raw = self._exchange.fetch_positions(None if market is None else [market["symbol"]])
        return [parsers.parse_position(row, self._exchange.market(row["symbol"])) for row in raw]

    def _to_symbol(self, market_id: str) -> str:
        """Our symbol of a perpetual; the venue's id for other markets, which may have the same base and quote."""
        self._exchange.listing.update_client(self._exchange)
        listed = self._exchange.markets_by_id.get(market_id, [])
        return next((parsers.to_symbol(market) for market in listed if is_linear_perpetual(market)), market_id)

    def _parse_symbol(self, row: rows.Row) -> str:
        """The symbol of a row of income, in any case of letters; empty where the row has none (a transfer)."""
        raw = row.get("symbol")
        return self._to_symbol(str(raw).upper()) if raw else ""

    def _fetch_since(
        self, pages: PagedReader, fetch_page: Callable[..., Sequence[Row]], since_ms: int, length_ms: int | None
    ) -> list[Row]:
        now_ms = self._run_query(lambda: int(self._exchange.fetch_time()))

        def fetch_window(start_ms: int, end_ms: int | None) -> Sequence[Row]:
            until = {} if end_ms is None else {"endTime": end_ms}
            return self._run_query(lambda: fetch_page(startTime=start_ms, **until))

        fetched: list[Row] = []
        for start_ms, end_ms in split_windows(since_ms, now_ms, length_ms):
            fetched += pages.read_between(fetch_window, start_ms, end_ms)
        return [row for row in fetched if row.at_ms >= since_ms]

    def _fetch_adl_order_ids(self, symbol: str, query: Mapping[str, int]) -> frozenset[str]:
        """Order ids of the forced orders of the type ADL."""
        raw = self._fetch_rows(
            "forced", symbol, limit=MAX_FORCED_ORDERS, autoCloseType=str(ForcedExitCause.ADL).upper(), **query
        )
        return frozenset(rows.parse_text(row["orderId"]) for row in raw)

    def _fetch_rows(self, what: str, symbol: str, **query: object) -> list[rows.Row]:
        fetch = self._get_endpoint(what)
        market_id = get_record_market(self._exchange, symbol)["id"]
        try:
            return rows.parse_rows(fetch({"symbol": market_id, **query}), market_id)
        except ccxt.BadSymbol as error:
            raise StrategyFault(f"{self._exchange.id} has no record of {symbol}, which it does not list") from error

    def _get_endpoint(self, what: str) -> Callable[[Mapping[str, object]], Any]:
        endpoints = ENDPOINTS.get(self._exchange.id)
        if endpoints is None:
            raise VenueUnavailable(f"{self._exchange.id}'s record of an account cannot be read here")
        fetch: Callable[[Mapping[str, object]], Any] = getattr(self._exchange, getattr(endpoints, what))
        return fetch

    def _run_query(self, fetch: Callable[[], Answer]) -> Answer:
        with self._query():
            return fetch()


def _build_trade_key(trade: AccountTrade) -> tuple[int, str, bool]:
    """A key that distinguishes both sides of a trade of the account with itself, which share one trade id."""
    return trade.trade_id, trade.order_id, trade.is_buy
