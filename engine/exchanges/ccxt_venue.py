"""Real orders on any venue that ccxt knows (Aster first): sent once, found again by their client order id."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import ccxt

from engine.errors import OutcomeUnknown, SparkyError, VenueRefused
from engine.exchanges.client import TIMEOUT_S, open_exchange
from engine.exchanges.failures import translated
from engine.exchanges.listing import contract_size, exact, market_of
from engine.exchanges.market_data import MarketData
from engine.exchanges.venue import Credentials, Instrument, OrderRequest, OrderResult, OrderStatus, Quote

ENDS: Final = ("closed", "canceled", "expired", "rejected")  # ccxt's; some venues acknowledge without any status
POLLS: Final = 10
POLL_S: Final = 0.2
DOLLARS: Final = ("USDT", "USDC", "USD", "USDF")


class CcxtVenue:
    """One person's account on one venue. Threads take turns, as nonces are counted per signer.

    Make one of these per account and keep it: leverage that was set is remembered.
    """

    def __init__(
        self,
        venue: str,
        credentials: Credentials,
        base_url: str | None = None,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._exchange = open_exchange(venue, base_url, credentials, timeout_s)
        self._market_data = MarketData(venue, base_url, timeout_s)
        self._sleep = sleep
        self._lock = threading.RLock()
        self._leverage: dict[str, int] = {}

    def quote(self, symbol: str) -> Quote:
        return self._market_data.quote(symbol)

    def instrument(self, symbol: str) -> Instrument:
        return self._market_data.instrument(symbol)

    def market_order(self, order: OrderRequest) -> OrderResult:
        """Sets the leverage if it is another, sends the order once and waits up to 2 s for its end.

        OPEN when it had not ended by then. A client id that an open order already has gives that order. Raises as
        `Venue.market_order`.
        """
        quantity = self.instrument(order.symbol).whole_lots(order.quantity)
        if not order.reduce_only:
            self._set_leverage(order.symbol, order.leverage)
        sent = self._sent(order, quantity)
        return self._ended(order.symbol, sent, order.client_order_id)

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that client id; None when the venue says that there is none."""
        with self._asking():
            market = market_of(self._exchange, symbol)
            try:
                raw = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id})
            except ccxt.OrderNotFound:
                return None
            return self._result(raw, market, client_order_id)

    def close(self) -> None:
        self._exchange.session.close()
        self._market_data.close()

    def _sent(self, order: OrderRequest, quantity: Decimal) -> dict[str, Any]:
        with self._asking(ordering=True):
            market = market_of(self._exchange, order.symbol)
            amount = f"{quantity / contract_size(market):f}"
            parameters = {"clientOrderId": order.client_order_id, "reduceOnly": order.reduce_only}
            if self._exchange.id == "aster":
                # Written as Aster reads it; RESULT tells the fill at once where the default only acknowledges.
                parameters |= {"reduceOnly": str(order.reduce_only).lower(), "newOrderRespType": "RESULT"}
            side = "buy" if order.is_buy else "sell"
            try:
                return dict(self._exchange.create_order(market["symbol"], "market", side, amount, None, parameters))
            except ccxt.DuplicateOrderId:
                return {}

    def _ended(self, symbol: str, sent: dict[str, Any], client_order_id: str) -> OrderResult:
        """The order's end, as far as it came within the time we give it.

        The order has been sent: whatever goes wrong from here on leaves its outcome unknown.
        """
        try:
            with self._asking():
                return self._followed(symbol, sent, client_order_id)
        except SparkyError as error:
            raise OutcomeUnknown(f"order {client_order_id} was sent, then {error}") from error

    def _followed(self, symbol: str, sent: dict[str, Any], client_order_id: str) -> OrderResult:
        market = market_of(self._exchange, symbol)
        for _ in range(POLLS):
            if sent.get("status") in ENDS:
                break
            self._sleep(POLL_S)
            sent = self._exchange.fetch_order(None, market["symbol"], {"clientOrderId": client_order_id})
        return self._result(sent, market, client_order_id)

    def _set_leverage(self, symbol: str, leverage: int) -> None:
        if self._leverage.get(symbol) == leverage:
            return
        with self._asking():
            try:
                answer = self._exchange.set_leverage(leverage, market_of(self._exchange, symbol)["symbol"])
            except ccxt.NoChange:
                answer = {}
        told = answer.get("leverage") if isinstance(answer, dict) else None
        if told is not None and int(told) != leverage:
            raise VenueRefused(f"{symbol}: leverage {leverage} was asked for and {told} was set")
        self._leverage[symbol] = leverage

    def _result(self, raw: dict[str, Any], market: dict[str, Any], client_order_id: str) -> OrderResult:
        if raw.get("id") is None:
            raise ValueError("the answer names no order")
        filled = exact(raw.get("filled") or 0) * contract_size(market)
        status = OrderStatus.FILLED if filled > 0 else OrderStatus.REJECTED
        status = status if raw.get("status") in ENDS else OrderStatus.OPEN
        return OrderResult(
            order_id=str(raw["id"]),
            client_order_id=client_order_id,
            status=status,
            price=exact(raw.get("average") or 0),
            quantity=filled,
            fee_usd=self._fee(raw, market) if status is OrderStatus.FILLED else Decimal(0),
            at_ms=int(raw.get("lastUpdateTimestamp") or raw.get("timestamp") or 0),
        )

    def _fee(self, raw: dict[str, Any], market: dict[str, Any]) -> Decimal:
        """What the venue took: from the order where it says so, from its trades, else the taker rate times the cost."""
        fee = raw.get("fee") or {}
        if fee.get("cost") is not None:
            return exact(fee["cost"])
        fills = self._exchange.fetch_my_trades(market["symbol"], raw.get("timestamp"), 1_000)
        ours = [fill for fill in fills if fill["order"] == raw["id"] and fill["fee"]["currency"] in DOLLARS]
        if sum((exact(fill["amount"]) for fill in ours), Decimal(0)) == exact(raw["filled"]):
            return sum((abs(exact(fill["fee"]["cost"])) for fill in ours), Decimal(0))
        rate = exact(self._exchange.fetch_trading_fee(market["symbol"])["taker"])
        return exact(raw["cost"]) * rate

    @contextmanager
    def _asking(self, *, ordering: bool = False) -> Iterator[None]:
        with self._lock, translated(self._exchange, ordering=ordering):
            yield
