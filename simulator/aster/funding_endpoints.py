"""What the simulated venue tells everybody of funding, in Binance's shapes, which are Aster's too.

Source: Binance's USDⓈ-M documentation (mark price, funding rate history, funding rate info). The history comes oldest
first: without times the newest, else up to `limit` rows from `startTime` on.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.aster import book_shapes, shapes
from simulator.venue.api_error import AsterRefusal
from simulator.venue.funding import Payment
from simulator.venue.venue import Exchange, exact

Query = Mapping[str, str]
MOST_ROWS: Final = 1_000
DEFAULT_ROWS: Final = 100


def premium_index(exchange: Exchange, query: Query) -> object:
    """One symbol, or all."""
    symbol = query.get("symbol")
    if symbol is not None:
        exchange.market(symbol)
        return _premium(exchange, symbol)
    return [_premium(exchange, name) for name in exchange.markets]


def funding_rate(exchange: Exchange, query: Query) -> object:
    """The history of one symbol, or of all."""
    names = list(exchange.markets) if query.get("symbol") is None else [query["symbol"]]
    limit = _whole(query, "limit") or DEFAULT_ROWS
    since_ms, until_ms = _whole(query, "startTime"), _whole(query, "endTime")
    rows: list[tuple[Payment, str]] = []
    for name in names:
        exchange.market(name)
        rows += [(each, name) for each in exchange.funding.history(name, exchange.clock.now_ms())]
    inside = [
        row
        for row in sorted(rows)
        if (since_ms is None or row[0].at_ms >= since_ms) and (until_ms is None or row[0].at_ms <= until_ms)
    ]
    most = min(limit, MOST_ROWS)
    kept = inside[-most:] if since_ms is None else inside[:most]
    return [_rate(exchange, name, payment) for payment, name in kept]


def funding_info(exchange: Exchange, _: Query) -> object:
    """Intervals of all symbols that have a schedule."""
    return [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.03000000",
            "adjustedFundingRateFloor": "-0.03000000",
            "fundingIntervalHours": exchange.funding.hours(symbol),
        }
        for symbol in exchange.funding.symbols()
    ]


def _whole(query: Query, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise AsterRefusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return int(text)


def _premium(exchange: Exchange, symbol: str) -> dict[str, Any]:
    now_ms, manners = exchange.clock.now_ms(), exchange.funding.manners
    row = book_shapes.premium_index(symbol, exchange.market(symbol), exchange.manners(symbol), now_ms)
    coming = exchange.funding.next(symbol, now_ms)
    if coming is not None:
        row |= {"lastFundingRate": f"{coming.rate:.8f}", "nextFundingTime": coming.at_ms}
    if manners.rate_hidden:
        del row["lastFundingRate"]
    return row | ({"nextFundingTime": 0} if manners.next_hidden else {})


def _rate(exchange: Exchange, symbol: str, payment: Payment) -> dict[str, Any]:
    market = exchange.market(symbol)
    price = shapes.plain(exact(market.price(payment.at_ms), market.decimals))
    return {
        "symbol": symbol,
        "fundingTime": payment.at_ms,
        "fundingRate": shapes.plain(payment.rate),
        "markPrice": "" if exchange.funding.manners.mark_hidden else price,
    }


FUNDING: Final[Mapping[str, Callable[[Exchange, Query], object]]] = {
    "/premiumIndex": premium_index,
    "/fundingRate": funding_rate,
    "/fundingInfo": funding_info,
}
