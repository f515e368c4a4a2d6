"""Signed endpoints. Each function takes the venue, the user and the parameters, and returns the JSON."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.futures_api import shapes
from simulator.futures_api.margin_endpoints import leverage_brackets, set_leverage, set_margin_type
from simulator.futures_api.parameters import Params
from simulator.futures_api.record_endpoints import RECORD
from simulator.venue import margin
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import MAKER_RATE, TAKER_RATE
from simulator.venue.venue import SimulatedVenue

ACKNOWLEDGED: Final = {"status": "NEW", "avgPrice": "0", "executedQty": "0", "cumQty": "0", "cumQuote": "0"}


def new_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    """By default an acknowledgement with status NEW, as at the real venue; with `newOrderRespType=RESULT` the fill."""
    answer = shapes.order(venue.place_order(user, params))
    return answer if params.get("newOrderRespType") == "RESULT" else answer | ACKNOWLEDGED


def get_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    return shapes.order(venue.find_order(user, params))


def get_open_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    order = venue.find_order(user, params)
    if order.status != "NEW":
        raise VenueApiError(-2013, "Order does not exist.")
    return shapes.order(order)


def cancel_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    return shapes.order(venue.cancel_order(user, params))


def open_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    return [shapes.order(order) for order in venue.account(user).open_orders(params.get("symbol"))]


def all_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    orders = venue.account(user).orders.values()
    return [shapes.order(order) for order in orders if order.symbol == params.get("symbol")]


def cancel_all(venue: SimulatedVenue, user: str, params: Params) -> object:
    account = venue.account(user)
    for order in account.open_orders(params.get("symbol")):
        account.cancel(order, venue.clock.now_ms())
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def balance(venue: SimulatedVenue, user: str, _: Params) -> object:
    account = venue.account(user)
    return [shapes.balance(account, venue.price, venue.clock.now_ms())]


def position_risk(venue: SimulatedVenue, user: str, params: Params) -> list[dict[str, Any]]:
    account = venue.account(user)
    names = [symbol for symbol in venue.markets if params.get("symbol") in (None, symbol)]
    if not venue.record_config.rows_of_flat or venue.margin_config.shown_only_held:
        names = [name for name in names if account.holding(name).amount or account.open_orders(name)]
    return [
        shapes.position(name, account.holding(name), venue.price(name))
        | margin.margin_fields(account, name, venue.price, venue.market(name).decimals)
        for name in names
    ]


def account_info(venue: SimulatedVenue, user: str, params: Params) -> object:
    assets, positions = balance(venue, user, params), position_risk(venue, user, {})
    for each in positions:
        each["isolated"] = each.pop("marginType") == "isolated"
    flags = {"canTrade": venue.settings.can_trade, "canDeposit": True, "canWithdraw": True, "feeTier": 0}
    return {**flags, "updateTime": venue.clock.now_ms(), "assets": assets, "positions": positions}


def position_mode(venue: SimulatedVenue, _: str, __: Params) -> object:
    return {"dualSidePosition": venue.settings.hedge_mode}


def multi_assets_mode(venue: SimulatedVenue, _: str, __: Params) -> object:
    return {"multiAssetsMargin": venue.settings.multi_assets}


def commission_rate(venue: SimulatedVenue, _: str, params: Params) -> object:
    venue.market(params.get("symbol"))
    rates = {"makerCommissionRate": str(MAKER_RATE), "takerCommissionRate": str(TAKER_RATE)}
    return {"symbol": params["symbol"], **rates}


PRIVATE: Final[Mapping[tuple[str, str], Callable[[SimulatedVenue, str, Params], object]]] = {
    ("POST", "/order"): new_order,
    ("GET", "/order"): get_order,
    ("DELETE", "/order"): cancel_order,
    ("GET", "/openOrder"): get_open_order,
    ("GET", "/openOrders"): open_orders,
    ("GET", "/allOrders"): all_orders,
    ("DELETE", "/allOpenOrders"): cancel_all,
    **RECORD,
    ("GET", "/balance"): balance,
    ("GET", "/positionRisk"): position_risk,
    ("GET", "/account"): account_info,
    ("POST", "/leverage"): set_leverage,
    ("POST", "/marginType"): set_margin_type,
    ("GET", "/positionSide/dual"): position_mode,
    ("GET", "/multiAssetsMargin"): multi_assets_mode,
    ("GET", "/leverageBracket"): leverage_brackets,
    ("GET", "/commissionRate"): commission_rate,
}
