"""Real orders on any venue that ccxt knows (Aster first): sent once, found again by their client order id."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import ccxt

from engine.domain.decimals import digits, exact, product, quotient
from engine.domain.errors import OrderIdTaken, OrderUnclear, OutcomeUnknown, StrategyFault, VenueRefused
from engine.domain.positions import MarginMode
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.venues.account_record import Income
from engine.venues.ccxt_client.client import TIMEOUT_S, open_exchange
from engine.venues.ccxt_client.errors import translated
from engine.venues.ccxt_client.request_weight import Backoff
from engine.venues.live import parsers
from engine.venues.live.account_queries import CcxtRecord
from engine.venues.live.conditional_orders import ConditionalOrders
from engine.venues.live.filter_retry import Fitter
from engine.venues.live.order_fees import price_and_fee
from engine.venues.live.protective_orders import Leg, legs_of, place_all
from engine.venues.live.side_queries import Beside
from engine.venues.market_data.client import MarketData
from engine.venues.market_data.coin_prices import CoinPrices
from engine.venues.market_data.instruments import (
    contract_size,
    find_market,
    instrument_of,
    market_of,
    read_again_for,
    record_market,
)
from engine.venues.order_book import OrderBook
from engine.venues.venue import (
    BOOK_LEVELS,
    Credentials,
    Instrument,
    OrderRequest,
    OrderResult,
    OrderStatus,
    Protection,
    Quote,
    Ticker,
)

POLLS: Final = 10
POLL_S: Final = 0.2


class CcxtVenue(CcxtRecord):
    """One person's account on one venue (see `Account`). Threads take turns at a client; what an exit must not wait for
    has clients of its own (see `engine.venues.live.side_queries`).

    Make one of these per account and keep it: leverage that was set and read back is remembered for a minute.
    `backoff` is shared by all that speak to one address; None takes the process's own.
    """

    def __init__(
        self,
        venue: str,
        credentials: Credentials,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
        backoff: Backoff | None = None,
    ) -> None:
        self._exchange = open_exchange(venue, base_url, credentials, timeout_s, backoff=backoff)
        self._beside = Beside(lambda: open_exchange(venue, base_url, credentials, timeout_s, backoff=backoff))
        self._market_data = MarketData(venue, base_url, timeout_s, backoff=backoff)
        self._coins = CoinPrices(self._exchange, self._exchange.session.backoff.monotonic)
        self._conditional = ConditionalOrders(self._exchange)
        self._fitter = Fitter(self, self._exchange.listing)
        self._sleep = sleep
        self._lock = threading.RLock()

    def quote(self, symbol: str) -> Quote:
        return self._market_data.quote(symbol)

    def ticker(self, symbol: str) -> Ticker:
        return self._market_data.ticker(symbol)

    def order_book(self, symbol: str) -> OrderBook:
        return self._market_data.order_book(symbol)

    def entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        return self._market_data.entry_book(symbol, levels)

    def instrument(self, symbol: str) -> Instrument:
        """By the account's own client: an exit must not wait for the share of the limit that prices have."""
        with self._asking():
            found = find_market(self._exchange, symbol)
        read_again_for(self._exchange, found)
        with self._asking():
            return instrument_of(self._exchange, symbol, market_of(self._exchange, symbol))

    def instrument_now(self, symbol: str) -> Instrument:
        self._exchange.listing.read_at_once()
        return self.instrument(symbol)

    def prepare(self, entry: OrderRequest, *, is_flat: bool = False) -> bool:
        return self._beside.entries.prepare(entry, is_flat=is_flat)

    def margin_mode(self, symbol: str) -> MarginMode | None:
        try:
            return self._beside.entries.margin_mode(symbol)
        except VenueRefused as refusal:  # there is nothing to refuse in a question: the venue is not itself
            raise UpstreamUnavailable("venue", str(refusal)) from refusal

    def market_order(self, order: OrderRequest) -> OrderResult:
        """Sets the leverage if it is another, sends the order once and waits up to 2 s for its end: OPEN when it had
        not ended by then. A client id that an open order already has gives that order. Raises as `Venue` says."""
        return self._ordered(order, "market", None, {})

    def limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        """Immediate or cancel, at `limit_price` moved to the tick on its safe side."""
        result = self._ordered(order, "limit", limit_price, {"timeInForce": "IOC"})
        if result.status is OrderStatus.REJECTED:
            limit = self.instrument(order.symbol).limit_price(limit_price, is_buy=order.is_buy)
            raise VenueRefused(
                f"{order.symbol}: the market is beyond the limit price {digits(limit)}", "not_marketable"
            )
        return result

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that client id; None when the venue says that there is none.

        A conditional order that has fired tells the number and the fill of the plain order that it became. One that
        was sent a moment ago is asked for again before it is believed not to exist.
        """
        found = self._found(symbol, client_order_id)
        for wait_s in self._conditional.waits_s(client_order_id):
            if found is not None or not self._conditional.may_be_unseen(client_order_id):
                break
            self._sleep(wait_s)
            found = self._found(symbol, client_order_id)
        if found is None:
            self._conditional.check_gone(client_order_id)
        return found

    def client_order_id(self, symbol: str, order_id: str) -> str | None:
        """Of a plain order that a conditional one became, the conditional one's."""
        name = super().client_order_id(symbol, order_id)
        if name is None or not self._conditional.may_have_been(name):
            return name
        try:
            with self._asking():
                return self._conditional.client_id_of(record_market(self._exchange, symbol), order_id) or name
        except StrategyFault:  # of a symbol that is not listed the venue tells no conditional orders
            return name

    def income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        return self._beside.record.income(symbol, since_ms, kind)

    def worth_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        return self._beside.record.worth_usd(asset, amount, at_ms)

    def protect(self, protection: Protection, *, again: bool = False) -> tuple[OrderResult, ...]:
        legs = legs_of(protection, self.instrument(protection.symbol))
        return place_all(self, legs, self._waiting, self._sleep, again=again)

    def cancel(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """Asks again while the order is open: it may have been accepted late, or be triggering."""
        ended = self._cancelled(symbol, client_order_id) or self.order_by_client_id(symbol, client_order_id)
        for wait_s in (0.0, *self._conditional.waits_s(client_order_id)):
            if ended is None or ended.status is not OrderStatus.OPEN:
                return ended
            if wait_s:
                self._sleep(wait_s)
            ended = self._cancelled(symbol, client_order_id) or self.order_by_client_id(symbol, client_order_id)
        if ended is not None and ended.status is OrderStatus.OPEN:
            raise OrderUnclear(f"order {client_order_id} is still open after it was cancelled")
        return ended

    def close(self) -> None:
        self._exchange.session.close()
        self._market_data.close()
        self._beside.close()

    def _ordered(self, order: OrderRequest, kind: str, price: Decimal | None, more: Mapping[str, str]) -> OrderResult:
        """`price` is the limit as it was asked for."""
        fit = self._fitter.fit(order, price)
        if order.is_entry:
            self.prepare(order)
        try:
            sent = self._sent(order, *fit, kind, more)
        except (VenueRefused, StrategyFault) as refusal:
            sent = self._sent(order, *self._fitter.fit_again(order, price, fit, refusal), kind, more)
        return self._ended(order.symbol, sent, order.client_order_id)

    def _waiting(self, leg: Leg) -> OrderResult:
        """Sends a protective order; one that the venue already has under its id is as good, unless it was cancelled."""
        order, name = leg.order, leg.order.client_order_id
        self._conditional.will_send(name)
        try:
            sent = self._leg_sent(leg)
        except VenueRefused:
            self._conditional.gone(name)
            raise
        self._conditional.took(name, sent.get("id"))
        if not sent:
            return self._holder_of(order.symbol, name)
        with self._telling(ordering=True):
            market = market_of(self._exchange, order.symbol)
            waiting = self._result(self._conditional.as_told(sent), market, name)
        if waiting.status is OrderStatus.REJECTED:
            self._conditional.gone(name)
            raise VenueRefused(f"the venue rejected order {waiting.order_id} as it took it")
        return waiting

    def _leg_sent(self, leg: Leg) -> dict[str, Any]:
        """Once more, as the filters of now take it, where it was refused for one of them."""
        try:
            return self._sent(leg.order, leg.order.quantity, None, "market", {leg.trigger: f"{leg.price:f}"})
        except VenueRefused as refusal:
            again = self._fitter.leg_again(leg, refusal)
        return self._sent(again.order, again.order.quantity, None, "market", {again.trigger: f"{again.price:f}"})

    def _holder_of(self, symbol: str, name: str) -> OrderResult:
        """The order for which the venue refused `name` as taken. Raises OrderIdTaken when it was cancelled."""
        for wait_s in (*self._conditional.waits_s(name), 0.0):  # a newer one may not be shown yet
            known = self.order_by_client_id(symbol, name)
            if known is None:
                raise OutcomeUnknown(f"the venue says that it has order {name}, and that it has none")
            if known.status is not OrderStatus.REJECTED:
                return known
            self._sleep(wait_s)
        raise OrderIdTaken(f"the venue takes no second order under the id {name}, whose order was cancelled")

    def _sent(
        self, order: OrderRequest, quantity: Decimal, price: Decimal | None, kind: str, more: Mapping[str, str]
    ) -> dict[str, Any]:
        """ccxt's order as answered; {} when the venue already has one under that id."""
        with self._telling(ordering=True):
            _check_in_time(order)
            market = market_of(self._exchange, order.symbol)
            amount = f"{quotient(quantity, contract_size(market)):f}"
            side = "buy" if order.is_buy else "sell"
            told = None if price is None else f"{price:f}"
            parameters = {"clientOrderId": order.client_order_id, "reduceOnly": order.reduce_only, **more}
            if self._exchange.id == "aster":
                # Written as Aster reads it; RESULT tells the fill at once where the default only acknowledges.
                parameters |= {"reduceOnly": str(order.reduce_only).lower(), "newOrderRespType": "RESULT"}
            try:
                return dict(self._exchange.create_order(market["symbol"], kind, side, amount, told, parameters))
            except ccxt.DuplicateOrderId:
                return {}

    def _found(self, symbol: str, client_order_id: str) -> OrderResult | None:
        with self._asking():
            market = record_market(self._exchange, symbol)
            if self._conditional.has(client_order_id):
                raw = self._conditional.found(market, client_order_id)
                return None if raw is None else self._result(raw, market, client_order_id)
            try:
                raw = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id})
            except ccxt.OrderNotFound:
                return None
            return self._result(raw, market, client_order_id)

    def _cancelled(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """How the order ended, if the venue had it and says how."""
        with self._asking():
            market = record_market(self._exchange, symbol)
            try:
                if self._conditional.has(client_order_id):
                    self._conditional.cancelled(market, client_order_id)
                    return None
                raw = self._exchange.cancel_order(None, market["symbol"], {"clientOrderId": client_order_id})
            except ccxt.OrderNotFound:
                return None
            return self._result(raw, market, client_order_id) if raw.get("status") in parsers.ENDS else None

    def _ended(self, symbol: str, sent: dict[str, Any], client_order_id: str) -> OrderResult:
        """The order's end, as far as it came within the time we give it.

        The order has been sent: whatever goes wrong from here on leaves its outcome unknown.
        """
        try:
            return self._followed(symbol, sent, client_order_id)
        except SparkyError as error:
            raise OutcomeUnknown(f"order {client_order_id} was sent, then {error}") from error

    def _followed(self, symbol: str, sent: dict[str, Any], client_order_id: str) -> OrderResult:
        """Between two questions the account is free for others, whose exit must not wait for this order."""
        with self._asking():
            market = record_market(self._exchange, symbol)
        for _ in range(POLLS):
            if sent.get("status") in parsers.ENDS:
                break
            self._sleep(POLL_S)
            with self._asking():
                sent = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id})
        with self._asking():
            return self._result(sent, market, client_order_id)

    def _result(self, raw: dict[str, Any], market: dict[str, Any], client_order_id: str) -> OrderResult:
        if raw.get("id") is None:
            raise ValueError("the answer names no order")
        filled = product(exact(raw.get("filled") or 0), contract_size(market))
        status = parsers.status_of(raw, filled)
        price, fee_usd = exact(raw.get("average") or 0), Decimal(0)
        if status is OrderStatus.FILLED:
            price, fee_usd = price_and_fee(self._exchange, raw, market, self._coins)
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
    def _asking(self) -> Iterator[None]:
        try:
            with self._telling():
                yield
        except VenueRefused as refusal:  # there is nothing to refuse in a question: the venue is not itself
            raise UpstreamUnavailable("venue", str(refusal)) from refusal

    @contextmanager
    def _telling(self, *, ordering: bool = False) -> Iterator[None]:
        with self._lock, translated(self._exchange, ordering=ordering):
            yield


def _check_in_time(order: OrderRequest) -> None:
    """Raises UpstreamUnavailable for an entry that has waited for too long since its price was judged."""
    if order.send_by is not None and time.monotonic() > order.send_by:
        raise UpstreamUnavailable(
            "venue", "the entry was not sent in time: the price may be another since it was judged"
        )
