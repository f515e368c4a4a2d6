"""Finds, reads and cancels conditional orders, also at venues that keep them apart from plain ones.

Protocol (Binance since late 2025): a stop or target is an algo order, visible at ``/fapi/v1/algoOrder`` and
``/openAlgoOrders`` only, which ccxt uses with ``{"trigger": True}``. When its condition is met it becomes a plain order
with another id and another client id (`actualOrderId`), and that one has the price, the quantity and the fee. In
between it is TRIGGERING, which may take a while, and a new one may not be found for a moment.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import ccxt

from engine.domain.errors import OrderContradictory
from engine.venues.account_record import FORCED_ORDER_ID_PREFIXES, SETTLEMENT_ORDER_ID_PREFIXES
from engine.venues.orders import is_own_order_id, is_protective_order_id

SEPARATE_CLIENT_IDS: Final = ("binance",)  # ids of clients whose venue keeps conditional orders apart
TRIGGER_PARAMS: Final = {"trigger": True}
SEND_LAG_S: Final = 5.0  # for this long after sending, an existing order may not be found
# For this long an accepted order counts as existing even if the venue denies it, because Binance has denied algo orders
# for tens of seconds. An exit waits as long, because a stop that is left behind would close a later position.
ACCEPT_LAG_S: Final = 30.0
# For this long an accepted cancellation counts, unless the order reports that it triggers: the same lag.
CANCEL_LAG_S: Final = 30.0
# Prefixes of client ids of orders that the venue created.
VENUE_ID_PREFIXES: Final = (
    *(start for start, _ in FORCED_ORDER_ID_PREFIXES),
    *SETTLEMENT_ORDER_ID_PREFIXES,
)
RETRY_WAITS_S: Final = (0.1, 0.3, 0.6, 1.0)
PURGED_AFTER_MS: Final = 86_400_000  # a plain order without a fill is kept for three days
TRIGGERED_STATUSES: Final = ("TRIGGERED", "FINISHED")


class TriggerOrders:
    """The conditional orders of one account. Call methods that send requests under the account's lock; they raise
    ccxt's errors too."""

    def __init__(self, exchange: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._sent_at: dict[str, float] = {}
        self._accepted_at: dict[str, tuple[float, str | None]] = {}  # monotonic s, and the order id if known
        self._cancelled_at: dict[str, float] = {}  # monotonic s, by order id

    @property
    def are_separate(self) -> bool:
        return self._exchange.id in SEPARATE_CLIENT_IDS

    def is_trigger_order(self, client_order_id: str) -> bool:
        """Whether the order with that client id is kept apart from plain ones."""
        return self.are_separate and is_protective_order_id(client_order_id)

    def may_be_triggered_order(self, client_order_id: str) -> bool:
        """Whether a plain order with that client id may be one that a conditional order became: neither sent by us nor
        created by the venue."""
        is_plain = is_own_order_id(client_order_id) or client_order_id.startswith(VENUE_ID_PREFIXES)
        return self.are_separate and not is_plain

    def record_sending(self, client_order_id: str) -> None:
        """Call it before sending: from now on the order may exist without being found."""
        now = self._monotonic()
        self._sent_at = {name: at for name, at in self._sent_at.items() if now - at < SEND_LAG_S} | {
            client_order_id: now
        }

    def forget(self, client_order_id: str) -> None:
        """Call it when the venue declined or cancelled the order: if it is not found now, it does not exist."""
        self._sent_at.pop(client_order_id, None)
        self._accepted_at.pop(client_order_id, None)

    def record_acceptance(self, client_order_id: str, order_id: str | None) -> None:
        """Call it when the venue reports that it has the order; `order_id` is None if unknown."""
        if self.is_trigger_order(client_order_id):
            now = self._monotonic()
            recent = {name: taken for name, taken in self._accepted_at.items() if now - taken[0] < ACCEPT_LAG_S}
            self._accepted_at = recent | {client_order_id: (now, order_id)}

    def get_retry_waits_s(self, client_order_id: str) -> tuple[float, ...]:
        """Waits (s) before each further query when an order is not found or has not ended."""
        return RETRY_WAITS_S if self.is_trigger_order(client_order_id) else ()

    def may_be_invisible(self, client_order_id: str) -> bool:
        return self._monotonic() - self._sent_at.get(client_order_id, -SEND_LAG_S) < SEND_LAG_S

    def check_not_just_accepted(self, client_order_id: str) -> None:
        """Call it when an order is not found. Raises OrderContradictory when the venue accepted it a moment ago, and so
        may only not show it yet."""
        at, _ = self._accepted_at.get(client_order_id, (-math.inf, None))
        if self._monotonic() - at < ACCEPT_LAG_S:
            raise OrderContradictory(f"it took order {client_order_id} and does not show it")

    def fetch_order(self, market: Mapping[str, Any], client_order_id: str) -> dict[str, Any] | None:
        """ccxt's newest order with that client id; once it has triggered, its plain order."""
        try:
            raw = self._exchange.fetch_order(
                None, market["symbol"], {"clientOrderId": client_order_id, **TRIGGER_PARAMS}
            )
        except ccxt.OrderNotFound:
            return None
        if self._is_superseded(raw, client_order_id):
            return None
        current = self.with_correct_status(raw)
        if current["status"] in ("canceled", "rejected", "expired"):
            self.forget(client_order_id)
        return self._fetch_plain_order(raw, market) if _get_plain_order_id(raw) else current

    def with_correct_status(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """`raw` with corrected status: a triggered order is open until its plain order is known, a cancelled one has
        ended."""
        if raw["info"].get("algoStatus") in TRIGGERED_STATUSES:
            return {**raw, "status": "open"}
        return {**raw, "status": "canceled"} if self._is_cancelled(raw) else dict(raw)

    def cancel_order(self, market: Mapping[str, Any], client_order_id: str) -> None:
        """Requests the cancellation; the answer does not state its outcome. Raises ccxt.OrderNotFound when none is
        open."""
        answer = self._exchange.cancel_order(
            None, market["symbol"], {"clientOrderId": client_order_id, **TRIGGER_PARAMS}
        )
        now = self._monotonic()
        recent = {number: at for number, at in self._cancelled_at.items() if now - at < CANCEL_LAG_S}
        self._cancelled_at = recent | {str(answer.get("id")): now}
        self.forget(client_order_id)

    def fetch_open_orders(self, unified: str | None) -> list[dict[str, Any]]:
        rows = self._exchange.fetch_open_orders(unified, params=TRIGGER_PARAMS) if self.are_separate else []
        return [raw for raw in rows if not self._is_cancelled(raw)]

    def find_client_order_id(self, market: Mapping[str, Any], order_id: str) -> str | None:
        """The client id of the conditional order that became the plain order `order_id`; None when there is none.

        Raises OrderContradictory while an order of the symbol is triggering and its plain order is not known.
        """
        rows = self._exchange.fetch_orders(market["symbol"], params=TRIGGER_PARAMS)
        for raw in rows:
            if _get_plain_order_id(raw) == order_id:
                return str(raw["clientOrderId"])
        becoming = [raw["clientOrderId"] for raw in rows if _is_triggering(raw)]
        if becoming:
            raise OrderContradictory(f"order {becoming[0]} is being triggered, and may be {order_id}")
        return None

    def _is_superseded(self, raw: Mapping[str, Any], client_order_id: str) -> bool:
        """Whether `raw` is an older order with the same client id, while the newest accepted one is not shown yet."""
        at, newest = self._accepted_at.get(client_order_id, (-math.inf, None))
        return newest is not None and self._monotonic() - at < ACCEPT_LAG_S and int(raw["id"]) < int(newest)

    def _is_cancelled(self, raw: Mapping[str, Any]) -> bool:
        """Whether the venue accepted a cancellation a moment ago, but still reports the order as open."""
        at = self._cancelled_at.get(str(raw.get("id")), -math.inf)
        return raw["info"].get("algoStatus") == "NEW" and self._monotonic() - at < CANCEL_LAG_S

    def _fetch_plain_order(self, raw: dict[str, Any], market: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(self._exchange.fetch_order(_get_plain_order_id(raw), market["symbol"]))
        except ccxt.OrderNotFound:
            return {**raw, "status": "expired" if self._is_purged(raw) else "open"}

    def _is_purged(self, raw: Mapping[str, Any]) -> bool:
        """Whether the plain order is gone because it ended long ago without a fill."""
        at_ms = int(raw.get("lastUpdateTimestamp") or raw.get("timestamp") or 0)
        has_price = float(raw["info"].get("actualPrice") or 0) > 0
        return not has_price and self._exchange.milliseconds() - at_ms > PURGED_AFTER_MS


def _is_triggering(raw: Mapping[str, Any]) -> bool:
    return raw["info"].get("algoStatus") in {"TRIGGERING", "TRIGGERED"} and _get_plain_order_id(raw) is None


def _get_plain_order_id(raw: Mapping[str, Any]) -> str | None:
    """The id of the plain order, once there is one."""
    order_id = str(raw["info"].get("actualOrderId") or "")
    return order_id if order_id not in ("", "0") else None
