"""How much one host may ask of the simulated venue: every request has a weight, and a minute has so much of it.

Source: Aster's API documentation (IP limits), whose numbers are Binance's: 2,400 a minute, told in every answer; then
429 with Retry-After, and 418 (banned) for who goes on asking.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WEIGHT_PER_MINUTE: Final = 2_400
WINDOW_S: Final = 60.0
USED_WEIGHT_HEADER: Final = "X-MBX-USED-WEIGHT-1M"
MAX_REFUSED: Final = 50  # in one window; beyond it comes the ban
BAN_S: Final = 120.0
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


def request_weight(method: str, path: str, query: Mapping[str, list[str]]) -> int:
    """The weight of a request to `path` below the prefix."""
    if path == "/klines":
        return _weight_by_limit(CANDLE_WEIGHTS, query, 500)
    if path == "/depth":
        return _weight_by_limit(DEPTH_WEIGHTS, query, 500)
    if method == "GET" and "symbol" not in query:
        return WEIGHTS_WITHOUT_SYMBOL.get(path, WEIGHTS.get(path, 1))
    return WEIGHTS.get(path, 1)


@dataclass(frozen=True)
class WeightExceeded:
    status: int
    code: int
    message: str
    retry_after_s: float


class WeightMeter:
    """The weight used in the running minute, which starts with its first request; `limit` 0 means without end."""

    def __init__(self, limit: int = WEIGHT_PER_MINUTE, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.used = 0
        self._monotonic = monotonic
        self._refused = 0
        self._since = monotonic()
        self._banned_until = 0.0

    def admit(self, weight: int) -> WeightExceeded | None:
        """Counts a request, refused ones too."""
        now = self._monotonic()
        if now - self._since >= WINDOW_S:
            self._since, self.used, self._refused = now, 0, 0
        self.used += weight
        if now < self._banned_until:
            return WeightExceeded(418, -1003, "Way too many requests; IP banned.", self._banned_until - now)
        if not self.limit or self.used <= self.limit:
            return None
        self._refused += 1
        if self._refused > MAX_REFUSED:
            self._banned_until = now + BAN_S
        reason = f"Too many requests; current limit of IP is {self.limit} requests weight per minute."
        return WeightExceeded(429, -1003, reason, self._since + WINDOW_S - now)


def with_weight_limit(app: ASGIApp, meter: WeightMeter, prefix: str, weigh: WeightFunction = request_weight) -> ASGIApp:
    """`app` behind the meter: requests below `prefix` are weighed and each answer tells how much has been used."""

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
        answer = app if refusal is None else _refusal_response(refusal)
        await answer(scope, receive, send_with_weight)

    return dispatch


def _refusal_response(refusal: WeightExceeded) -> ASGIApp:
    headers = {"Retry-After": str(max(1, round(refusal.retry_after_s)))}
    return JSONResponse({"code": refusal.code, "msg": refusal.message}, refusal.status, headers)


def _weight_by_limit(steps: tuple[tuple[int, int], ...], query: Mapping[str, list[str]], default: int) -> int:
    text = query.get("limit", [""])[0]
    limit = int(text) if text.isdecimal() else default
    return next((weight for most, weight in steps if limit <= most), steps[-1][1])
