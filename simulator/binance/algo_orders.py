"""Conditional orders at Binance since late 2025: algo orders, with their own endpoints and ids.

One order of the account is shown as two: the algo order (`algoId`, `clientAlgoId`, `algoStatus`) and, once it has
triggered, a plain order with another id and client id, which carries the fill. Neither is found at the other's
endpoints. Source: Binance's change log of 2025-11-06 and "Query Algo Order".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from simulator.futures_api import shapes
from simulator.venue.api_error import VenueApiError
from simulator.venue.trading_account import Account, Order
from simulator.venue.venue import SimulatedVenue

Params = Mapping[str, str]
CONDITIONAL: Final = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
PLAIN_IDS: Final = 8_000_000_000  # the plain order of algo order n has this number plus n
DELETED: Final = {"code": "200", "msg": "success"}


@contextmanager
def translate_duplicate_errors() -> Iterator[None]:
    """Raises -4116 in place of Aster's code for a client order id that is taken."""
    try:
        yield
    except VenueApiError as refusal:
        if refusal.code != -4115:
            raise
        raise VenueApiError(-4116, "ClientOrderId is duplicated.") from refusal


def is_conditional(order: Order) -> bool:
    return order.kind in CONDITIONAL


def get_plain_order_id(order: Order) -> int:
    """The order id that its trades show."""
    return PLAIN_IDS + order.order_id if is_conditional(order) else order.order_id


def has_plain_order(order: Order) -> bool:
    """Whether a plain order exists: the condition was met, and the matching engine took the order."""
    return not is_conditional(order) or order.filled > 0 or order.status == "FINISHED"


def build_plain_order_json(order: Order) -> dict[str, Any]:
    """`order` as ``/fapi/v1/order`` shows it."""
    row = shapes.build_order(order)
    if not is_conditional(order):
        return row
    status = "EXPIRED" if order.status == "FINISHED" else order.status
    number = get_plain_order_id(order)
    return row | {
        "orderId": number,
        "clientOrderId": f"algo-{number}",
        "status": status,
        "type": "MARKET",
        "origType": "MARKET",
        "stopPrice": "0",
        "time": order.updated_ms,
    }


class AlgoOrders:
    """The algo service of one venue. Its faults affect orders placed after they were set:

    - `unseen_for`: a new order is unknown to that many queries, although it is active.
    - `triggering_for`: an order that has filled is reported as TRIGGERING to that many queries, without its plain
    order.
    - `new_for`: an order that was cancelled is reported as NEW to that many queries, and listed as open.
    """

    def __init__(self, venue: SimulatedVenue) -> None:
        self.venue = venue
        self.unseen_for = 0
        self.triggering_for = 0
        self.new_for = 0
        self._new: dict[int, int] = {}
        self._unseen: dict[int, int] = {}
        self._triggering: dict[int, int] = {}

    def place(self, user: str, params: Params) -> dict[str, Any]:
        """A new algo order. Raises VenueApiError."""
        if params.get("algoType") != "CONDITIONAL":
            raise VenueApiError(-1102, "Mandatory parameter 'algoType' was not sent, was empty/null, or malformed.")
        if params.get("type") not in CONDITIONAL:
            raise VenueApiError(-1116, "Invalid orderType.")
        names = {"triggerPrice": "stopPrice", "clientAlgoId": "newClientOrderId"}
        wanted = {names.get(name, name): value for name, value in params.items() if name not in names.values()}
        with translate_duplicate_errors():
            order = self.venue.place_order(user, wanted)
        self._unseen[order.order_id] = self.unseen_for
        self._triggering[order.order_id] = self.triggering_for
        return self._to_json(order, is_triggering=False)

    def get_order(self, user: str, params: Params) -> dict[str, Any]:
        """By `algoId` or `clientAlgoId`: the newest that is not hidden by `unseen_for`. Raises VenueApiError if none
        is."""
        shown = (order for order in self._find_by_id(user, params) if not _count_down(self._unseen, order))
        order = next(shown, None)
        if order is None:
            raise VenueApiError(-2013, "Order does not exist.")
        is_triggering = order.filled > 0 and _count_down(self._triggering, order)
        row = self._to_json(order, is_triggering=is_triggering)
        return row | {"algoStatus": "NEW"} if self._is_shown_as_new(order) else row

    def cancel(self, user: str, params: Params) -> dict[str, Any]:
        """The answer has neither status nor fill, as at the real venue. Raises VenueApiError if the order is not
        open."""
        order = next(iter(self._find_by_id(user, params)), None)
        if order is None or order.status != "NEW" or _count_down(self._unseen, order):
            raise VenueApiError(-2011, "Unknown order sent.")
        self.venue.get_account(user).cancel(order, self.venue.clock.now_ms())
        self._new[order.order_id] = self.new_for
        return {"algoId": order.order_id, "clientAlgoId": order.client_order_id, **DELETED}

    def cancel_all(self, user: str, params: Params) -> dict[str, Any]:
        self.venue.get_market(params.get("symbol"))
        account = self.venue.get_account(user)
        for order in self._list_orders(account, params):
            if order.status == "NEW":
                account.cancel(order, self.venue.clock.now_ms())
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def list_open(self, user: str, params: Params) -> list[dict[str, Any]]:
        orders = self._list_orders(self.venue.get_account(user), params)
        waiting = [order for order in orders if order.status == "NEW" or self._is_shown_as_new(order)]
        shown = [order for order in waiting if not _count_down(self._unseen, order)]
        return [self._to_json(order, is_triggering=False) | {"algoStatus": "NEW"} for order in shown]

    def list_all(self, user: str, params: Params) -> list[dict[str, Any]]:
        self.venue.check_symbol_known(params.get("symbol"))
        orders = self._list_orders(self.venue.get_account(user), params)
        return [self._to_json(order, is_triggering=self._triggering.get(order.order_id, 0) > 0) for order in orders]

    def _is_shown_as_new(self, order: Order) -> bool:
        return order.status == "CANCELED" and _count_down(self._new, order)

    def _list_orders(self, account: Account, params: Params) -> list[Order]:
        symbol = params.get("symbol")
        return [order for order in account.orders.values() if is_conditional(order) and symbol in (None, order.symbol)]

    def _find_by_id(self, user: str, params: Params) -> list[Order]:
        """Matching orders, newest first. Raises VenueApiError if `params` names none."""
        number, name = params.get("algoId"), params.get("clientAlgoId")
        if number is None and name is None:
            raise VenueApiError(-1102, "Param 'algoId' or 'clientAlgoId' must be sent, but both were empty/null!")
        return [
            order
            for order in reversed(self._list_orders(self.venue.get_account(user), {}))
            if str(order.order_id) == number or (number is None and order.client_order_id == name)
        ]

    def _to_json(self, order: Order, *, is_triggering: bool) -> dict[str, Any]:
        is_triggering = is_triggering and order.filled > 0
        shows_fill = has_plain_order(order) and not is_triggering
        status = "TRIGGERING" if is_triggering else "FINISHED" if order.status == "FILLED" else order.status
        return {
            "algoId": order.order_id,
            "clientAlgoId": order.client_order_id,
            "algoType": "CONDITIONAL",
            "orderType": order.kind,
            "symbol": order.symbol,
            "side": "BUY" if order.is_buy else "SELL",
            "positionSide": "BOTH",
            "timeInForce": "GTC",
            "quantity": shapes.format_decimal(order.quantity),
            "algoStatus": status,
            "actualOrderId": str(get_plain_order_id(order)) if shows_fill else "",
            "actualPrice": shapes.format_decimal(order.average) if shows_fill else "0",
            "actualQty": shapes.format_decimal(order.filled) if shows_fill else "0",
            "triggerPrice": shapes.format_decimal(order.stop_price),
            "price": "0",
            "icebergQuantity": None,
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "workingType": "CONTRACT_PRICE",
            "priceMatch": "NONE",
            "closePosition": order.close_position,
            "priceProtect": False,
            "reduceOnly": order.reduce_only,
            "createTime": order.created_ms,
            "updateTime": order.updated_ms,
            "triggerTime": order.updated_ms if has_plain_order(order) else 0,
            "goodTillDate": 0,
        }


def _count_down(counters: dict[int, int], order: Order) -> bool:
    """Whether the fault still applies to this query, which is counted."""
    left = counters.get(order.order_id, 0)
    counters[order.order_id] = max(0, left - 1)
    return left > 0
