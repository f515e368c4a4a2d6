"""What Aster tells of an account's past, in Binance's names and shapes: trades, income and forced orders.

Source: Aster's API documentation (futures V3), whose record is Binance's. From `startTime` or `fromId` on the oldest
come first and the rest is cut off; without either, the newest are told. What is not documented but known: codes -1128
(parameters that exclude each other), -1130 (an unfit value), -4165 (a window of more than seven days) and -4166
(one that starts more than 90 days ago).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from simulator.aster import shapes
from simulator.aster.public_endpoints import integer
from simulator.venue.api_error import AsterRefusal
from simulator.venue.trading_account import Fill, Income, Order
from simulator.venue.venue import LATEST_MS, Exchange

Given = Mapping[str, str]
Row = TypeVar("Row", Fill, Income, Order)
WEEK_MS: Final = 7 * 86_400_000
DEPTH_MS: Final = 90 * 86_400_000
MOST_ROWS: Final = 1_000
MOST_FORCED: Final = 100
FUNDING_FEE: Final = "FUNDING_FEE"
AUTO_CLOSES: Final = (None, "LIQUIDATION", "ADL")


@dataclass(frozen=True)
class Window:
    """A part of the record: rows of these times, and at most `limit` of them."""

    since_ms: int
    until_ms: int
    limit: int
    is_oldest: bool  # the oldest `limit` rows of the window, else the newest

    def cut(self, rows: Iterable[Row], at_ms: Callable[[Row], int]) -> list[Row]:
        """Oldest first."""
        inside = [row for row in rows if self.since_ms <= at_ms(row) <= self.until_ms]
        return inside[: self.limit] if self.is_oldest else inside[-self.limit :]


def user_trades(exchange: Exchange, user: str, given: Given) -> object:
    exchange.check_known(given.get("symbol"))
    limit, first_id = _limit(given, 500, MOST_ROWS), integer(given, "fromId")
    if first_id is not None and ("startTime" in given or "endTime" in given):
        raise AsterRefusal(-1128, "Combination of optional parameters invalid.")
    window = _window(exchange, given, limit)
    fills = [f for f in exchange.account(user).fills if f.order.symbol == given["symbol"]]
    if exchange.record.trades_hidden:
        fills = [fill for fill in fills if fill.order.auto_close is None]
    if first_id is None:
        return [shapes.user_trade(fill) for fill in window.cut(fills, lambda fill: fill.at_ms)]
    newest_ms = exchange.record.newest_ms(exchange.clock.now_ms())
    return [shapes.user_trade(f) for f in fills if f.trade_id >= first_id and f.at_ms <= newest_ms][:limit]


def income(exchange: Exchange, user: str, given: Given) -> object:
    """No limit of the window is documented here."""
    symbol, kind = given.get("symbol"), given.get("incomeType")
    limit = _limit(given, 100, MOST_ROWS)
    window = _window(exchange, given, limit, longest_ms=None)
    newest_ms = exchange.record.newest_income_ms(exchange.clock.now_ms())
    rows = [row for row in exchange.account(user).incomes if symbol in (None, row.symbol) and kind in (None, row.kind)]
    rows = [row for row in rows if row.at_ms <= newest_ms]
    told = [_as_told(exchange, row) for row in window.cut(rows, lambda row: row.at_ms)]
    return [row for row in told for _ in range(_times(exchange, row))][:limit]


def _as_told(exchange: Exchange, row: Income) -> dict[str, Any]:
    """A row of funding with the manners that were asked for."""
    told, manners = shapes.income(row), exchange.funding.manners
    if row.kind != FUNDING_FEE:
        return told
    symbol = row.symbol.lower() if manners.small_letters else row.symbol
    return told | {"asset": manners.asset, "symbol": symbol}


def _times(exchange: Exchange, told: Mapping[str, Any]) -> int:
    return 2 if exchange.funding.manners.rows_twice and told["incomeType"] == FUNDING_FEE else 1


def force_orders(exchange: Exchange, user: str, given: Given) -> object:
    symbol, cause = given.get("symbol"), given.get("autoCloseType")
    if cause not in AUTO_CLOSES:
        raise AsterRefusal(-1130, "Data sent for parameter 'autoCloseType' is not valid.")
    window = _window(exchange, given, _limit(given, 50, MOST_FORCED))
    if exchange.record.forced_hidden:
        return []
    forced = [
        order
        for order in exchange.account(user).orders.values()
        if order.auto_close is not None and symbol in (None, order.symbol) and cause in (None, order.auto_close)
    ]
    return [shapes.order(order) for order in window.cut(forced, lambda order: order.created_ms)]


def _limit(given: Given, default: int, most: int) -> int:
    limit = integer(given, "limit", default) or default
    if limit > most:
        raise AsterRefusal(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _window(exchange: Exchange, given: Given, limit: int, longest_ms: int | None = WEEK_MS) -> Window:
    """Raises AsterRefusal for one that ends before it starts, starts too long ago, or is longer than allowed."""
    now_ms = exchange.clock.now_ms()
    since_ms, until_ms = integer(given, "startTime"), integer(given, "endTime")
    start_ms = since_ms if since_ms is not None else (until_ms if until_ms is not None else now_ms) - WEEK_MS
    end_ms = until_ms if until_ms is not None else start_ms + (longest_ms or LATEST_MS)
    if end_ms < start_ms or (longest_ms is not None and end_ms - start_ms > longest_ms):
        raise AsterRefusal(-4165, "Invalid time interval: the maximum time interval is 7 days.")
    if since_ms is not None and since_ms < now_ms - DEPTH_MS:
        raise AsterRefusal(-4166, "Search window is restricted to recent 90 days only.")
    end_ms = min(end_ms, exchange.record.newest_ms(now_ms))
    return Window(start_ms, end_ms, limit, is_oldest=since_ms is not None)


RECORD: Final[Mapping[tuple[str, str], Callable[[Exchange, str, Given], Any]]] = {
    ("GET", "/userTrades"): user_trades,
    ("GET", "/income"): income,
    ("GET", "/forceOrders"): force_orders,
}
