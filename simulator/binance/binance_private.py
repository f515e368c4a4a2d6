"""What Binance answers to a signed request: Aster's answers where both are alike, its own where they are not."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.aster import private_endpoints, shapes
from simulator.binance.algo_orders import (
    CONDITIONAL,
    PLAIN_IDS,
    AlgoOrders,
    duplicates_named_as_binance,
    has_plain,
    is_conditional,
    plain,
    plain_id,
)
from simulator.venue.api_error import AsterRefusal
from simulator.venue.trading_account import Order
from simulator.venue.venue import Exchange

Given = Mapping[str, str]
OWN: Final = ("/order", "/openOrder", "/openOrders", "/allOrders", "/allOpenOrders", "/userTrades")
VERSIONED: Final = ("/balance", "/account", "/positionRisk")
NOT_IN_V3: Final = ("leverage", "marginType", "maxNotionalValue", "isAutoAddMargin")


def new_order(exchange: Exchange, user: str, given: Given) -> object:
    """Plain orders only. By default an acknowledgement; `newOrderRespType=RESULT` tells the fill."""
    if given.get("type") in CONDITIONAL:
        message = "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
        raise AsterRefusal(-4120, message)
    with duplicates_named_as_binance():
        return private_endpoints.new_order(exchange, user, given)


def one_order(exchange: Exchange, user: str, given: Given) -> object:
    return plain(_plain_order(exchange, user, given))


def open_order(exchange: Exchange, user: str, given: Given) -> object:
    order = _plain_order(exchange, user, given)
    if order.status != "NEW":
        raise AsterRefusal(-2013, "Order does not exist.")
    return plain(order)


def cancel_order(exchange: Exchange, user: str, given: Given) -> object:
    try:
        order = _plain_order(exchange, user, given)
    except AsterRefusal as refusal:
        raise AsterRefusal(-2011, "Unknown order sent.") from refusal
    if order.status != "NEW":
        raise AsterRefusal(-2011, "Unknown order sent.")
    exchange.account(user).cancel(order, exchange.clock.now_ms())
    return plain(order)


def open_orders(exchange: Exchange, user: str, given: Given) -> object:
    waiting = exchange.account(user).open_orders(given.get("symbol"))
    return [plain(order) for order in waiting if not is_conditional(order)]


def all_orders(exchange: Exchange, user: str, given: Given) -> object:
    exchange.market(given.get("symbol"))
    return [plain(order) for order in _plain_orders(exchange, user) if order.symbol == given["symbol"]]


def cancel_all(exchange: Exchange, user: str, given: Given) -> object:
    exchange.market(given.get("symbol"))
    account = exchange.account(user)
    for order in account.open_orders(given["symbol"]):
        if not is_conditional(order):
            account.cancel(order, exchange.clock.now_ms())
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def user_trades(exchange: Exchange, user: str, given: Given) -> object:
    """A trade names the plain order, never the algo order behind it."""
    rows: Any = private_endpoints.PRIVATE["GET", "/userTrades"](exchange, user, given)
    orders = exchange.account(user).orders
    return [row | {"orderId": plain_id(orders[row["orderId"]])} for row in rows]


def position_risk_v3(exchange: Exchange, user: str, given: Given) -> object:
    """Only what is held, and without what ``/fapi/v1/symbolConfig`` tells since this version."""
    held = [row for row in private_endpoints.position_risk(exchange, user, given) if row["positionAmt"] != "0"]
    more = {"marginAsset": shapes.ASSET, "adl": 1, "breakEvenPrice": "0", "maintMargin": "0", "initialMargin": "0"}
    return [{name: value for name, value in row.items() if name not in NOT_IN_V3} | more for row in held]


def symbol_config(exchange: Exchange, user: str, given: Given) -> object:
    rows = private_endpoints.position_risk(exchange, user, given)
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


def account_v3(exchange: Exchange, user: str, given: Given) -> object:
    account = exchange.account(user)
    told = shapes.balance(account, exchange.price, exchange.clock.now_ms())
    margin = shapes.plain(account.balance + exchange.unrealized(account))
    asset = {
        "asset": told["asset"],
        "walletBalance": told["balance"],
        "unrealizedProfit": shapes.plain(exchange.unrealized(account)),
        "marginBalance": margin,
        "maintMargin": "0",
        "initialMargin": shapes.plain(account.margin()),
        "availableBalance": told["availableBalance"],
        "crossWalletBalance": told["crossWalletBalance"],
        "crossUnPnl": told["crossUnPnl"],
        "maxWithdrawAmount": told["maxWithdrawAmount"],
        "updateTime": told["updateTime"],
    }
    totals = {"totalWalletBalance": told["balance"], "availableBalance": told["availableBalance"]}
    return totals | {"assets": [asset], "positions": position_risk_v3(exchange, user, given)}


def account_config(exchange: Exchange, user: str, given: Given) -> object:
    """Who may do what, as far as Aster's answers know it."""
    modes: dict[str, Any] = {"dualSidePosition": False, "multiAssetsMargin": False}
    for path in ("/positionSide/dual", "/multiAssetsMargin"):
        answer = private_endpoints.PRIVATE.get(("GET", path))
        told: Any = {} if answer is None else answer(exchange, user, given)
        modes |= {name: value for name, value in told.items() if name in modes}
    return {
        "feeTier": 0,
        "canTrade": exchange.settings.can_trade,
        "canDeposit": True,
        "canWithdraw": True,
        "tradeGroupId": -1,
        **modes,
    }


def _plain_orders(exchange: Exchange, user: str) -> list[Order]:
    return [order for order in exchange.account(user).orders.values() if has_plain(order)]


def _plain_order(exchange: Exchange, user: str, given: Given) -> Order:
    """By `orderId` or `origClientOrderId` (the newest). Raises AsterRefusal when there is none."""
    exchange.check_known(given.get("symbol"))
    number, name = given.get("orderId"), given.get("origClientOrderId")
    for order in reversed(_plain_orders(exchange, user)):
        told_name = f"algo-{PLAIN_IDS + order.order_id}" if is_conditional(order) else order.client_order_id
        is_it = str(plain_id(order)) == number or (number is None and told_name == name)
        if is_it and order.symbol == given["symbol"]:
            return order
    raise AsterRefusal(-2013, "Order does not exist.")


_SHARED: Final = {
    (method, f"/v1{path}"): answer
    for (method, path), answer in private_endpoints.PRIVATE.items()
    if path not in (*OWN, *VERSIONED)
}
PRIVATE: Final[Mapping[tuple[str, str], Callable[[Exchange, str, Given], object]]] = {
    **_SHARED,
    ("POST", "/v1/order"): new_order,
    ("GET", "/v1/order"): one_order,
    ("DELETE", "/v1/order"): cancel_order,
    ("GET", "/v1/openOrder"): open_order,
    ("GET", "/v1/openOrders"): open_orders,
    ("GET", "/v1/allOrders"): all_orders,
    ("DELETE", "/v1/allOpenOrders"): cancel_all,
    ("GET", "/v1/userTrades"): user_trades,
    ("GET", "/v1/symbolConfig"): symbol_config,
    ("GET", "/v1/accountConfig"): account_config,
    ("GET", "/v2/balance"): private_endpoints.balance,
    ("GET", "/v3/balance"): private_endpoints.balance,
    ("GET", "/v2/positionRisk"): private_endpoints.position_risk,
    ("GET", "/v3/positionRisk"): position_risk_v3,
    ("GET", "/v2/account"): account_v3,
    ("GET", "/v3/account"): account_v3,
}
ALGO: Final[Mapping[tuple[str, str], Callable[[AlgoOrders, str, Given], object]]] = {
    ("POST", "/v1/algoOrder"): AlgoOrders.place,
    ("GET", "/v1/algoOrder"): AlgoOrders.one,
    ("DELETE", "/v1/algoOrder"): AlgoOrders.cancel,
    ("DELETE", "/v1/algoOpenOrders"): AlgoOrders.cancel_all,
    ("GET", "/v1/openAlgoOrders"): AlgoOrders.open,
    ("GET", "/v1/allAlgoOrders"): AlgoOrders.all,
}
