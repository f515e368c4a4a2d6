"""The outermost edge of the server under test: a market whose prices a test sets, and one live account on it."""

import threading
from dataclasses import dataclass, field
from decimal import Decimal

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault, VenueUnavailable
from engine.domain.positions import MarginMode, Side
from engine.platform.errors import ConfigurationError, CredentialsError
from engine.venues.account_record import AccountTrade, ForcedOrder, Income
from engine.venues.account_setup import AccountSetup
from engine.venues.account_state import Balance, OpenOrder, OrderKind, VenuePosition
from engine.venues.instrument import Instrument
from engine.venues.market_data.client import CandleSeries
from engine.venues.market_data.funding import FundingRate, FundingState
from engine.venues.order_book import BOOK_LEVELS, Level, MarkPrice, OrderBook
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus, Protection
from engine.venues.paper import PaperVenue
from engine.venues.quotes import Quote, Ticker
from engine.venues.venue import Credentials, LiveVenue, Venue

TICK, LOT, MIN_NOTIONAL = Decimal("0.1"), Decimal("0.001"), Decimal(5)
GATE_S = 240.0  # longer than any wait of a test that holds a gate shut


@dataclass
class Market:
    """Prices that a test sets: what has none is not listed. Of `unpriced` symbols no price is told; `away` makes the
    venue unreachable, `gate` holds every quote back until it is set."""

    prices: dict[str, Decimal] = field(
        default_factory=lambda: {"BTCUSDT": Decimal("25000.0"), "ETHUSDT": Decimal("2000.0")}
    )
    unpriced: set[str] = field(default_factory=set)
    away: Exception | None = None
    gate: threading.Event | None = None
    asked: threading.Event = field(default_factory=threading.Event)
    book: dict[str, object] = field(default_factory=dict)  # what entries are shown otherwise

    def fetch_quote(self, symbol: str) -> Quote:
        self.asked.set()
        if self.gate is not None and not self.gate.wait(GATE_S):
            raise AssertionError("the gate never opened")
        if symbol in self.unpriced:
            raise VenueUnavailable(f"it tells no price of {symbol}")
        price = self._price(symbol)
        return Quote(bid=price - TICK, ask=price + TICK, last=price, at_ms=1_700_000_000_000)

    def fetch_ticker(self, symbol: str) -> Ticker:
        quote = self.fetch_quote(symbol)
        return Ticker(last=quote.last, bid=None, ask=None, change_24h_percent=None, at_ms=quote.at_ms)

    def fetch_order_book(self, symbol: str) -> OrderBook:
        return self.fetch_entry_book(symbol)

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:  # noqa: ARG002 - it has one on each side
        """One basis of quotes, with more than anybody orders."""
        quote, much = self.fetch_quote(symbol), Decimal(10**9)
        bids, asks = (Level(quote.bid, much),), (Level(quote.ask, much),)
        told = {"at_ms": quote.at_ms, "clock_ms": quote.at_ms, "mark": quote.last, "mark_ms": quote.at_ms}
        return OrderBook(bids=bids, asks=asks, **told).model_copy(update=self.book)

    def fetch_instrument(self, symbol: str) -> Instrument:
        self._price(symbol)
        return Instrument(symbol=symbol, tick=TICK, lot=LOT, min_notional=MIN_NOTIONAL, max_leverage=50)

    def refresh_instrument(self, symbol: str) -> Instrument:
        return self.fetch_instrument(symbol)

    def fetch_candles(self, symbol: str, interval: str = "1m", limit: int = 100) -> CandleSeries:  # noqa: ARG002 - the protocol
        """It has no past."""
        self._price(symbol)
        return CandleSeries((), 1_700_000_000_000)

    def fetch_mark_price(self, symbol: str) -> MarkPrice:
        at_ms = 1_700_000_000_000
        return MarkPrice(price=self._price(symbol), at_ms=at_ms, clock_ms=at_ms)

    def _price(self, symbol: str) -> Decimal:
        if self.away is not None:
            raise self.away
        if symbol not in self.prices:
            raise StrategyFault(f"aster lists no perpetual called {symbol}")
        return self.prices[symbol]


class LiveAccount:
    """A venue that keeps its own record of orders, so that tests can compare it with the books.

    `mood` is what the next orders meet: fill, refuse, away (before it is sent), lost (filled, but the answer is lost),
    silent (nothing is filled and nothing is answered) or forbidden (the credentials are not accepted). `outcomes` are
    what single orders meet, the next one first: a refusal, or the quantity that is filled of it.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self.mood = "fill"
        self.outcomes: list[Exception | Decimal] = []
        self.orders: list[OrderResult] = []
        self.requests: list[OrderRequest] = []
        self.protections: dict[str, Protection] = {}
        self.triggered: dict[str, OrderResult] = {}
        self.protection_fails: Exception | None = None

    def fetch_quote(self, symbol: str) -> Quote:
        return self._market.fetch_quote(symbol)

    def fetch_ticker(self, symbol: str) -> Ticker:
        return self._market.fetch_ticker(symbol)

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        return self._market.fetch_entry_book(symbol, levels)

    def fetch_order_book(self, symbol: str) -> OrderBook:
        return self._market.fetch_order_book(symbol)

    def fetch_instrument(self, symbol: str) -> Instrument:
        return self._market.fetch_instrument(symbol)

    def refresh_instrument(self, symbol: str) -> Instrument:
        return self._market.refresh_instrument(symbol)

    def fetch_margin_mode(self, symbol: str) -> MarginMode | None:  # noqa: ARG002 - the protocol's
        return None

    def prepare_entry(self, entry: OrderRequest, *, is_flat: bool = False) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        failures: dict[str, Exception] = {
            "refuse": OrderRejected("Margin is insufficient. (-2019)"),
            "away": VenueUnavailable("no connection"),
            "silent": OrderOutcomeUnknown("timed out"),
            "forbidden": CredentialsError("The venue does not accept the credentials: key revoked."),
        }
        if self.mood in failures:
            raise failures[self.mood]
        outcome = self.outcomes.pop(0) if self.outcomes else order.quantity
        if isinstance(outcome, Exception):
            raise outcome
        order = order.model_copy(update={"quantity": min(order.quantity, outcome)})
        self.requests.append(order)
        price = self._market.prices[order.symbol]
        result = OrderResult(
            order_id=str(1000 + len(self.orders)),
            client_order_id=order.client_order_id,
            status=OrderStatus.FILLED,
            price=price,
            quantity=order.quantity,
            fee_usd=order.quantity * price * Decimal("0.0004"),
            at_ms=1_700_000_000_000,
        )
        self.orders.append(result)
        if self.mood == "lost":
            raise OrderOutcomeUnknown("503 after the order was accepted")
        return result

    def place_limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        price = self._market.prices[order.symbol]
        if (price > limit_price) if order.is_buy else (price < limit_price):
            raise OrderRejected("the market is beyond the limit price", "not_marketable")
        return self.place_market_order(order)

    def place_protection(self, protection: Protection, *, reuse_existing: bool = False) -> tuple[OrderResult, ...]:  # noqa: ARG002 - the protocol
        """Whatever stands in the way of placing it; `protections` are those that wait, by client order id."""
        if self.protection_fails is not None:
            raise self.protection_fails
        names = [
            name
            for name, price in (
                (protection.stop_loss_id, protection.stop_loss_price),
                (protection.take_profit_id, protection.take_profit_price),
            )
            if price is not None
        ]
        for name in names:
            self.protections[name] = protection
        return tuple(self._waiting(name, OrderStatus.OPEN) for name in names)

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol
        if client_order_id in self.triggered:
            return self.triggered[client_order_id]
        if self.protections.pop(client_order_id, None) is None:
            return None
        return self._waiting(client_order_id, OrderStatus.REJECTED)

    def trigger(self, client_order_id: str) -> None:
        """The market reaches a waiting order: it closes what it protects."""
        wanted = self.protections.pop(client_order_id)
        order = OrderRequest(
            client_order_id=client_order_id,
            symbol=wanted.symbol,
            is_buy=wanted.side is Side.SHORT,
            quantity=wanted.quantity,
            reduce_only=True,
            leverage=None,
        )
        self.triggered[client_order_id] = self.place_market_order(order)

    def fetch_positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        """The net of all orders, by symbol."""
        nets: dict[str, Decimal] = {}
        for request in self.requests:
            if symbol not in (None, request.symbol):
                continue
            signed = request.quantity if request.is_buy else -request.quantity
            nets[request.symbol] = nets.get(request.symbol, Decimal(0)) + signed
        return tuple(
            VenuePosition(
                symbol=name,
                side=Side.LONG if net > 0 else Side.SHORT,
                quantity=abs(net),
                entry_price=self._market.prices[name],
                leverage=1,
                unrealized_pnl_usd=None,
            )
            for name, net in nets.items()
            if net and symbol in {None, name}
        )

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        return tuple(
            OpenOrder(
                order_id=f"w-{name}",
                client_order_id=name,
                symbol=wanted.symbol,
                kind=OrderKind.OTHER,
                is_buy=wanted.side is Side.SHORT,
                quantity=wanted.quantity,
                filled=Decimal(0),
                price=Decimal(1),
                reduce_only=wanted.reduce_only,
                at_ms=0,
            )
            for name, wanted in self.protections.items()
            if wanted.symbol == symbol
        )

    def fetch_balance(self) -> Balance:
        raise NotImplementedError

    def fetch_setup(self) -> AccountSetup:
        return AccountSetup()

    def fetch_trades(
        self, symbol: str, *, since_ms: int | None = None, after_id: int | None = None
    ) -> tuple[AccountTrade, ...]:
        """One per order, in its turn."""
        assert since_ms is not None or after_id is not None
        asked = {request.client_order_id: request for request in self.requests}
        return tuple(
            AccountTrade(
                trade_id=number,
                order_id=order.order_id,
                symbol=symbol,
                is_buy=asked[order.client_order_id].is_buy,
                quantity=order.quantity,
                price=order.price,
                fee_usd=order.fee_usd,
                at_ms=order.at_ms,
            )
            for number, order in enumerate(self.orders, 1)
            if asked[order.client_order_id].symbol == symbol and number > (after_id or 0)
        )

    def fetch_forced_orders(self, symbol: str, since_ms: int) -> tuple[ForcedOrder, ...]:  # noqa: ARG002 - the protocol's
        return ()

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:  # noqa: ARG002 - the protocol's
        return ()

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:  # noqa: ARG002 - the protocol's
        return None

    def find_client_order_id(self, symbol: str, order_id: str) -> str | None:  # noqa: ARG002 - the protocol's
        return next((order.client_order_id for order in self.orders if order.order_id == order_id), None)

    def _waiting(self, name: str, status: OrderStatus) -> OrderResult:
        zero = Decimal(0)
        return OrderResult(
            order_id=f"w-{name}", client_order_id=name, status=status, price=zero, quantity=zero, fee_usd=zero, at_ms=0
        )

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        if self.mood in {"lost", "silent"}:
            raise VenueUnavailable("no connection")
        named = (order for order in self.orders if order.client_order_id == client_order_id)
        return self.triggered.get(client_order_id) or next(named, None)


class NoFunding:
    """A venue that tells nothing of funding."""

    def fetch_state(self, symbol: str) -> FundingState | None:  # noqa: ARG002 - the protocol's
        return None

    def fetch_history(self, symbol: str, since_ms: int) -> tuple[FundingRate, ...] | None:  # noqa: ARG002 - see above
        return None

    def fetch_price_at(self, symbol: str, at_ms: int) -> Decimal:
        raise VenueUnavailable(f"no price of {symbol} at {at_ms}")


@dataclass
class Venues:
    """The outermost edge: the venues that the server under test finds."""

    market: Market
    account: LiveAccount

    def quotes(self, exchange: str) -> Market:
        if exchange != "aster":
            raise ConfigurationError(
                f"No exchange is called {exchange!r}; see the list of exchanges that ccxt supports."
            )
        return self.market

    def funding(self, exchange: str) -> "NoFunding":
        self.quotes(exchange)
        return NoFunding()

    def history(self, exchange: str) -> Market:
        return self.quotes(exchange)

    def paper(self, exchange: str) -> Venue:
        return PaperVenue(self.quotes(exchange), Decimal("0.04"), Decimal("0.02"))

    def live(self, exchange: str, credentials: Credentials) -> LiveVenue:
        assert exchange == "aster"
        assert credentials.private_key is not None
        return self.account
