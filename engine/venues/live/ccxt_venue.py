"""A live account through ccxt: sends orders and protective orders, each at most once per client order id."""

import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import ccxt

from engine.domain.decimals import format_plain, quotient
from engine.domain.errors import (
    OrderIdTaken,
    OrderOutcomeUnknown,
    OrderRejected,
    StrategyFault,
    VenueUnavailable,
)
from engine.domain.positions import MarginMode
from engine.venues.account_record import Income
from engine.venues.ccxt_client.client import TIMEOUT_S, open_ccxt_client
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.instrument import Instrument
from engine.venues.live.conditional_orders import TriggerOrders
from engine.venues.live.filter_retry import OrderFitter
from engine.venues.live.order_queries import CcxtOrderQueries
from engine.venues.live.protective_orders import TriggerOrderRequest, build_trigger_orders, place_all_or_none
from engine.venues.live.side_queries import SideClients
from engine.venues.market_data.client import MarketData
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import (
    build_instrument,
    find_market,
    get_contract_size,
    get_market,
    refresh_if_missing,
)
from engine.venues.order_book import BOOK_LEVELS, OrderBook
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, Protection
from engine.venues.quotes import Quote, Ticker
from engine.venues.venue import Credentials


class CcxtVenue(CcxtOrderQueries):
    """One person's account on one venue (see `LiveVenue`). A lock serialises the threads that use a client; queries for
    which an exit must not wait have clients of their own (see `engine.venues.live.side_queries`).

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
            market = find_market(self._exchange, symbol)
        refresh_if_missing(self._exchange, market)
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

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        return self._side_clients.record.fetch_income(symbol, since_ms, kind)

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        return self._side_clients.record.convert_to_usd(asset, amount, at_ms)

    def place_protection(self, protection: Protection, *, reuse_existing: bool = False) -> tuple[OrderResult, ...]:
        trigger_orders = build_trigger_orders(protection, self.fetch_instrument(protection.symbol))
        return place_all_or_none(
            self, trigger_orders, self._place_trigger_order, self._sleep, reuse_existing=reuse_existing
        )

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
            placed = self._parse_result(self._trigger_orders.with_correct_status(sent), market, name)
        if placed.status is OrderStatus.REJECTED:
            self._trigger_orders.forget(name)
            raise OrderRejected(f"the venue rejected order {placed.order_id} as it took it")
        return placed

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
            refitted = self._fitter.refit_trigger_order(trigger_order, refusal)
        return self._create_order(
            refitted.order, refitted.order.quantity, None, "market", {refitted.trigger: f"{refitted.price:f}"}
        )

    def _find_existing_order(self, symbol: str, name: str) -> OrderResult:
        """The order because of which the venue rejected `name` as duplicate.

        Raises OrderIdTaken when it was cancelled, and OrderOutcomeUnknown when the venue does not find it.
        """
        for wait_s in (*self._trigger_orders.get_retry_waits_s(name), 0.0):  # a newer one may not be shown yet
            existing = self.find_order(symbol, name)
            if existing is None:
                raise OrderOutcomeUnknown(f"the venue rejected {name} as a duplicate, and finds no such order")
            if existing.status is not OrderStatus.REJECTED:
                return existing
            self._sleep(wait_s)
        raise OrderIdTaken(f"the venue takes no second order under the id {name}, whose order was cancelled")

    def _create_order(
        self, order: OrderRequest, quantity: Decimal, price: Decimal | None, kind: str, extra_params: Mapping[str, str]
    ) -> dict[str, Any]:
        """ccxt's order from the answer; {} when the venue already has one with that id."""
        with self._request(ordering=True):
            _check_in_time(order)  # under the lock, because waiting for it takes time too
            market = get_market(self._exchange, order.symbol)
            # As texts, because ccxt would round a float.
            amount = f"{quotient(quantity, get_contract_size(market)):f}"
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


def _check_in_time(order: OrderRequest) -> None:
    """Raises UpstreamUnavailable for an entry that is later than its `send_by`."""
    if order.send_by is not None and time.monotonic() > order.send_by:
        raise VenueUnavailable("the entry was not sent in time: the price may be another since it was judged")
