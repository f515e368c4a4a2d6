"""The legs of an order at a venue: out of what is held, into what is wanted. Knows no books and no answers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Final, Literal

from engine.domain.errors import OrderRejected
from engine.domain.positions import MarginMode, Position, Side
from engine.risk import sizing
from engine.risk.protection_fit import calculate_protectable_quantity, check_order_count
from engine.store.margin import EntryMargin
from engine.store.webhook_rows import Fill
from engine.venues.account_state import OrderKind
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderRequest, OrderResult
from engine.venues.venue import Venue
from webhook_server.clock import Clock
from webhook_server.execution import entry_margin
from webhook_server.execution.closing_legs import ClosingLegExecutor
from webhook_server.execution.entry_pricing import EntryPricing
from webhook_server.execution.execution_context import CLOSE, OPEN, REST, UNDO, NothingToDo, TradeContext
from webhook_server.execution.leg_orders import find_order, place_order
from webhook_server.execution.position_protection import PositionProtection, TriggeredExit
from webhook_server.metrics import Metrics

MAX_ORDER_DELAY_S: Final = 3.0  # between the judgement of an entry's price and its order
FILL_KINDS: Final[dict[str, Literal["open", "close", "rest", "undo"]]] = {
    OPEN: "open",
    CLOSE: "close",
    REST: "rest",
    UNDO: "undo",
}


@dataclass(frozen=True)
class LegExecutor(ClosingLegExecutor):
    """Executes the legs of `trade` at `venue`. Methods raise NothingToDo and what the venue raises; an entry that
    `pricing` refuses raises EntryRefused.

    `submit` is called before an order leaves for a live venue; it raises when this server may not send it. A new entry
    is made within `guard_entry`, which raises AccountFault when the account cannot trade; `load_margin` tells what it
    is to have as margin, and is asked for once the symbol's turn has come.
    """

    trade: TradeContext
    venue: Venue
    clock: Clock
    metrics: Metrics
    pricing: EntryPricing
    submit: Callable[[], None]
    guard_entry: Callable[[], AbstractContextManager[None]] = nullcontext
    load_margin: Callable[[], EntryMargin] = EntryMargin

    @property
    def protection(self) -> PositionProtection:
        return PositionProtection(self.trade, self.venue, self.metrics)

    def has_fired(self) -> bool:
        """Whether a protective order of what is held has filled, unseen so far."""
        return self.trade.held is not None and self.protection.has_fired(self.trade.held)

    def fill_from_trigger(self, held: Position, fired: TriggeredExit) -> Fill:
        """The exit that a protective order of `held` made at the venue while this request did something else."""
        reason, result = fired
        return self._build_fill(CLOSE, result, held.leverage, (None, None), reason)

    def open(self, size_usd: Decimal) -> tuple[Fill, tuple[str, ...]]:
        """Enters with at most `size_usd` of notional. The fill, and what made it less."""
        signal = self.trade.signal
        instrument = self.venue.fetch_instrument(signal.symbol)
        result, margin = self.find_sent(OPEN), self.load_margin()
        mode = entry_margin.select_margin_mode(self.trade, margin)
        if result is not None:
            reduced_by = self._find_reduction_reasons(size_usd, result, instrument.lot)
        else:
            entry_margin.check_other_strategies(self.trade, margin)
            entry_margin.check_free_margin(self.trade, margin, size_usd)
            with self.guard_entry(), entry_margin.explain_margin_conflict(self.trade, margin):
                result, reduced_by = self._price_and_enter(size_usd, instrument, margin)
        prices = sizing.calculate_protective_prices(signal, result.price, instrument.tick)
        level = entry_margin.liquidation_price(self.trade, mode, instrument, result.quantity, result.price)
        margin_fields = {"margin_mode": mode, "liquidation_price": level}
        return self._build_fill(OPEN, result, signal.leverage, prices).model_copy(update=margin_fields), reduced_by

    def _find_reduction_reasons(self, size_usd: Decimal, found: OrderResult, lot: Decimal) -> tuple[str, ...]:
        """What made the fill of an earlier attempt less than `size_usd`, whose sizing price is not stored."""
        wanted = size_usd / found.price
        min_quantity = wanted * (1 - self.pricing.slippage_percent / 100)
        reasons = sizing.find_reduction_reasons(wanted, found.quantity, lot)
        return ("lot_step",) if reasons and found.quantity >= sizing.floor_to(min_quantity, lot) else reasons

    def find_sent(self, leg: str) -> OrderResult | None:
        """The fill of a leg that an earlier attempt sent; None when there was no such attempt or no such order."""
        if not self.trade.may_have_been_sent:
            return None
        return find_order(self.venue, self.trade.signal.symbol, self.trade.client_order_id(leg), self.clock)

    def was_sent(self, leg: str) -> bool:
        """Whether an earlier attempt sent the leg and it was filled; one that ended without a fill did nothing."""
        try:
            return self.find_sent(leg) is not None
        except OrderRejected:
            return False

    def _price_and_enter(
        self, size_usd: Decimal, instrument: Instrument, margin: EntryMargin
    ) -> tuple[OrderResult, tuple[str, ...]]:
        """Only the order itself is asked of the venue after the book by which its price was judged."""
        if self.trade.wants_protection and instrument.max_trigger_orders is not None:
            held = self.trade.held if self.trade.increases_position() else None
            check_order_count(self.trade.signal, held, instrument, self._count_conditional_orders(held))
        mode, symbol = entry_margin.select_margin_mode(self.trade, margin), self.trade.signal.symbol
        fetch_mode = cache(lambda: mode or self.account.fetch_margin_mode(symbol))
        wanted, quantity, fitting = self._size_entry(size_usd, instrument, fetch_mode)
        is_flat = not self.trade.increases_position() and not margin.others
        has_prepared = self.venue.prepare_entry(self._build_entry_order(fitting, mode), is_flat=is_flat)
        if has_prepared or fetch_mode.cache_info().currsize:
            wanted, quantity, fitting = self._size_entry(size_usd, instrument, fetch_mode)
        try:
            result = self._place_entry(self._build_entry_order(fitting, mode))
        except OrderRejected as error:
            if error.kind == "not_marketable":
                raise NothingToDo(str(error)) from error
            raise
        if fitting < quantity:
            partial = sizing.find_reduction_reasons(fitting, result.quantity, instrument.lot)
            return result, (sizing.ReducedBy.MAX_PROTECTED_QUANTITY, *partial)
        return result, sizing.find_reduction_reasons(wanted, result.quantity, instrument.lot)

    def _count_conditional_orders(self, held: Position | None) -> int:
        """How many conditional orders wait in the symbol; on paper as many as what is `held` would have."""
        if self.trade.is_paper:
            prices = () if held is None else (held.stop_loss_price, held.take_profit_price)
            return sum(price is not None for price in prices)
        plain = {OrderKind.MARKET, OrderKind.LIMIT}
        return sum(each.kind not in plain for each in self.account.fetch_open_orders(self.trade.signal.symbol))

    def _size_entry(
        self, size_usd: Decimal, instrument: Instrument, mode: Callable[[], MarginMode | None]
    ) -> tuple[Decimal, Decimal, Decimal]:
        """What `size_usd` is worth at the book of now, that in whole lots, and how much of it can be protected."""
        wanted, mark = self.pricing.price_entry(size_usd)
        quantity = self._entry_quantity(size_usd, wanted, instrument)
        fitting = quantity
        if self.trade.wants_protection:
            fitting = calculate_protectable_quantity(
                self.trade.signal, self.trade.held, quantity, instrument, self.pricing.build_quote()
            )
        entry = entry_margin.PlannedEntry(fitting, size_usd / wanted, mark)
        entry_margin.check_liquidation(self.trade, mode, instrument, entry)
        return wanted, quantity, fitting

    def _build_entry_order(self, quantity: Decimal, mode: MarginMode | None) -> OrderRequest:
        signal = self.trade.signal
        return OrderRequest(
            client_order_id=self.trade.client_order_id(OPEN),
            symbol=signal.symbol,
            is_buy=signal.side is Side.LONG,
            quantity=quantity,
            leverage=signal.leverage,
            margin_mode=mode,
            send_by=self.clock.monotonic() + MAX_ORDER_DELAY_S,
        )

    def _place_entry(self, entry: OrderRequest) -> OrderResult:
        if not self.trade.is_paper:
            self.submit()
        limit = self.trade.signal.price if self.trade.signal.order_type == "LIMIT" else None
        return place_order(self.venue, entry, self.clock, limit)

    def _entry_quantity(self, size_usd: Decimal, wanted: Decimal, instrument: Instrument) -> Decimal:
        """`wanted` of the base asset, worth `size_usd` at the worst price, in whole lots."""
        signal = self.trade.signal
        if instrument.max_leverage is not None and signal.leverage > instrument.max_leverage:
            raise OrderRejected(f"leverage {signal.leverage} is above the {instrument.max_leverage} of {signal.symbol}")
        quantity, worst = instrument.floor_to_lot(wanted), size_usd / wanted
        lot_usd = instrument.lot * worst
        is_little = quantity * worst < max(instrument.min_notional, lot_usd)
        if self.trade.increases_position() and is_little and size_usd < (signal.position_size_usd or size_usd):
            raise NothingToDo(f"the position in {signal.symbol} has its largest size")
        if quantity <= 0:
            raise OrderRejected(
                f"{size_usd} USD is less than one lot of {signal.symbol}, which is worth {lot_usd:.2f} USD"
            )
        return quantity

    def _place_leg(self, leg: str, quantity: Decimal, *, is_buy: bool, reduce_only: bool) -> OrderResult:
        if not self.trade.is_paper:
            self.submit()
        return place_order(
            self.venue, self._build_order(leg, quantity, is_buy=is_buy, reduce_only=reduce_only), self.clock
        )

    def _build_order(self, leg: str, quantity: Decimal, *, is_buy: bool, reduce_only: bool) -> OrderRequest:
        return OrderRequest(
            client_order_id=self.trade.client_order_id(leg),
            symbol=self.trade.signal.symbol,
            is_buy=is_buy,
            quantity=quantity,
            reduce_only=reduce_only,
            leverage=None,
        )

    def _build_fill(
        self,
        leg: str,
        result: OrderResult,
        leverage: int,
        protection: tuple[Decimal | None, Decimal | None],
        exit_reason: str | None = None,
        orders: Sequence[OrderResult] = (),
    ) -> Fill:
        signal = self.trade.signal
        return Fill(
            kind=FILL_KINDS[leg],
            exchange=signal.exchange,
            symbol=signal.symbol,
            side=self.trade.side_of(leg),
            quantity=result.quantity,
            price=result.price,
            fee_usd=result.fee_usd,
            leverage=leverage,
            is_paper=self.trade.is_paper,
            strategy_id=signal.strategy_id,
            order_id=result.order_id,
            order_ids=tuple(each.order_id for each in orders) if len(orders) > 1 else (),
            client_order_id=result.client_order_id,
            stop_loss_price=protection[0],
            take_profit_price=protection[1],
            exit_reason=exit_reason or (self.trade.request.exit_reason if leg in {CLOSE, REST} else None),
            market_time_ms=result.at_ms,
        )
