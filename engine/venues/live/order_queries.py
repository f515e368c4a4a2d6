"""Finds, follows and cancels orders of an account by their client order ids."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import ccxt

from engine.domain.decimals import product, to_decimal
from engine.domain.errors import (
    OrderContradictory,
    OrderOutcomeUnknown,
    OrderRejected,
    StrategyFault,
    VenueUnavailable,
)
from engine.platform.errors import SparkyError
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.live import parsers
from engine.venues.live.account_queries import CcxtAccountQueries
from engine.venues.live.order_fees import calculate_price_and_fee
from engine.venues.market_data.instruments import get_contract_size, get_record_market
from engine.venues.orders import OrderResult, OrderStatus

MAX_POLLS: Final = 10
POLL_INTERVAL_S: Final = 0.2


class CcxtOrderQueries(CcxtAccountQueries):
    """The orders of an account whose requests run under `_lock`; `_sleep` waits between repeated queries."""

    _lock: threading.RLock
    _sleep: Callable[[float], None]

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that client id; None when the venue has none.

        A conditional order that has triggered is returned with id and fill of the plain order that it became. One that
        was sent a moment ago is queried repeatedly before None is returned.
        """
        order = self._fetch_order(symbol, client_order_id)
        for wait_s in self._trigger_orders.get_retry_waits_s(client_order_id):
            if order is not None or not self._trigger_orders.may_be_invisible(client_order_id):
                break
            self._sleep(wait_s)
            order = self._fetch_order(symbol, client_order_id)
        if order is None:
            self._trigger_orders.check_not_just_accepted(client_order_id)
        return order

    def find_client_order_id(self, symbol: str, order_id: str) -> str | None:
        """For a plain order that a conditional one became, the conditional one's client id."""
        name = super().find_client_order_id(symbol, order_id)
        if name is None or not self._trigger_orders.may_be_triggered_order(name):
            return name
        try:
            with self._query():
                return (
                    self._trigger_orders.find_client_order_id(get_record_market(self._exchange, symbol), order_id)
                    or name
                )
        except StrategyFault:  # because conditional orders of an unlisted symbol cannot be queried
            return name

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """Repeats while the order is open, because it may have been accepted late, or be triggering."""
        order = self._try_cancel(symbol, client_order_id) or self.find_order(symbol, client_order_id)
        for wait_s in (0.0, *self._trigger_orders.get_retry_waits_s(client_order_id)):
            if order is None or order.status is not OrderStatus.OPEN:
                return order
            if wait_s:
                self._sleep(wait_s)
            order = self._try_cancel(symbol, client_order_id) or self.find_order(symbol, client_order_id)
        if order is not None and order.status is OrderStatus.OPEN:
            raise OrderContradictory(f"order {client_order_id} is still open after it was cancelled")
        return order

    def _fetch_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        with self._query():
            market = get_record_market(self._exchange, symbol)
            if self._trigger_orders.is_trigger_order(client_order_id):
                raw = self._trigger_orders.fetch_order(market, client_order_id)
                return None if raw is None else self._parse_result(raw, market, client_order_id)
            try:
                raw = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id})
            except ccxt.OrderNotFound:
                return None
            return self._parse_result(raw, market, client_order_id)

    def _try_cancel(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """How the order ended, if the venue has it and states that."""
        with self._query():
            market = get_record_market(self._exchange, symbol)
            try:
                if self._trigger_orders.is_trigger_order(client_order_id):
                    self._trigger_orders.cancel_order(market, client_order_id)
                    return None
                raw = self._exchange.cancel_order(None, market["symbol"], {"clientOrderId": client_order_id})
            except ccxt.OrderNotFound:
                return None
            return (
                self._parse_result(raw, market, client_order_id)
                if raw.get("status") in parsers.TERMINAL_STATUSES
                else None
            )

    def _await_final_status(self, symbol: str, sent: dict[str, Any], client_order_id: str) -> OrderResult:
        """The order's end, or its state after `MAX_POLLS` queries.

        Any failure raises OrderOutcomeUnknown, because the order has been sent.
        """
        try:
            return self._poll_until_final(symbol, sent, client_order_id)
        except SparkyError as error:
            raise OrderOutcomeUnknown(f"order {client_order_id} was sent, then {error}") from error

    def _poll_until_final(self, symbol: str, sent: dict[str, Any], client_order_id: str) -> OrderResult:
        """Releases the account between two queries, because other orders (exits) must not wait for this one."""
        with self._query():
            market = get_record_market(self._exchange, symbol)
        for _ in range(MAX_POLLS):
            if sent.get("status") in parsers.TERMINAL_STATUSES:
                break
            self._sleep(POLL_INTERVAL_S)
            with self._query():
                sent = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id})
        with self._query():
            return self._parse_result(sent, market, client_order_id)

    def _parse_result(self, raw: dict[str, Any], market: dict[str, Any], client_order_id: str) -> OrderResult:
        if raw.get("id") is None:
            raise ValueError("the answer names no order")
        filled = product(to_decimal(raw.get("filled") or 0), get_contract_size(market))
        status = parsers.parse_status(raw, filled)
        price, fee_usd = to_decimal(raw.get("average") or 0), Decimal(0)
        if status is OrderStatus.FILLED:
            price, fee_usd = calculate_price_and_fee(self._exchange, raw, market, self._coin_prices)
        return OrderResult(
            order_id=str(raw["id"]),
            client_order_id=client_order_id,
            status=status,
            price=price,
            quantity=filled,
            fee_usd=fee_usd,
            at_ms=int(raw.get("lastUpdateTimestamp") or raw.get("timestamp") or 0),
        )

    @contextmanager
    def _query(self) -> Iterator[None]:
        try:
            with self._request():
                yield
        except OrderRejected as refusal:  # because a query cannot be rejected as an order is
            raise VenueUnavailable(str(refusal)) from refusal

    @contextmanager
    def _request(self, *, ordering: bool = False) -> Iterator[None]:
        with self._lock, translate_errors(self._exchange, ordering=ordering):
            yield
