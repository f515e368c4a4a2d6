"""Legs of one request at the test market, without a database: for tests of one module of execution."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final

from engine.domain.positions import Position
from engine.store.margin import EntryMargin
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderResult, OrderStatus, build_client_order_id
from engine.venues.paper import PaperVenue
from engine.venues.venue import LiveVenue, Quotes, Venue
from tests.support.factories.entry_values import NOW, USER, order, position
from tests.webhook_server.market import LiveAccount, Market
from webhook_server.execution.entry_legs import LegExecutor
from webhook_server.execution.execution_context import Request, TradeContext
from webhook_server.metrics import Metrics
from webhook_server.protection.position_protection import build_protection

START_S: Final = 1_000.0
SLIPPAGE_PERCENT: Final = Decimal("0.02")
FIRST = "00000000-0000-4000-8000-000000000009"  # names the request that placed the protection of what is held


class StepClock:
    """Begins at NOW; waiting moves it and takes no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return START_S + sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class SizedMarket(Market):
    """A market whose instruments have `sizes` of their own; `reread` come with the next reading of the list."""

    sizes: dict[str, object] = field(default_factory=dict)
    reread: dict[str, object] = field(default_factory=dict)

    def fetch_instrument(self, symbol: str) -> Instrument:
        return super().fetch_instrument(symbol).model_copy(update=self.sizes)

    def refresh_instrument(self, symbol: str) -> Instrument:
        self.sizes |= self.reread
        return self.fetch_instrument(symbol)


class ScriptedAccount(LiveAccount):
    """An account whose record a test adds to."""

    def refuse_later(self, client_order_id: str) -> None:
        """The order of that name was taken, and ended without a fill."""
        zero, status = Decimal(0), OrderStatus.REJECTED
        self.orders.append(
            OrderResult(
                order_id="1",
                client_order_id=client_order_id,
                status=status,
                price=zero,
                quantity=zero,
                fee_usd=zero,
                at_ms=0,
            )
        )


def build_request(*, is_resumed: bool = False, **fields: Any) -> Request:
    """BUY 1,000 USD of BTCUSDT, or what `fields` say, under the id "a"."""
    return Request("a", USER, order(**fields), NOW, START_S, is_resumed=is_resumed)


def build_trade(
    venue: Venue, held: Position | None = None, *, is_paper: bool = False, is_resumed: bool = False, **fields: Any
) -> TradeContext:
    """The trade of `build_request` at `venue`, live unless `is_paper`."""
    request = build_request(is_resumed=is_resumed, **fields)
    return TradeContext(request, is_paper, held, cache(lambda: venue))


@contextmanager
def guard_nothing(_: LiveVenue) -> Iterator[None]:
    """Of an account that can trade."""
    yield


def build_legs(
    trade: TradeContext,
    quotes: Quotes,
    margin: EntryMargin | None = None,
    submit: Callable[[], None] = lambda: None,
) -> LegExecutor:
    """The legs of `trade`, whose entry is priced by `quotes`."""
    return LegExecutor(
        trade,
        StepClock(),
        Metrics(),
        submit=submit,
        open_quotes=lambda: quotes,
        slippage_percent=SLIPPAGE_PERCENT,
        guard_entry=guard_nothing,
        load_margin=lambda: margin or EntryMargin(),
    )


def build_paper(market: Market) -> PaperVenue:
    return PaperVenue(market, Decimal("0.04"), SLIPPAGE_PERCENT)


def hold_live(account: LiveAccount, quantity: str, **fields: Any) -> Position:
    """A live position of `quantity` BTCUSDT whose stop-loss at 24,500 waits on `account`, as the books have it."""
    stop = build_client_order_id(FIRST, "l")
    given = {"stop_loss_price": Decimal(24_500), "stop_loss_client_order_id": stop}
    held = position(is_paper=False, quantity=Decimal(quantity), **given | fields)
    if held.stop_loss_client_order_id is not None:
        account.place_protection(build_protection(held, held.quantity))
    return held
