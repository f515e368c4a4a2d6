"""Carries out a plan leg by leg and books what each leg did; what was booked is never executed again."""

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import structlog

from engine.domain.errors import OrderRejected, StrategyFault
from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.risk.execution_plan import ExecutionPlan
from engine.risk.limit_breach import LimitBreach
from engine.store.store import Store
from engine.store.webhook_rows import BookedFill, Fill, PlacedProtection, RequestEndState
from webhook_server.clock import Clock
from webhook_server.execution.entry_legs import EntryRefused, LegExecutor
from webhook_server.execution.execution_context import (
    UNDO,
    AlreadyBooked,
    NothingToDo,
    PositionEnded,
    Request,
    RequestEnded,
    TradeContext,
    end_on_configuration_error,
    keep_request_open,
)
from webhook_server.execution.exit_legs import ExitExecutor, ExitResult, combine_fills
from webhook_server.execution.results import (
    AnswerEncoder,
    Booked,
    Closed,
    EntryResult,
    Opened,
    Pnl,
    Refused,
    Rejected,
    Result,
    Skipped,
    Stamp,
    Undone,
    Unprotected,
)
from webhook_server.metrics import Metrics
from webhook_server.protection.position_protection import TriggeredExit, protective_order_ids
from webhook_server.reconciliation.account_checks import AccountFault
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler

logger = structlog.get_logger()


class PlanExecutor:
    """One instance serves all requests; each call is for one request, whose locks the caller holds."""

    def __init__(
        self, store: Store, clock: Clock, metrics: Metrics, reconciler: SymbolReconciler, encode: AnswerEncoder
    ) -> None:
        self._encode = encode
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._exits = ExitExecutor(store, reconciler, metrics)

    def execute(self, legs: LegExecutor, plan: ExecutionPlan) -> Result:
        """The answer, stored together with the last fill. Raises RequestEnded when there is nothing (more) to book."""
        if not plan.close:
            return self._open(legs, plan, None)
        exit_, plan = self._close(legs, plan)
        opens = plan.open_usd > 0
        closed = self._build_closed(legs.trade, exit_, plan)
        if not opens:
            return self._book_last_exit(legs.trade, exit_, closed)
        closed = self._book_first_exit(legs.trade, exit_, closed)
        with keep_request_open("the exit is booked, and the entry neither made nor refused yet"):
            return self._open(replace(legs, trade=replace(legs.trade, held=None)), plan, closed)

    def build_skip(self, request: Request, reason: str, *, is_paper: bool | None = None) -> RequestEnded:
        """Nothing had to be done; in the book `is_paper` says, if that came to light."""
        return RequestEnded("skipped", Skipped(reason, request.stamp(self._clock.monotonic()), is_paper), reason)

    def check_already_booked(self, request: Request, refusal: LimitBreach | None = None) -> None:
        """Raises AlreadyBooked where an attempt that was broken off has booked the request's exit, of which nothing is
        left. `refusal` is why the entry after it is not made."""
        fill = combine_fills(self._store.list_request_fills(request.id, request.user_id))
        if fill is None:
            return
        stamp = request.stamp(self._clock.monotonic())
        raise AlreadyBooked(
            self._finish_booked(request, Closed(fill, fill.quantity, stamp, fill.is_paper, refusal=refusal))
        )

    def _close(self, legs: LegExecutor, plan: ExecutionPlan) -> tuple[ExitResult, ExecutionPlan]:
        """The exit of what is held, and what is left of the plan: nothing opens while a part is still held."""
        trade = legs.trade
        try:
            with end_on_configuration_error(trade.signal.exchange):
                exit_ = self._exits.execute(legs, trade.require_held())
        except PositionEnded:
            raise
        except NothingToDo as reason:
            raise self.build_skip(trade.request, str(reason), is_paper=trade.is_paper) from None
        if plan.open_usd > 0 and not exit_.is_complete:
            part = f"the venue closed only {exit_.fill.quantity} of {exit_.held.quantity}"
            return exit_, replace(plan, open_usd=Decimal(0), reason=part)
        return exit_, plan

    def _build_closed(self, trade: TradeContext, exit_: ExitResult, plan: ExecutionPlan) -> Closed:
        refusal = plan.reason if plan.breach is None else plan.breach
        held = exit_.held.quantity
        return Closed(exit_.fill, held, self._stamp(trade), trade.is_paper, refusal, trade.still_open)

    def _book_last_exit(self, trade: TradeContext, exit_: ExitResult, closed: Closed) -> Result:
        """Ends the request with its exit; books it unless its legs were booked."""
        if exit_.unbooked is not None:
            return self._book(trade, exit_.unbooked, closed)
        return self._finish_booked(trade.request, closed)

    def _book_first_exit(self, trade: TradeContext, exit_: ExitResult, closed: Closed) -> Closed:
        """Books the exit of a reversal, which an entry follows; with its P&L."""
        last = None if exit_.unbooked is None else self._book_intermediate(trade, exit_.unbooked)
        if exit_.booked is not None or last is None:
            return replace(closed, pnl=Pnl(*exit_.calculate_pnl(last)))
        if last.pnl_usd is None or last.pnl_percent is None:
            return closed
        return replace(closed, pnl=Pnl(last.pnl_usd, last.pnl_percent))

    def _book_intermediate(self, trade: TradeContext, fill: Fill) -> BookedFill:
        """Books a fill after which the request goes on."""
        request = trade.request
        booked = self._store.book_fill(request.id, request.user_id, fill, status=None, answer=None)
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        return booked

    def _open(self, legs: LegExecutor, plan: ExecutionPlan, closed: Closed | None) -> Result:
        trade = legs.trade
        try:
            with end_on_configuration_error(trade.signal.exchange):
                fill, reduced_by = legs.open(plan.open_usd)
        except NothingToDo as reason:
            skipped = Skipped(str(reason), self._stamp(trade), trade.is_paper, closed)
            raise RequestEnded("skipped", skipped, str(reason)) from None
        except EntryRefused as refused:
            return self._refuse_entry(trade, refused.breach, closed)
        except (AccountFault, OrderRejected) as error:
            # An account's fault counts as no failure of the venue: nothing was tried.
            state: RequestEndState = "refused" if isinstance(error, AccountFault) else "failed"
            rejected = Rejected(str(error), self._stamp(trade), trade.is_paper, closed)
            raise RequestEnded(state, rejected, str(error)) from error
        requested_usd = trade.signal.position_size_usd or plan.open_usd
        reasons = (*plan.reduced_by, *reduced_by)
        entry = EntryResult(fill, trade.held, requested_usd, plan.open_usd, reasons, closed)
        if not trade.needs_protective_orders:
            return self._book(trade, fill, Opened(entry, self._stamp(trade), trade.is_paper))
        with keep_request_open("the entry is booked, and neither protected nor undone yet"):
            return self._book_and_protect(legs, entry)

    def _refuse_entry(self, trade: TradeContext, refusal: LimitBreach, closed: Closed | None) -> Result:
        """A limit refused the entry when its price was known; the exit of a reversal is made and booked by then."""
        self._metrics.refusals.labels(refusal.limit_type.value).inc()
        if closed is None:
            raise RequestEnded("refused", Refused(refusal), refusal.message)
        return self._finish_booked(trade.request, replace(closed, refusal=refusal))

    def _book_and_protect(self, legs: LegExecutor, entry: EntryResult) -> Result:
        """Books the entry, then places its protection, or undoes the entry and says so.

        Dying in between leaves a request that is `filled`: the next attempt goes on from here.
        """
        trade, request, fill, closed = legs.trade, legs.trade.request, entry.fill, entry.closed
        kept = (
            _without_prices(fill) if trade.increases_position else fill
        )  # until its own wait, what was held keeps its prices
        booked = self._store.book_fill(request.id, request.user_id, kept, status=None, answer=None)
        position = self._load_position(trade, booked.position_id, fill)
        if position is None or not _has_protective_price(
            position
        ):  # out of the books, or its only target lies below nothing
            opened = Opened(entry, self._stamp(trade), trade.is_paper, position)
            return self._finish_with_protection(trade, booked.position_id, PlacedProtection(), opened)
        if legs.was_sent(UNDO):
            return self._undo_entry(legs, position, fill, closed, "it was undone before")
        try:
            placed, fired = legs.protection.place(position)
        except SparkyError as error:
            return self._undo_entry(legs, position, fill, closed, str(error))
        if fired is not None:
            self._book_fired_exit(legs, position, fired)
            return self._book_and_protect(legs, entry)
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        opened = Opened(entry, self._stamp(trade), trade.is_paper, _with_protection_prices(position, placed))
        return self._finish_with_protection(trade, position.id, placed, opened)

    def _book_fired_exit(self, legs: LegExecutor, position: Position, fired: TriggeredExit) -> None:
        """What protected the position before this request added to it has been filled: books that exit. The new
        protection is for more than is left, and goes."""
        request = legs.trade.request
        exit_ = legs.fill_from_trigger(position, fired)
        self._store.book_fill(request.id, request.user_id, exit_, status=None, answer=None)
        self._metrics.fills.labels(exit_.kind, legs.trade.book).inc()
        legs.protection.cancel_own()
        self._store.book_protection(
            request.id, request.user_id, position.id, PlacedProtection(), status=None, answer=None
        )

    def _undo_entry(
        self, legs: LegExecutor, position: Position, fill: Fill, closed: Closed | None, reason: str
    ) -> Result:
        symbol, signal = fill.symbol, legs.trade.request.id
        try:
            undo = self._exits.undo(legs, fill, position)
        except (OrderRejected, StrategyFault) as refusal:
            failure = f"{reason}; it could not be undone either: {refusal}"
            self._report_unprotected(symbol, position, signal, failure)
            unprotected = Unprotected(fill, failure, self._stamp(legs.trade), legs.trade.is_paper, closed)
            return self._finish_with_protection(legs.trade, position.id, _existing_protection(position), unprotected)
        logger.warning("entry_undone", signal=signal, symbol=symbol, reason=reason)
        self._metrics.entries_undone.inc()
        if undo.quantity < fill.quantity:  # then the rest is protected as it asked
            self._store.book_protection(
                signal, position.user_id, position.id, _existing_protection(position), status=None, answer=None
            )
            self._report_unprotected(
                symbol, position, signal, f"only {undo.quantity} of {fill.quantity} could be undone"
            )
        undone = Undone(fill, undo, reason, self._stamp(legs.trade), legs.trade.is_paper, closed)
        return self._book(legs.trade, undo, undone)

    def _report_unprotected(self, symbol: str, position: Position, signal: str, reason: str) -> None:
        self._metrics.protection_failures.labels("undo").inc()
        logger.error("position_unprotected", symbol=symbol, position=str(position.id), signal=signal, reason=reason)

    def _load_position(self, trade: TradeContext, position_id: UUID | None, entry: Fill) -> Position | None:
        """As the books have it, at the prices that `entry` asks for."""
        signal, user_id = trade.signal, trade.request.user_id
        held = self._store.list_strategy_positions(user_id, signal.exchange, signal.strategy_id, signal.symbol)
        return next((_with_entry_prices(entry, each) for each in held if each.id == position_id), None)

    def _finish_with_protection(
        self, trade: TradeContext, position_id: UUID | None, placed: PlacedProtection, result: Result
    ) -> Result:
        """Ends the request with what protects its position now."""
        request, answer = trade.request, self._encode(result)
        if position_id is None:
            raise AssertionError("an entry has a position")
        self._store.book_protection(
            request.id, request.user_id, position_id, placed, status=answer.status, answer=answer.body
        )
        return Booked(result, answer.body)

    def _finish_booked(self, request: Request, result: Result) -> Booked:
        """Ends a request all of whose fills are booked."""
        answer = self._encode(result)
        stored = self._store.finish_booked_request(request.id, request.user_id, answer.status, answer.body)
        return Booked(result, stored)

    def _book(self, trade: TradeContext, fill: Fill, result: Result) -> Booked:
        """Books the last fill and, in the same transaction, the answer."""
        request, answer = trade.request, self._encode(result)
        booked = self._store.book_fill(request.id, request.user_id, fill, status=answer.status, answer=answer.body)
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        return Booked(result, booked.answer or answer.body)

    def _stamp(self, trade: TradeContext) -> Stamp:
        return trade.request.stamp(self._clock.monotonic())


def _has_protective_price(position: Position) -> bool:
    return (position.stop_loss_price or position.take_profit_price) is not None


def _existing_protection(position: Position) -> PlacedProtection:
    """The orders that protect it already, and the prices that are wanted."""
    stop, target = protective_order_ids(position)
    return PlacedProtection(
        stop_loss_price=position.stop_loss_price,
        take_profit_price=position.take_profit_price,
        stop_loss_client_order_id=stop,
        take_profit_client_order_id=target,
    )


def _without_prices(fill: Fill) -> Fill:
    return fill.model_copy(update={"stop_loss_price": None, "take_profit_price": None})


def _with_entry_prices(entry: Fill, position: Position) -> Position:
    prices = {
        "stop_loss_price": entry.stop_loss_price or position.stop_loss_price,
        "take_profit_price": entry.take_profit_price or position.take_profit_price,
    }
    return position.model_copy(update=prices)


def _with_protection_prices(position: Position, placed: PlacedProtection) -> Position:
    """The position with the prices at which it is protected, for the answer."""
    return position.model_copy(
        update={"stop_loss_price": placed.stop_loss_price, "take_profit_price": placed.take_profit_price}
    )
