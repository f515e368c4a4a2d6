"""Signed endpoints about an account's past: trades, income and forced orders.

Source: Aster's API documentation (futures V3), the same as Binance's. With `startTime` or `fromId` the oldest rows from
there on, without either the newest. Not documented but observed: codes -1128 (parameters that exclude each other),
-1130 (an invalid value), -4165 (a window of more than seven days) and -4166 (one that starts more than 90 days ago).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from simulator.futures_api import shapes
from simulator.futures_api.parameters import Params, parse_integer
from simulator.market.market import LATEST_MS
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import Fill, Income, Order
from simulator.venue.venue import SimulatedVenue

Row = TypeVar("Row", Fill, Income, Order)
WEEK_MS: Final = 7 * 86_400_000
MAX_AGE_MS: Final = 90 * 86_400_000
MAX_ROWS: Final = 1_000
MAX_FORCED: Final = 100
FUNDING_FEE: Final = "FUNDING_FEE"
AUTO_CLOSES: Final = (None, "LIQUIDATION", "ADL")


@dataclass(frozen=True)
class RecordWindow:
    """A part of the record: at most `limit` rows between two times (ms, both included)."""

    since_ms: int
    until_ms: int
    limit: int
    is_oldest: bool  # the oldest `limit` rows of the window, else the newest

    def select(self, rows: Iterable[Row], at_ms: Callable[[Row], int]) -> list[Row]:
        """Oldest first."""
        inside = [row for row in rows if self.since_ms <= at_ms(row) <= self.until_ms]
        return inside[: self.limit] if self.is_oldest else inside[-self.limit :]


def get_user_trades(venue: SimulatedVenue, user: str, params: Params) -> object:
    venue.check_symbol_known(params.get("symbol"))
    limit, first_id = _parse_limit(params, 500, MAX_ROWS), parse_integer(params, "fromId")
    if first_id is not None and ("startTime" in params or "endTime" in params):
        raise VenueApiError(-1128, "Combination of optional parameters invalid.")
    window = _parse_window(venue, params, limit)
    fills = [f for f in venue.get_account(user).fills if f.order.symbol == params["symbol"]]
    if venue.record_config.trades_hidden:
        fills = [fill for fill in fills if fill.order.auto_close is None]
    if first_id is None:
        return [shapes.build_user_trade(fill) for fill in window.select(fills, lambda fill: fill.at_ms)]
    newest_ms = venue.record_config.get_newest_ms(venue.clock.now_ms())
    return [shapes.build_user_trade(f) for f in fills if f.trade_id >= first_id and f.at_ms <= newest_ms][:limit]


def get_income(venue: SimulatedVenue, user: str, params: Params) -> object:
    """The documentation limits no window here."""
    symbol, kind = params.get("symbol"), params.get("incomeType")
    limit = _parse_limit(params, 100, MAX_ROWS)
    window = _parse_window(venue, params, limit, longest_ms=None)
    newest_ms = venue.record_config.get_newest_income_ms(venue.clock.now_ms())
    rows = [row for row in venue.get_account(user).incomes if symbol in (None, row.symbol) and kind in (None, row.kind)]
    rows = [row for row in rows if row.at_ms <= newest_ms]
    rows_shown = [_build_income_row(venue, row) for row in window.select(rows, lambda row: row.at_ms)]
    return [row for row in rows_shown for _ in range(_count_repetitions(venue, row))][:limit]


def _build_income_row(venue: SimulatedVenue, row: Income) -> dict[str, Any]:
    """As JSON; rows of funding with the faults of `FundingConfig`."""
    fields, config = shapes.build_income(row), venue.funding.config
    if row.kind != FUNDING_FEE:
        return fields
    symbol = row.symbol.lower() if config.small_letters else row.symbol
    return fields | {"asset": config.asset, "symbol": symbol}


def _count_repetitions(venue: SimulatedVenue, fields: Mapping[str, Any]) -> int:
    return 2 if venue.funding.config.rows_twice and fields["incomeType"] == FUNDING_FEE else 1


def get_force_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    symbol, cause = params.get("symbol"), params.get("autoCloseType")
    if cause not in AUTO_CLOSES:
        raise VenueApiError(-1130, "Data sent for parameter 'autoCloseType' is not valid.")
    window = _parse_window(venue, params, _parse_limit(params, 50, MAX_FORCED))
    if venue.record_config.forced_hidden:
        return []
    forced = [
        order
        for order in venue.get_account(user).orders.values()
        if order.auto_close is not None and symbol in (None, order.symbol) and cause in (None, order.auto_close)
    ]
    return [shapes.build_order(order) for order in window.select(forced, lambda order: order.created_ms)]


def _parse_limit(params: Params, default: int, most: int) -> int:
    limit = parse_integer(params, "limit", default) or default
    if limit > most:
        raise VenueApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _parse_window(venue: SimulatedVenue, params: Params, limit: int, longest_ms: int | None = WEEK_MS) -> RecordWindow:
    """Raises VenueApiError for a window that ends before it starts, starts too long ago, or is longer than
    `longest_ms`."""
    now_ms = venue.clock.now_ms()
    since_ms, until_ms = parse_integer(params, "startTime"), parse_integer(params, "endTime")
    start_ms = since_ms if since_ms is not None else (until_ms if until_ms is not None else now_ms) - WEEK_MS
    end_ms = until_ms if until_ms is not None else start_ms + (longest_ms or LATEST_MS)
    if end_ms < start_ms or (longest_ms is not None and end_ms - start_ms > longest_ms):
        raise VenueApiError(-4165, "Invalid time interval: the maximum time interval is 7 days.")
    if since_ms is not None and since_ms < now_ms - MAX_AGE_MS:
        raise VenueApiError(-4166, "Search window is restricted to recent 90 days only.")
    end_ms = min(end_ms, venue.record_config.get_newest_ms(now_ms))
    return RecordWindow(start_ms, end_ms, limit, is_oldest=since_ms is not None)


RECORD: Final[Mapping[tuple[str, str], Callable[[SimulatedVenue, str, Params], Any]]] = {
    ("GET", "/userTrades"): get_user_trades,
    ("GET", "/income"): get_income,
    ("GET", "/forceOrders"): get_force_orders,
}
