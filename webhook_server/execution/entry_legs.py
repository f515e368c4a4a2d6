"""The leg that enters: sized and priced by the order book of now, with its margin, and only as far as it can be
protected."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from typing import Final

from engine.domain import decimals
from engine.domain.errors import OrderRejected
from engine.domain.positions import MarginMode, Position, Side
from engine.platform.errors import SparkyError
from engine.risk import sizing
from engine.risk.entry_costs import CostLimits, EntryTerms, PricedEntry, check_book, price_entry
from engine.risk.limit_breach import LimitBreach
from engine.risk.protection_fit import calculate_protectable_quantity, check_order_count
from engine.store.margin import EntryMargin
from engine.store.webhook_rows import Fill
from engine.venues.account_state import OrderKind
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderRequest, OrderResult
from engine.venues.paper import ensure_depth
from engine.venues.venue import LiveVenue, Quotes
from webhook_server.execution import entry_margin
from webhook_server.execution.closing_legs import ClosingLegs
from webhook_server.execution.execution_context import OPEN, NothingToDo, end_on_configuration_error
from webhook_server.execution.leg_orders import place_order

MAX_ORDER_DELAY_S: Final = 3.0  # between the judgement of an entry's price and its order


class EntryRefused(SparkyError):
    """The entry would cost more than it may; nothing was sent."""

    def __init__(self, breach: LimitBreach) -> None:
        super().__init__(breach.message)
        self.breach = breach


@dataclass(frozen=True)
class SizedEntry:
    """`quantity`: what the size is worth, in whole lots; `fitting`: as much of it as can be protected."""

    priced: PricedEntry
    quantity: Decimal
    fitting: Decimal


@dataclass(frozen=True)
class LegExecutor(ClosingLegs):
    """Executes the legs of `trade`. Methods raise NothingToDo and what the venue raises; an entry that costs too much
    raises EntryRefused.

    `open_quotes` has the prices that an entry is judged by, `slippage_percent` is what they may move meanwhile. A live
    entry is made within `guard_entry`, which raises AccountFault when the account cannot trade; `load_margin` tells
    what it is to have as margin, and is called once the symbol's lock is held.
    """

    open_quotes: Callable[[], Quotes]
    slippage_percent: Decimal
    guard_entry: Callable[[LiveVenue], AbstractContextManager[None]]
    load_margin: Callable[[], EntryMargin]
    max_order_delay_s: float = MAX_ORDER_DELAY_S

    def find_cost_breach(self, size_usd: Decimal) -> LimitBreach | None:
        """Why an entry of `size_usd` is not made. Raises what the quotes raise; their faults end the request."""
        try:
            with end_on_configuration_error(self.trade.signal.exchange):
                self._price_entry(size_usd)
        except EntryRefused as refused:
            return refused.breach
        return None

    def open(self, size_usd: Decimal) -> tuple[Fill, tuple[sizing.ReducedBy, ...]]:
        """Enters with at most `size_usd` of notional. The fill, and what made it less."""
        trade, signal = self.trade, self.trade.signal
        instrument = self.venue.fetch_instrument(signal.symbol)
        result, margin = self.find_sent(OPEN), self.load_margin()
        mode = entry_margin.select_margin_mode(trade, margin)
        if result is not None:
            reduced_by = self._find_reduction_reasons(size_usd, result, instrument.lot)
        else:
            entry_margin.check_margin(trade, margin, size_usd)
            with self._guard_account(margin):
                result, reduced_by = self._price_and_enter(size_usd, instrument, margin, mode)
        prices = sizing.calculate_protective_prices(signal, result.price, instrument.tick)
        level = entry_margin.liquidation_price(trade, mode, instrument, result.quantity, result.price)
        margin_fields = {"margin_mode": mode, "liquidation_price": level}
        return self._build_fill(OPEN, result, signal.leverage, prices).model_copy(update=margin_fields), reduced_by

    @contextmanager
    def _guard_account(self, margin: EntryMargin) -> Iterator[None]:
        if self.trade.is_paper:
            yield
            return
        with self.guard_entry(self.account), entry_margin.explain_margin_conflict(self.trade, margin):
            yield

    def _find_reduction_reasons(
        self, size_usd: Decimal, found: OrderResult, lot: Decimal
    ) -> tuple[sizing.ReducedBy, ...]:
        """What made the fill of an earlier attempt less than `size_usd`, whose sizing price is not stored."""
        wanted = size_usd / found.price
        min_quantity = wanted * (1 - self.slippage_percent / 100)
        reasons = sizing.find_reduction_reasons(wanted, found.quantity, lot)
        return (
            (sizing.ReducedBy.LOT_STEP,)
            if reasons and found.quantity >= sizing.floor_to(min_quantity, lot)
            else reasons
        )

    def _price_and_enter(
        self, size_usd: Decimal, instrument: Instrument, margin: EntryMargin, mode: MarginMode | None
    ) -> tuple[OrderResult, tuple[sizing.ReducedBy, ...]]:
        """Only the order itself is asked of the venue after the book by which its price was judged."""
        held, symbol = self._held_on_side, self.trade.signal.symbol
        if self.trade.wants_protection and instrument.max_trigger_orders is not None:
            check_order_count(self.trade.signal, held, instrument, self._count_conditional_orders(held))
        fetch_mode = cache(lambda: mode or self.account.fetch_margin_mode(symbol))
        sized = self._size_entry(size_usd, instrument, fetch_mode)
        order = self._build_entry_order(sized.fitting, mode)
        has_prepared = self.venue.prepare_entry(order, is_flat=held is None and not margin.others)
        if has_prepared or fetch_mode.cache_info().currsize:  # requests took time, in which the price has moved
            sized = self._size_entry(size_usd, instrument, fetch_mode)
            order = self._build_entry_order(sized.fitting, mode)
        try:
            result = self._place_entry(order)
        except OrderRejected as error:
            if error.kind == "not_marketable":
                raise NothingToDo(str(error)) from error
            raise
        if sized.fitting < sized.quantity:
            partial = sizing.find_reduction_reasons(sized.fitting, result.quantity, instrument.lot)
            return result, (sizing.ReducedBy.MAX_PROTECTED_QUANTITY, *partial)
        return result, sizing.find_reduction_reasons(sized.priced.quantity, result.quantity, instrument.lot)

    @property
    def _held_on_side(self) -> Position | None:
        """What the entry adds to."""
        return self.trade.held if self.trade.increases_position else None

    def _count_conditional_orders(self, held: Position | None) -> int:
        """How many conditional orders wait in the symbol; on paper as many as what is `held` would have."""
        if self.trade.is_paper:
            prices = () if held is None else (held.stop_loss_price, held.take_profit_price)
            return sum(price is not None for price in prices)
        plain = {OrderKind.MARKET, OrderKind.LIMIT}
        return sum(each.kind not in plain for each in self.account.fetch_open_orders(self.trade.signal.symbol))

    def _size_entry(
        self, size_usd: Decimal, instrument: Instrument, mode: Callable[[], MarginMode | None]
    ) -> SizedEntry:
        trade, priced = self.trade, self._price_entry(size_usd)
        quantity = self._floor_quantity(size_usd, priced, instrument)
        fitting = quantity
        if trade.wants_protection:
            quote = priced.build_quote(is_buy=self._terms.is_buy)
            fitting = calculate_protectable_quantity(trade.signal, trade.held, quantity, instrument, quote)
        entry = entry_margin.PlannedEntry(fitting, priced.price, priced.book.mark)
        entry_margin.check_liquidation(trade, mode, instrument, entry)
        return SizedEntry(priced, quantity, fitting)

    def _price_entry(self, size_usd: Decimal) -> PricedEntry:
        """Raises EntryRefused and what the quotes raise."""
        quotes, symbol, terms = self.open_quotes(), self.trade.signal.symbol, self._terms
        book = quotes.fetch_entry_book(symbol)
        _raise_breach(check_book(book, terms.limits))
        instrument = quotes.fetch_instrument(symbol)
        max_quantity = decimals.quotient(size_usd, book.get_side(is_buy=terms.is_buy)[0].price)
        deep_book = ensure_depth(book, quotes, symbol, max_quantity, is_buy=terms.is_buy)
        if deep_book is not book:  # then it is one of a later moment
            _raise_breach(check_book(deep_book, terms.limits))
        priced = price_entry(deep_book, size_usd, instrument, terms)
        if isinstance(priced, LimitBreach):
            raise EntryRefused(priced)
        return priced

    @cached_property
    def _terms(self) -> EntryTerms:
        signal = self.trade.signal
        limit_price = signal.price if signal.order_type == "LIMIT" else None
        limits = CostLimits.from_portfolio(self.trade.portfolio)
        return EntryTerms(self.trade.side is Side.LONG, limits, self.slippage_percent, limit_price)

    def _floor_quantity(self, size_usd: Decimal, priced: PricedEntry, instrument: Instrument) -> Decimal:
        """The priced quantity in whole lots. Raises OrderRejected for what no order can be of."""
        signal = self.trade.signal
        if instrument.max_leverage is not None and signal.leverage > instrument.max_leverage:
            raise OrderRejected(f"leverage {signal.leverage} is above the {instrument.max_leverage} of {signal.symbol}")
        quantity, lot_usd = instrument.floor_to_lot(priced.quantity), instrument.lot * priced.price
        is_little = quantity * priced.price < max(instrument.min_notional, lot_usd)
        if self.trade.increases_position and is_little and size_usd < (signal.position_size_usd or size_usd):
            raise NothingToDo(f"the position in {signal.symbol} has its largest size")
        if quantity <= 0:
            raise OrderRejected(
                f"{size_usd} USD is less than one lot of {signal.symbol}, which is worth {lot_usd:.2f} USD"
            )
        return quantity

    def _build_entry_order(self, quantity: Decimal, mode: MarginMode | None) -> OrderRequest:
        signal = self.trade.signal
        return OrderRequest(
            client_order_id=self.trade.client_order_id(OPEN),
            symbol=signal.symbol,
            is_buy=self._terms.is_buy,
            quantity=quantity,
            leverage=signal.leverage,
            margin_mode=mode,
            send_by=self.clock.monotonic() + self.max_order_delay_s,
        )

    def _place_entry(self, entry: OrderRequest) -> OrderResult:
        if not self.trade.is_paper:
            self.submit()
        return place_order(self.venue, entry, self.clock, self._terms.limit_price)


def _raise_breach(breach: LimitBreach | None) -> None:
    if breach is not None:
        raise EntryRefused(breach)
