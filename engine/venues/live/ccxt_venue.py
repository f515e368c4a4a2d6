"""Live orders through ccxt: sent once, and found again by their client order id."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import ccxt

from engine.domain.decimals import format_plain, product, quotient, to_decimal
from engine.domain.errors import (
    OrderContradictory,
    OrderIdTaken,
    OrderOutcomeUnknown,
    OrderRejected,
    StrategyFault,
    VenueUnavailable,
)
from engine.domain.positions import MarginMode
from engine.platform.errors import SparkyError
from engine.venues.account_record import Income
from engine.venues.ccxt_client.client import TIMEOUT_S, open_ccxt_client
from engine.venues.ccxt_client.errors import translate_errors
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.instrument import Instrument
from engine.venues.live import parsers
from engine.venues.live.account_queries import CcxtAccountQueries
from engine.venues.live.conditional_orders import TriggerOrders
from engine.venues.live.filter_retry import OrderFitter
from engine.venues.live.order_fees import calculate_price_and_fee
from engine.venues.live.protective_orders import TriggerOrderRequest, build_trigger_orders, place_all_or_none
from engine.venues.live.side_queries import SideClients
from engine.venues.market_data.client import MarketData
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import (
    build_instrument,
    contract_size,
    find_market,
    get_market,
    get_record_market,
    refresh_if_missing,
)
from engine.venues.order_book import BOOK_LEVELS, OrderBook
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, Protection
from engine.venues.quotes import Quote, Ticker
from engine.venues.venue import Credentials

MAX_POLLS: Final = 10
POLL_INTERVAL_S: Final = 0.2


class CcxtVenue(CcxtAccountQueries):
    """One person's account on one venue (see `LiveVenue`). Threads take turns at a client; queries for which an exit
    must not wait have clients of their own (see `engine.venues.live.side_queries`).

    Keep one object per account, because it caches the leverage for a minute. `limiter` is shared by all clients of one
    address; None means the process's own.
    """

    def __init__(
        self,
        venue: str,
        credentials: Credentials,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
        limiter: RequestWeightLimiter | None = None,
    ) -> None:
        self._exchange = open_ccxt_client(venue, base_url, credentials, timeout_s, limiter=limiter)
        self._side_clients = SideClients(
            lambda: open_ccxt_client(venue, base_url, credentials, timeout_s, limiter=limiter)
        )
        self._market_data = MarketData(venue, base_url, timeout_s, limiter=limiter)
        self._coin_prices = CoinPrices(self._exchange, self._exchange.session.limiter.monotonic)
        self._trigger_orders = TriggerOrders(self._exchange)
        self._fitter = OrderFitter(self, self._exchange.listing)
        self._sleep = sleep
        self._lock = threading.RLock()

    def fetch_quote(self, symbol: str) -> Quote:
        return self._market_data.fetch_quote(symbol)

    def fetch_ticker(self, symbol: str) -> Ticker:
        return self._market_data.fetch_ticker(symbol)

    def fetch_order_book(self, symbol: str) -> OrderBook:
        return self._market_data.fetch_order_book(symbol)

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        return self._market_data.fetch_entry_book(symbol, levels)

    def fetch_instrument(self, symbol: str) -> Instrument:
        """Uses the account's own client, because an exit must not wait for the share of the limit that prices have."""
        with self._query():
            found = find_market(self._exchange, symbol)
        refresh_if_missing(self._exchange, found)
        with self._query():
            return build_instrument(self._exchange, symbol, get_market(self._exchange, symbol))

    def refresh_instrument(self, symbol: str) -> Instrument:
        self._exchange.listing.refresh_now()
        return self.fetch_instrument(symbol)

    def prepare_entry(self, entry: OrderRequest, *, is_flat: bool = False) -> bool:
        return self._side_clients.entries.prepare_entry(entry, is_flat=is_flat)

    def fetch_margin_mode(self, symbol: str) -> MarginMode | None:
        try:
            return self._side_clients.entries.fetch_margin_mode(symbol)
        except OrderRejected as refusal:  # because a query cannot be rejected as an order is
            raise VenueUnavailable(str(refusal)) from refusal

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        """Sets the leverage if it differs, sends the order once and waits up to 2 s for its end, else returns OPEN.

        If an open order has the client id already, that order is returned. Raises as `Venue` states."""
        return self._submit_order(order, "market", None, {})

    def place_limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        """Immediate or cancel, at `limit_price` rounded to the tick (down for a buy, up for a sale)."""
        result = self._submit_order(order, "limit", limit_price, {"timeInForce": "IOC"})
        if result.status is OrderStatus.REJECTED:
            limit = self.fetch_instrument(order.symbol).round_limit_price(limit_price, is_buy=order.is_buy)
            raise OrderRejected(
                f"{order.symbol}: the market is beyond the limit price {format_plain(limit)}", "not_marketable"
            )
        return result

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that client id; None when the venue has none.

        A conditional order that has triggered is returned with id and fill of the plain order that it became. One that
        was sent a moment ago is queried repeatedly before None is returned.
        """
        found = self._fetch_order(symbol, client_order_id)
        for wait_s in self._trigger_orders.retry_waits_s(client_order_id):
            if found is not None or not self._trigger_orders.may_be_invisible(client_order_id):
                break
            self._sleep(wait_s)
            found = self._fetch_order(symbol, client_order_id)
        if found is None:
            self._trigger_orders.check_gone(client_order_id)
        return found

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

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        return self._side_clients.record.fetch_income(symbol, since_ms, kind)

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        return self._side_clients.record.convert_to_usd(asset, amount, at_ms)

    def place_protection(self, protection: Protection, *, again: bool = False) -> tuple[OrderResult, ...]:
        trigger_orders = build_trigger_orders(protection, self.fetch_instrument(protection.symbol))
        return place_all_or_none(self, trigger_orders, self._place_trigger_order, self._sleep, again=again)

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """Repeats while the order is open, because it may have been accepted late, or be triggering."""
        ended = self._try_cancel(symbol, client_order_id) or self.find_order(symbol, client_order_id)
        for wait_s in (0.0, *self._trigger_orders.retry_waits_s(client_order_id)):
            if ended is None or ended.status is not OrderStatus.OPEN:
                return ended
            if wait_s:
                self._sleep(wait_s)
            ended = self._try_cancel(symbol, client_order_id) or self.find_order(symbol, client_order_id)
        if ended is not None and ended.status is OrderStatus.OPEN:
            raise OrderContradictory(f"order {client_order_id} is still open after it was cancelled")
        return ended

    def close(self) -> None:
        self._exchange.session.close()
        self._market_data.close()
        self._side_clients.close()

    def _submit_order(
        self, order: OrderRequest, kind: str, price: Decimal | None, extra_params: Mapping[str, str]
    ) -> OrderResult:
        """`price` is the requested limit, not yet rounded."""
        fit = self._fitter.fit(order, price)
        if order.is_entry:
            self.prepare_entry(order)
        try:
            sent = self._create_order(order, *fit, kind, extra_params)
        except (OrderRejected, StrategyFault) as refusal:
            sent = self._create_order(
                order, *self._fitter.refit_after_refusal(order, price, fit, refusal), kind, extra_params
            )
        return self._await_final_status(order.symbol, sent, order.client_order_id)

    def _place_trigger_order(self, trigger_order: TriggerOrderRequest) -> OrderResult:
        """Sends a protective order; an existing one with the same id counts as placed, unless it was cancelled."""
        order, name = trigger_order.order, trigger_order.order.client_order_id
        self._trigger_orders.record_sending(name)
        try:
            sent = self._send_trigger_order(trigger_order)
        except OrderRejected:
            self._trigger_orders.forget(name)
            raise
        self._trigger_orders.record_acceptance(name, sent.get("id"))
        if not sent:
            return self._find_existing_order(order.symbol, name)
        with self._request(ordering=True):
            market = get_market(self._exchange, order.symbol)
            waiting = self._parse_result(self._trigger_orders.correct_status(sent), market, name)
        if waiting.status is OrderStatus.REJECTED:
            self._trigger_orders.forget(name)
            raise OrderRejected(f"the venue rejected order {waiting.order_id} as it took it")
        return waiting

    def _send_trigger_order(self, trigger_order: TriggerOrderRequest) -> dict[str, Any]:
        """Sends it, and once more with the current filters if it was rejected for one of them."""
        try:
            return self._create_order(
                trigger_order.order,
                trigger_order.order.quantity,
                None,
                "market",
                {trigger_order.trigger: f"{trigger_order.price:f}"},
            )
        except OrderRejected as refusal:
            again = self._fitter.refit_trigger_order(trigger_order, refusal)
        return self._create_order(
            again.order, again.order.quantity, None, "market", {again.trigger: f"{again.price:f}"}
        )

    def _find_existing_order(self, symbol: str, name: str) -> OrderResult:
        """The order because of which the venue rejected `name` as duplicate. Raises OrderIdTaken when it was
        cancelled."""
        for wait_s in (*self._trigger_orders.retry_waits_s(name), 0.0):  # a newer one may not be shown yet
            known = self.find_order(symbol, name)
            if known is None:
                raise OrderOutcomeUnknown(f"the venue says that it has order {name}, and that it has none")
            if known.status is not OrderStatus.REJECTED:
                return known
            self._sleep(wait_s)
        raise OrderIdTaken(f"the venue takes no second order under the id {name}, whose order was cancelled")

    def _create_order(
        self, order: OrderRequest, quantity: Decimal, price: Decimal | None, kind: str, extra_params: Mapping[str, str]
    ) -> dict[str, Any]:
        """ccxt's order from the answer; {} when the venue already has one with that id."""
        with self._request(ordering=True):
            _check_in_time(order)
            market = get_market(self._exchange, order.symbol)
            amount = f"{quotient(quantity, contract_size(market)):f}"
            side = "buy" if order.is_buy else "sell"
            price_text = None if price is None else f"{price:f}"
            parameters = {"clientOrderId": order.client_order_id, "reduceOnly": order.reduce_only, **extra_params}
            if self._exchange.id == "aster":
                # Aster reads booleans as text; RESULT returns the fill at once, the default only acknowledges.
                parameters |= {"reduceOnly": str(order.reduce_only).lower(), "newOrderRespType": "RESULT"}
            try:
                return dict(self._exchange.create_order(market["symbol"], kind, side, amount, price_text, parameters))
            except ccxt.DuplicateOrderId:
                return {}

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
        filled = product(to_decimal(raw.get("filled") or 0), contract_size(market))
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


def _check_in_time(order: OrderRequest) -> None:
    """Raises UpstreamUnavailable for an entry that is later than its `send_by`."""
    if order.send_by is not None and time.monotonic() > order.send_by:
        raise VenueUnavailable("the entry was not sent in time: the price may be another since it was judged")
