"""Public endpoints about funding.

Source: Binance's USDⓈ-M documentation (mark price, funding rate history, funding rate info). The history is oldest
first: the newest `limit` rows, or from `startTime` on the oldest.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.futures_api import book_shapes, shapes
from simulator.futures_api.parameters import Params, parse_integer
from simulator.venue.funding import Payment
from simulator.venue.venue import SimulatedVenue, to_decimal

MAX_ROWS: Final = 1_000
DEFAULT_ROWS: Final = 100


def get_premium_index(venue: SimulatedVenue, query: Params) -> object:
    """One symbol, or all."""
    symbol = query.get("symbol")
    if symbol is not None:
        venue.get_market(symbol)
        return _build_premium_row(venue, symbol)
    return [_build_premium_row(venue, name) for name in venue.markets]


def get_funding_rates(venue: SimulatedVenue, query: Params) -> object:
    """The history of one symbol, or of all."""
    names = list(venue.markets) if query.get("symbol") is None else [query["symbol"]]
    limit = parse_integer(query, "limit") or DEFAULT_ROWS
    since_ms, until_ms = parse_integer(query, "startTime"), parse_integer(query, "endTime")
    rows: list[tuple[Payment, str]] = []
    for name in names:
        venue.get_market(name)
        rows += [(payment, name) for payment in venue.funding.list_payments(name, venue.clock.now_ms())]
    inside = [
        row
        for row in sorted(rows)
        if (since_ms is None or row[0].at_ms >= since_ms) and (until_ms is None or row[0].at_ms <= until_ms)
    ]
    most = min(limit, MAX_ROWS)
    kept = inside[-most:] if since_ms is None else inside[:most]
    return [_build_rate_row(venue, name, payment) for payment, name in kept]


def get_funding_info(venue: SimulatedVenue, _: Params) -> object:
    """Intervals of all symbols that have a schedule."""
    return [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.03000000",
            "adjustedFundingRateFloor": "-0.03000000",
            "fundingIntervalHours": venue.funding.get_interval_hours(symbol),
        }
        for symbol in venue.funding.list_symbols()
    ]


def _build_premium_row(venue: SimulatedVenue, symbol: str) -> dict[str, Any]:
    now_ms, config = venue.clock.now_ms(), venue.funding.config
    row = book_shapes.build_premium_index(symbol, venue.get_market(symbol), venue.get_book_config(symbol), now_ms)
    coming = venue.funding.find_next_payment(symbol, now_ms)
    if coming is not None:
        row |= {"lastFundingRate": f"{coming.rate:.8f}", "nextFundingTime": coming.at_ms}
    if config.rate_hidden:
        del row["lastFundingRate"]
    return row | ({"nextFundingTime": 0} if config.next_hidden else {})


def _build_rate_row(venue: SimulatedVenue, symbol: str, payment: Payment) -> dict[str, Any]:
    market = venue.get_market(symbol)
    price = shapes.format_decimal(to_decimal(market.get_price(payment.at_ms), market.decimals))
    return {
        "symbol": symbol,
        "fundingTime": payment.at_ms,
        "fundingRate": shapes.format_decimal(payment.rate),
        "markPrice": "" if venue.funding.config.mark_hidden else price,
    }


FUNDING: Final[Mapping[str, Callable[[SimulatedVenue, Params], object]]] = {
    "/premiumIndex": get_premium_index,
    "/fundingRate": get_funding_rates,
    "/fundingInfo": get_funding_info,
}
