"""Request weights of the simulated Binance; limit and ban are the same as Aster's.

Source: Binance's USDⓈ-M documentation. New orders, plain and algo, weigh nothing (their own limit counts orders).
"""

from collections.abc import Mapping
from typing import Final

from simulator.futures_api import request_weights

WEIGHTS: Final = {
    "/v1/allAlgoOrders": 5,
    "/v1/allOrders": 5,
    "/v1/userTrades": 5,
    "/v1/symbolConfig": 5,
    "/v1/accountConfig": 5,
    "/v1/commissionRate": 20,
    "/v1/income": 30,
    "/v1/forceOrders": 20,
    "/v1/positionSide/dual": 30,
    "/v1/multiAssetsMargin": 30,
    "/v2/balance": 5,
    "/v3/balance": 5,
    "/v2/account": 5,
    "/v3/account": 5,
    "/v2/positionRisk": 5,
    "/v3/positionRisk": 5,
}
WEIGHTS_WITHOUT_SYMBOL: Final = {"/v1/openOrders": 40, "/v1/openAlgoOrders": 40, "/v1/forceOrders": 50}
WEIGHTLESS: Final = (("POST", "/v1/order"), ("POST", "/v1/algoOrder"))


def get_request_weight(method: str, path: str, query: Mapping[str, list[str]]) -> int:
    """The weight of a request to `path` below ``/fapi``."""
    if (method, path) in WEIGHTLESS:
        return 0
    if method == "GET" and "symbol" not in query and path in WEIGHTS_WITHOUT_SYMBOL:
        return WEIGHTS_WITHOUT_SYMBOL[path]
    return WEIGHTS.get(path) or request_weights.get_request_weight(method, path.removeprefix("/v1"), query)
