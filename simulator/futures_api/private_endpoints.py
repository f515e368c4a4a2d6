"""Signed endpoints. Each function takes the venue, the user and the parameters, and returns the JSON."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.futures_api import shapes
from simulator.futures_api.margin_endpoints import get_leverage_brackets, set_leverage, set_margin_type
from simulator.futures_api.parameters import Params
from simulator.futures_api.record_endpoints import RECORD
from simulator.venue import margin
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import MAKER_RATE, TAKER_RATE
from simulator.venue.venue import SimulatedVenue

ACKNOWLEDGED: Final = {"status": "NEW", "avgPrice": "0", "executedQty": "0", "cumQty": "0", "cumQuote": "0"}


def place_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    """By default an acknowledgement with status NEW, as at the real venue; with `newOrderRespType=RESULT` the fill."""
    answer = shapes.build_order(venue.place_order(user, params))
    return answer if params.get("newOrderRespType") == "RESULT" else answer | ACKNOWLEDGED


def get_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    return shapes.build_order(venue.find_order(user, params))


def get_open_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    order = venue.find_order(user, params)
    if order.status != "NEW":
        raise VenueApiError(-2013, "Order does not exist.")
    return shapes.build_order(order)


def cancel_order(venue: SimulatedVenue, user: str, params: Params) -> object:
    return shapes.build_order(venue.cancel_order(user, params))


def list_open_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    return [shapes.build_order(order) for order in venue.get_account(user).open_orders(params.get("symbol"))]


def list_all_orders(venue: SimulatedVenue, user: str, params: Params) -> object:
    orders = venue.get_account(user).orders.values()
    return [shapes.build_order(order) for order in orders if order.symbol == params.get("symbol")]


def cancel_all(venue: SimulatedVenue, user: str, params: Params) -> object:
    account = venue.get_account(user)
    for order in account.open_orders(params.get("symbol")):
        account.cancel(order, venue.clock.now_ms())
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def get_balance(venue: SimulatedVenue, user: str, _: Params) -> object:
    account = venue.get_account(user)
    return [shapes.build_balance(account, venue.get_price, venue.clock.now_ms())]


def get_position_risk(venue: SimulatedVenue, user: str, params: Params) -> list[dict[str, Any]]:
    account = venue.get_account(user)
    names = [symbol for symbol in venue.markets if params.get("symbol") in (None, symbol)]
    if not venue.record_config.rows_of_flat or venue.margin_config.shown_only_held:
        names = [name for name in names if account.get_holding(name).amount or account.open_orders(name)]
    return [
        shapes.build_position(name, account.get_holding(name), venue.get_price(name))
        | margin.build_margin_fields(account, name, venue.get_price, venue.get_market(name).decimals)
        for name in names
    ]


def get_account_info(venue: SimulatedVenue, user: str, params: Params) -> object:
    assets, positions = get_balance(venue, user, params), get_position_risk(venue, user, {})
    for position in positions:
        position["isolated"] = position.pop("marginType") == "isolated"
    flags = {"canTrade": venue.settings.can_trade, "canDeposit": True, "canWithdraw": True, "feeTier": 0}
    return {**flags, "updateTime": venue.clock.now_ms(), "assets": assets, "positions": positions}


def get_position_mode(venue: SimulatedVenue, _: str, __: Params) -> object:
    return {"dualSidePosition": venue.settings.hedge_mode}


def get_multi_assets_mode(venue: SimulatedVenue, _: str, __: Params) -> object:
    return {"multiAssetsMargin": venue.settings.multi_assets}


def get_commission_rate(venue: SimulatedVenue, _: str, params: Params) -> object:
    venue.get_market(params.get("symbol"))
    rates = {"makerCommissionRate": str(MAKER_RATE), "takerCommissionRate": str(TAKER_RATE)}
    return {"symbol": params["symbol"], **rates}


PRIVATE: Final[Mapping[tuple[str, str], Callable[[SimulatedVenue, str, Params], object]]] = {
    ("POST", "/order"): place_order,
    ("GET", "/order"): get_order,
    ("DELETE", "/order"): cancel_order,
    ("GET", "/openOrder"): get_open_order,
    ("GET", "/openOrders"): list_open_orders,
    ("GET", "/allOrders"): list_all_orders,
    ("DELETE", "/allOpenOrders"): cancel_all,
    **RECORD,
    ("GET", "/balance"): get_balance,
    ("GET", "/positionRisk"): get_position_risk,
    ("GET", "/account"): get_account_info,
    ("POST", "/leverage"): set_leverage,
    ("POST", "/marginType"): set_margin_type,
    ("GET", "/positionSide/dual"): get_position_mode,
    ("GET", "/multiAssetsMargin"): get_multi_assets_mode,
    ("GET", "/leverageBracket"): get_leverage_brackets,
    ("GET", "/commissionRate"): get_commission_rate,
}
