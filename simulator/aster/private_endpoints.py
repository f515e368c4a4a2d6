"""What Aster answers to a signed request. Each function takes the exchange, the user and the parameters."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.aster import shapes
from simulator.aster.margin_endpoints import leverage, leverage_bracket, margin_type
from simulator.aster.record_endpoints import RECORD
from simulator.venue import margin
from simulator.venue.api_error import AsterRefusal
from simulator.venue.trading_account import MAKER_RATE, TAKER_RATE
from simulator.venue.venue import Exchange

Given = Mapping[str, str]
ACKNOWLEDGED: Final = {"status": "NEW", "avgPrice": "0", "executedQty": "0", "cumQty": "0", "cumQuote": "0"}


def new_order(exchange: Exchange, user: str, given: Given) -> object:
    """By default an acknowledgement that says NEW, as the real venue's; `newOrderRespType=RESULT` tells the fill."""
    answer = shapes.order(exchange.place(user, given))
    return answer if given.get("newOrderRespType") == "RESULT" else answer | ACKNOWLEDGED


def one_order(exchange: Exchange, user: str, given: Given) -> object:
    return shapes.order(exchange.find(user, given))


def open_order(exchange: Exchange, user: str, given: Given) -> object:
    order = exchange.find(user, given)
    if order.status != "NEW":
        raise AsterRefusal(-2013, "Order does not exist.")
    return shapes.order(order)


def cancel_order(exchange: Exchange, user: str, given: Given) -> object:
    return shapes.order(exchange.cancel(user, given))


def open_orders(exchange: Exchange, user: str, given: Given) -> object:
    return [shapes.order(order) for order in exchange.account(user).open_orders(given.get("symbol"))]


def all_orders(exchange: Exchange, user: str, given: Given) -> object:
    orders = exchange.account(user).orders.values()
    return [shapes.order(order) for order in orders if order.symbol == given.get("symbol")]


def cancel_all(exchange: Exchange, user: str, given: Given) -> object:
    account = exchange.account(user)
    for order in account.open_orders(given.get("symbol")):
        account.cancel(order, exchange.clock.now_ms())
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def balance(exchange: Exchange, user: str, _: Given) -> object:
    account = exchange.account(user)
    return [shapes.balance(account, exchange.price, exchange.clock.now_ms())]


def position_risk(exchange: Exchange, user: str, given: Given) -> list[dict[str, Any]]:
    account = exchange.account(user)
    names = [symbol for symbol in exchange.markets if given.get("symbol") in (None, symbol)]
    if not exchange.record.rows_of_flat or exchange.margin.shown_only_held:
        names = [name for name in names if account.holding(name).amount or account.open_orders(name)]
    return [
        shapes.position(name, account.holding(name), exchange.price(name))
        | margin.shown(account, name, exchange.price, exchange.market(name).decimals)
        for name in names
    ]


def whole_account(exchange: Exchange, user: str, given: Given) -> object:
    assets, positions = balance(exchange, user, given), position_risk(exchange, user, {})
    for each in positions:
        each["isolated"] = each.pop("marginType") == "isolated"
    flags = {"canTrade": exchange.settings.can_trade, "canDeposit": True, "canWithdraw": True, "feeTier": 0}
    return {**flags, "updateTime": exchange.clock.now_ms(), "assets": assets, "positions": positions}


def position_mode(exchange: Exchange, _: str, __: Given) -> object:
    return {"dualSidePosition": exchange.settings.hedge_mode}


def multi_assets_mode(exchange: Exchange, _: str, __: Given) -> object:
    return {"multiAssetsMargin": exchange.settings.multi_assets}


def commission_rate(exchange: Exchange, _: str, given: Given) -> object:
    exchange.market(given.get("symbol"))
    rates = {"makerCommissionRate": str(MAKER_RATE), "takerCommissionRate": str(TAKER_RATE)}
    return {"symbol": given["symbol"], **rates}


PRIVATE: Final[Mapping[tuple[str, str], Callable[[Exchange, str, Given], object]]] = {
    ("POST", "/order"): new_order,
    ("GET", "/order"): one_order,
    ("DELETE", "/order"): cancel_order,
    ("GET", "/openOrder"): open_order,
    ("GET", "/openOrders"): open_orders,
    ("GET", "/allOrders"): all_orders,
    ("DELETE", "/allOpenOrders"): cancel_all,
    **RECORD,
    ("GET", "/balance"): balance,
    ("GET", "/positionRisk"): position_risk,
    ("GET", "/account"): whole_account,
    ("POST", "/leverage"): leverage,
    ("POST", "/marginType"): margin_type,
    ("GET", "/positionSide/dual"): position_mode,
    ("GET", "/multiAssetsMargin"): multi_assets_mode,
    ("GET", "/leverageBracket"): leverage_bracket,
    ("GET", "/commissionRate"): commission_rate,
}
