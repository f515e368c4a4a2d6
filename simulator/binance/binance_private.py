"""Signed endpoints of the simulated Binance: those shared with Aster, and Binance's own."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.binance.algo_orders import (
    CONDITIONAL,
    PLAIN_IDS,
    AlgoOrders,
    build_plain_order_json,
    get_plain_order_id,
    has_plain_order,
    is_conditional,
    translate_duplicate_errors,
)
from simulator.futures_api import private_endpoints, shapes
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import Order
from simulator.venue.venue import SimulatedVenue

Params = Mapping[str, str]
OWN_PATHS: Final = ("/order", "/openOrder", "/openOrders", "/allOrders", "/allOpenOrders", "/userTrades")
VERSIONED_PATHS: Final = ("/balance", "/account", "/positionRisk")
NOT_IN_V3: Final = ("leverage", "marginType", "maxNotionalValue", "isAutoAddMargin")


def place_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    """Plain orders only. By default an acknowledgement; with `newOrderRespType=RESULT` the fill."""
    if params.get("type") in CONDITIONAL:
        message = "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
        raise VenueApiError(-4120, message)
    with translate_duplicate_errors():
        return private_endpoints.place_order(venue, user, params)


def get_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    return build_plain_order_json(_find_plain_order(venue, user, params))


def get_open_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    order = _find_plain_order(venue, user, params)
    if order.status != "NEW":
        raise VenueApiError(-2013, "Order does not exist.")
    return build_plain_order_json(order)


def cancel_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    try:
        order = _find_plain_order(venue, user, params)
    except VenueApiError as refusal:
        raise VenueApiError(-2011, "Unknown order sent.") from refusal
    if order.status != "NEW":
        raise VenueApiError(-2011, "Unknown order sent.")
    venue.get_account(user).cancel(order, venue.clock.now_ms())
    return build_plain_order_json(order)


def list_open_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    waiting = venue.get_account(user).open_orders(params.get("symbol"))
    return [build_plain_order_json(order) for order in waiting if not is_conditional(order)]


def list_all_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    venue.get_market(params.get("symbol"))
    return [
        build_plain_order_json(order) for order in _list_plain_orders(venue, user) if order.symbol == params["symbol"]
    ]


def cancel_all(venue: SimulatedVenue, user: str, params: Params) -> object:
    venue.get_market(params.get("symbol"))
    account = venue.get_account(user)
    for order in account.open_orders(params["symbol"]):
        if not is_conditional(order):
            account.cancel(order, venue.clock.now_ms())
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def get_user_trades(venue: SimulatedVenue, user: str, params: Params) -> object:
    """A trade names the plain order, not its algo order."""
    rows: Any = private_endpoints.PRIVATE["GET", "/userTrades"](venue, user, params)
    orders = venue.get_account(user).orders
    return [row | {"orderId": get_plain_order_id(orders[row["orderId"]])} for row in rows]


def get_position_risk_v3(venue: SimulatedVenue, user: str, params: Params) -> object:
    """Open positions only, without the fields that are in ``/fapi/v1/symbolConfig`` since this version."""
    held = [row for row in private_endpoints.get_position_risk(venue, user, params) if row["positionAmt"] != "0"]
    more = {"marginAsset": shapes.ASSET, "adl": 1, "breakEvenPrice": "0", "maintMargin": "0", "initialMargin": "0"}
    return [{name: value for name, value in row.items() if name not in NOT_IN_V3} | more for row in held]


def get_symbol_config(venue: SimulatedVenue, user: str, params: Params) -> object:
    rows = private_endpoints.get_position_risk(venue, user, params)
    types = {"cross": "CROSSED", "isolated": "ISOLATED"}
    return [
        {
            "symbol": row["symbol"],
            "marginType": types[row["marginType"]],
            "isAutoAddMargin": False,
            "leverage": int(row["leverage"]),
            "maxNotionalValue": row["maxNotionalValue"],
        }
        for row in rows
    ]


def get_account_v3(venue: SimulatedVenue, user: str, params: Params) -> object:
    account = venue.get_account(user)
    balance = shapes.build_balance(account, venue.get_price, venue.clock.now_ms())
    margin = shapes.format_decimal(account.balance + venue.calculate_unrealized_pnl(account))
    asset = {
        "asset": balance["asset"],
        "walletBalance": balance["balance"],
        "unrealizedProfit": shapes.format_decimal(venue.calculate_unrealized_pnl(account)),
        "marginBalance": margin,
        "maintMargin": "0",
        "initialMargin": shapes.format_decimal(account.calculate_initial_margin()),
        "availableBalance": balance["availableBalance"],
        "crossWalletBalance": balance["crossWalletBalance"],
        "crossUnPnl": balance["crossUnPnl"],
        "maxWithdrawAmount": balance["maxWithdrawAmount"],
        "updateTime": balance["updateTime"],
    }
    totals = {"totalWalletBalance": balance["balance"], "availableBalance": balance["availableBalance"]}
    return totals | {"assets": [asset], "positions": get_position_risk_v3(venue, user, params)}


def get_account_config(venue: SimulatedVenue, user: str, params: Params) -> object:
    """Permissions and modes of the account."""
    modes: dict[str, Any] = {"dualSidePosition": False, "multiAssetsMargin": False}
    for path in ("/positionSide/dual", "/multiAssetsMargin"):
        answer = private_endpoints.PRIVATE.get(("GET", path))
        answered: Any = {} if answer is None else answer(venue, user, params)
        modes |= {name: value for name, value in answered.items() if name in modes}
    return {
        "feeTier": 0,
        "canTrade": venue.settings.can_trade,
        "canDeposit": True,
        "canWithdraw": True,
        "tradeGroupId": -1,
        **modes,
    }


def _list_plain_orders(venue: SimulatedVenue, user: str) -> list[Order]:
    return [order for order in venue.get_account(user).orders.values() if has_plain_order(order)]


def _find_plain_order(venue: SimulatedVenue, user: str, params: Params) -> Order:
    """By `orderId` or `origClientOrderId` (the newest). Raises VenueApiError when there is none."""
    venue.check_symbol_known(params.get("symbol"))
    number, name = params.get("orderId"), params.get("origClientOrderId")
    for order in reversed(_list_plain_orders(venue, user)):
        told_name = f"algo-{PLAIN_IDS + order.order_id}" if is_conditional(order) else order.client_order_id
        is_it = str(get_plain_order_id(order)) == number or (number is None and told_name == name)
        if is_it and order.symbol == params["symbol"]:
            return order
    raise VenueApiError(-2013, "Order does not exist.")


_SHARED_WITH_ASTER: Final = {
    (method, f"/v1{path}"): answer
    for (method, path), answer in private_endpoints.PRIVATE.items()
    if path not in (*OWN_PATHS, *VERSIONED_PATHS)
}
PRIVATE: Final[Mapping[tuple[str, str], Callable[[SimulatedVenue, str, Params], object]]] = {
    **_SHARED_WITH_ASTER,
    ("POST", "/v1/order"): place_order,
    ("GET", "/v1/order"): get_order,
    ("DELETE", "/v1/order"): cancel_order,
    ("GET", "/v1/openOrder"): get_open_order,
    ("GET", "/v1/openOrders"): list_open_orders,
    ("GET", "/v1/allOrders"): list_all_orders,
    ("DELETE", "/v1/allOpenOrders"): cancel_all,
    ("GET", "/v1/userTrades"): get_user_trades,
    ("GET", "/v1/symbolConfig"): get_symbol_config,
    ("GET", "/v1/accountConfig"): get_account_config,
    ("GET", "/v2/balance"): private_endpoints.get_balance,
    ("GET", "/v3/balance"): private_endpoints.get_balance,
    ("GET", "/v2/positionRisk"): private_endpoints.get_position_risk,
    ("GET", "/v3/positionRisk"): get_position_risk_v3,
    ("GET", "/v2/account"): get_account_v3,
    ("GET", "/v3/account"): get_account_v3,
}
ALGO: Final[Mapping[tuple[str, str], Callable[[AlgoOrders, str, Params], object]]] = {
    ("POST", "/v1/algoOrder"): AlgoOrders.place,
    ("GET", "/v1/algoOrder"): AlgoOrders.get_order,
    ("DELETE", "/v1/algoOrder"): AlgoOrders.cancel,
    ("DELETE", "/v1/algoOpenOrders"): AlgoOrders.cancel_all,
    ("GET", "/v1/openAlgoOrders"): AlgoOrders.list_open,
    ("GET", "/v1/allAlgoOrders"): AlgoOrders.list_all,
}
