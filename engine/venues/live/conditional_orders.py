"""Conditional orders of venues that keep them apart from plain ones: found, read and cancelled where they are.

Protocol (Binance since late 2025): a stop or target is an algo order, known at ``/fapi/v1/algoOrder`` and
``/openAlgoOrders`` only; ccxt asks there with ``{"trigger": True}``. When its condition is met it becomes a plain order
with another id and another client id (`actualOrderId`), and that one has the price, the quantity and the fee. In
between it is TRIGGERING, which may take a while, and a new one may not be found for a moment.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import ccxt

from engine.domain.errors import OrderUnclear
from engine.venues.account_record import FORCED_NAMES, SETTLEMENT_NAMES
from engine.venues.venue import STOP_LOSS, TAKE_PROFIT

APART: Final = ("binance",)  # ids of clients whose venue keeps conditional orders apart
LETTERS: Final = (STOP_LOSS, TAKE_PROFIT)
TRIGGER: Final = {"trigger": True}
NEW_S: Final = 5.0  # so long after it was sent an order may not be found though it is there
# So long it is believed that an order which the venue took is there, whatever it says: Binance has denied algo orders
# for tens of seconds. An exit waits as long, since a stop that is left behind would close what comes after it.
TAKEN_S: Final = 30.0
# So long a cancellation that the venue took is believed, whatever the order says but that it triggers: the same lag.
CANCELLED_S: Final = 30.0
# Beginnings of client ids that plain orders have from their birth: ours, and those of the venue's own orders.
OURS: Final = ("so-", "sc-", "su-", "sr-", "sl-", "st-")
NO_CONDITIONAL: Final = (*OURS, *(start for start, _ in FORCED_NAMES), *SETTLEMENT_NAMES)
WAITS_S: Final = (0.1, 0.3, 0.6, 1.0)
FORGOTTEN_MS: Final = 86_400_000  # a plain order without a fill is kept for three days
TRIGGERED: Final = ("TRIGGERED", "FINISHED")


class ConditionalOrders:
    """The conditional orders of one account. What asks the venue is called under the account's lock, and raises ccxt's
    errors too."""

    def __init__(self, exchange: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._exchange = exchange
        self._monotonic = monotonic
        self._sent_at: dict[str, float] = {}
        self._taken: dict[str, tuple[float, str | None]] = {}  # when, and the number if it was told
        self._cancelled: dict[str, float] = {}  # when, by the venue's number

    @property
    def are_apart(self) -> bool:
        return self._exchange.id in APART

    def has(self, client_order_id: str) -> bool:
        """Whether the venue keeps the order of that client id apart."""
        return self.are_apart and client_order_id[:1] == "s" and client_order_id[1:2] in LETTERS

    def may_have_been(self, client_order_id: str) -> bool:
        """Whether a plain order of that client id may be one that a conditional order became: neither of our own
        making nor of the venue's."""
        return self.are_apart and not client_order_id.startswith(NO_CONDITIONAL)

    def will_send(self, client_order_id: str) -> None:
        """Before it is sent: from now on it may be there without being found."""
        now = self._monotonic()
        self._sent_at = {name: at for name, at in self._sent_at.items() if now - at < NEW_S} | {client_order_id: now}

    def gone(self, client_order_id: str) -> None:
        """The venue declined it, or cancelled it: what is not found now is not there."""
        self._sent_at.pop(client_order_id, None)
        self._taken.pop(client_order_id, None)

    def took(self, client_order_id: str, order_id: str | None) -> None:
        """The venue says that it has the order, in whatever way; with its number where it told one."""
        if self.has(client_order_id):
            now = self._monotonic()
            recent = {name: taken for name, taken in self._taken.items() if now - taken[0] < TAKEN_S}
            self._taken = recent | {client_order_id: (now, order_id)}

    def waits_s(self, client_order_id: str) -> tuple[float, ...]:
        """How long to wait before each further question when an order is not found or has not ended."""
        return WAITS_S if self.has(client_order_id) else ()

    def may_be_unseen(self, client_order_id: str) -> bool:
        return self._monotonic() - self._sent_at.get(client_order_id, -NEW_S) < NEW_S

    def check_gone(self, client_order_id: str) -> None:
        """Before an order that is not found is believed not to exist. Raises OrderUnclear when the venue took it a
        moment ago."""
        at, _ = self._taken.get(client_order_id, (-math.inf, None))
        if self._monotonic() - at < TAKEN_S:
            raise OrderUnclear(f"it took order {client_order_id} and does not show it")

    def found(self, market: Mapping[str, Any], client_order_id: str) -> dict[str, Any] | None:
        """The newest order with that client id as ccxt has it: once it has triggered, its plain order."""
        try:
            raw = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id, **TRIGGER})
        except ccxt.OrderNotFound:
            return None
        if self._is_followed(raw, client_order_id):
            return None
        told = self.as_told(raw)
        if told["status"] in ("canceled", "rejected", "expired"):
            self.gone(client_order_id)
        return self._plain(raw, market) if _actual(raw) else told

    def as_told(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """`raw` with the status of what it may still do: one that has triggered is open until its plain order tells,
        one that was cancelled has ended."""
        if raw["info"].get("algoStatus") in TRIGGERED:
            return {**raw, "status": "open"}
        return {**raw, "status": "canceled"} if self._is_cancelled(raw) else dict(raw)

    def cancelled(self, market: Mapping[str, Any], client_order_id: str) -> None:
        """The answer tells nothing but that it was understood. Raises ccxt.OrderNotFound when nothing waits."""
        told = self._exchange.cancel_order(None, market["symbol"], {"clientOrderId": client_order_id, **TRIGGER})
        now = self._monotonic()
        recent = {number: at for number, at in self._cancelled.items() if now - at < CANCELLED_S}
        self._cancelled = recent | {str(told.get("id")): now}
        self.gone(client_order_id)

    def open(self, unified: str | None) -> list[dict[str, Any]]:
        rows = self._exchange.fetch_open_orders(unified, params=TRIGGER) if self.are_apart else []
        return [raw for raw in rows if not self._is_cancelled(raw)]

    def client_id_of(self, market: Mapping[str, Any], order_id: str) -> str | None:
        """The client id of the conditional order that became the plain order `order_id`; None when there is none.

        Raises OrderUnclear while an order of the symbol is being triggered and does not say what it became.
        """
        rows = self._exchange.fetch_orders(market["symbol"], params=TRIGGER)
        for raw in rows:
            if _actual(raw) == order_id:
                return str(raw["clientOrderId"])
        becoming = [raw["clientOrderId"] for raw in rows if _is_becoming(raw)]
        if becoming:
            raise OrderUnclear(f"order {becoming[0]} is being triggered, and may be {order_id}")
        return None

    def _is_followed(self, raw: Mapping[str, Any], client_order_id: str) -> bool:
        """Whether it is an older order of that name: the one that the venue took a moment ago is not shown yet."""
        at, newest = self._taken.get(client_order_id, (-math.inf, None))
        return newest is not None and self._monotonic() - at < TAKEN_S and int(raw["id"]) < int(newest)

    def _is_cancelled(self, raw: Mapping[str, Any]) -> bool:
        """Whether the venue took its cancellation a moment ago, and it says that it waits as before."""
        at = self._cancelled.get(str(raw.get("id")), -math.inf)
        return raw["info"].get("algoStatus") == "NEW" and self._monotonic() - at < CANCELLED_S

    def _plain(self, raw: dict[str, Any], market: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(self._exchange.fetch_order(_actual(raw), market["symbol"]))
        except ccxt.OrderNotFound:
            return {**raw, "status": "expired" if self._is_forgotten(raw) else "open"}

    def _is_forgotten(self, raw: Mapping[str, Any]) -> bool:
        """Long ago, and without a fill."""
        at_ms = int(raw.get("lastUpdateTimestamp") or raw.get("timestamp") or 0)
        has_price = float(raw["info"].get("actualPrice") or 0) > 0
        return not has_price and self._exchange.milliseconds() - at_ms > FORGOTTEN_MS


def _is_becoming(raw: Mapping[str, Any]) -> bool:
    return raw["info"].get("algoStatus") in {"TRIGGERING", "TRIGGERED"} and _actual(raw) is None


def _actual(raw: Mapping[str, Any]) -> str | None:
    """The id of the plain order, once there is one."""
    told = str(raw["info"].get("actualOrderId") or "")
    return told if told not in ("", "0") else None
