"""The request weight of each endpoint, and the middleware that enforces the limit of a `WeightMeter`.

Source: Aster's API documentation (IP limits), the same as Binance's. Every answer has the used weight in a header; over
the limit the answer is 429 with Retry-After, and 418 (banned) after too many of those.
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.venue.weight_meter import WeightExceeded, WeightMeter

USED_WEIGHT_HEADER: Final = "X-MBX-USED-WEIGHT-1M"
WEIGHTS: Final = {
    "/allOrders": 5,
    "/userTrades": 5,
    "/income": 30,
    "/forceOrders": 20,
    "/balance": 5,
    "/account": 5,
    "/positionRisk": 5,
    "/commissionRate": 20,
    "/positionSide/dual": 30,
    "/multiAssetsMargin": 30,
}
WEIGHTS_WITHOUT_SYMBOL: Final = {
    "/openOrders": 40,
    "/forceOrders": 50,
    "/ticker/24hr": 40,
    "/ticker/price": 2,
    "/ticker/bookTicker": 2,
}
# (up to this many, weight)
CANDLE_WEIGHTS: Final = ((99, 1), (499, 2), (1_000, 5), (1_500, 10))
WeightFunction = Callable[[str, str, Mapping[str, list[str]]], int]
DEPTH_WEIGHTS: Final = ((50, 2), (100, 5), (500, 10), (1_000, 20))


def get_request_weight(method: str, path: str, query: Mapping[str, list[str]]) -> int:
    """The weight of a request to `path` below the prefix."""
    if path == "/klines":
        return _find_weight_by_limit(CANDLE_WEIGHTS, query, 500)
    if path == "/depth":
        return _find_weight_by_limit(DEPTH_WEIGHTS, query, 500)
    if method == "GET" and "symbol" not in query:
        return WEIGHTS_WITHOUT_SYMBOL.get(path, WEIGHTS.get(path, 1))
    return WEIGHTS.get(path, 1)


def with_weight_limit(
    app: ASGIApp, meter: WeightMeter, prefix: str, weigh: WeightFunction = get_request_weight
) -> ASGIApp:
    """`app` behind the meter: weighs requests below `prefix`, and adds the used weight to each answer."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(prefix):
            await app(scope, receive, send)
            return

        async def send_with_weight(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[USED_WEIGHT_HEADER] = str(meter.used if meter.limit else 0)
            await send(message)

        query = parse_qs(scope["query_string"].decode("latin-1"))
        refusal = meter.admit(weigh(scope["method"], scope["path"].removeprefix(prefix), query))
        answer = app if refusal is None else _build_refusal_response(refusal)
        await answer(scope, receive, send_with_weight)

    return dispatch


def _build_refusal_response(refusal: WeightExceeded) -> ASGIApp:
    headers = {"Retry-After": str(max(1, round(refusal.retry_after_s)))}
    return JSONResponse({"code": refusal.code, "msg": refusal.message}, refusal.status, headers)


def _find_weight_by_limit(steps: tuple[tuple[int, int], ...], query: Mapping[str, list[str]], default: int) -> int:
    text = query.get("limit", [""])[0]
    limit = int(text) if text.isdecimal() else default
    return next((weight for most, weight in steps if limit <= most), steps[-1][1])
