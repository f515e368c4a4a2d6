"""The exit of one position, in the order that keeps the account from crossing zero.

First a reduction, which ends at zero by itself. What is left then belongs to the account only together with what
others hold on the opposite side: it is sent as a second order, after books and venue were compared. What the venue
ended without us is settled before, and then there may be nothing left to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import NoReturn

import structlog

from engine.domain import decimals
from engine.domain.errors import OrderRejected, StrategyFault, VenueUnavailable
from engine.domain.positions import Position, get_sign
from engine.platform.errors import CredentialsError, DatabaseUnavailable, UpstreamUnavailable
from engine.store.store import Store
from engine.store.venue_record import RequestFill
from engine.store.webhook_rows import BookedFill, Fill
from webhook_server.execution.entry_legs import LegExecutor
from webhook_server.execution.execution_context import (
    CLOSE,
    REST,
    UNDO,
    PositionEnded,
    Request,
    TradeContext,
    keep_request_open,
)
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.delisting import build_delisted_exit
from webhook_server.reconciliation.open_order_cache import find_listed_instrument, is_delisted
from webhook_server.reconciliation.symbol_comparison import SymbolComparison
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler

logger = structlog.get_logger()


@dataclass(frozen=True)
class ExitResult:
    """What the legs closed of `held`, as one `fill`. `unbooked` is the leg that is to be booked with the answer,
    `booked` what booking the leg before it did."""

    fill: Fill
    held: Position
    unbooked: Fill | None
    booked: BookedFill | None = None

    @property
    def is_complete(self) -> bool:
        return self.fill.quantity + (self.fill.dust or Decimal(0)) >= self.held.quantity

    def calculate_pnl(self, last: BookedFill | None) -> tuple[Decimal, Decimal]:
        """In USD and in percent of the cost; `last` is what booking the last leg did. Costs are in the proportion of
        the quantities."""
        legs = [each for each in (self.booked, last) if each is not None]
        usd = sum((each.pnl_usd or Decimal(0) for each in legs), Decimal(0))
        if self.unbooked is None or self.booked is None:
            return usd, sum((each.pnl_percent or Decimal(0) for each in legs), Decimal(0))
        dust_quantity = self.unbooked.quantity if self.unbooked.kind == "dust" else Decimal(0)
        share = decimals.quotient(self.unbooked.quantity, self.fill.quantity + dust_quantity)
        percents = [each.pnl_percent or Decimal(0) for each in legs]
        return usd, percents[0] * (1 - share) + percents[-1] * share


class ExitExecutor:
    """One instance serves all requests; each call is for one request, whose locks the caller holds."""

    def __init__(self, store: Store, reconciler: SymbolReconciler, metrics: Metrics) -> None:
        self._store = store
        self._reconciler = reconciler
        self._metrics = metrics

    def execute(self, legs: LegExecutor, held: Position) -> ExitResult:
        """Closes what the order names of `held`. Raises PositionEnded where it turns out to have ended at the venue,
        NothingToDo, and what the venue and the store raise."""
        is_listed = find_listed_instrument(legs.venue, held.symbol) is not None
        if legs.trade.is_paper:
            fill = legs.close(held) if is_listed else build_delisted_exit(held)
            return ExitResult(fill, held, unbooked=fill)
        if not is_listed:
            self._check_held(legs, held)
        try:
            return self._execute_live(legs, held)
        except StrategyFault as refusal:
            if is_listed and not is_delisted(legs.venue, held.symbol):  # its list has it, so that this passes
                raise VenueUnavailable(f"it refuses {held.symbol}, and lists it: {refusal}") from refusal
            self._check_held(legs, held)
            raise VenueUnavailable(f"it lists {held.symbol} no more, and shows it as held") from refusal

    def _execute_live(self, legs: LegExecutor, held: Position) -> ExitResult:
        if not legs.trade.may_have_been_sent:
            return self._send(legs, self._submit(legs, held))
        request = legs.trade.request
        booked_close = next((each for each in self._load_fills(request) if each.kind == "close"), None)
        if booked_close is not None:
            return self._close_rest(legs, booked_close.fill, booked_close.booked_fill)
        if not legs.was_sent(CLOSE) and legs.was_sent(REST):
            return self._close_only_rest(legs, held)
        return self._send(legs, held)

    def undo(self, legs: LegExecutor, opened: Fill, position: Position) -> Fill:
        """Takes back what was just entered, as far as the account still holds it: a reduction, unless others hold the
        opposite side. Raises OrderRejected where nothing of it is left, and what the venue raises."""
        if legs.trade.can_be_reduce_only(opened.side) or legs.was_sent(UNDO):
            return legs.undo(opened, opened.quantity, reduce_only=True)
        comparison = self._compare(legs)
        now = self._find_position(comparison, position)
        if comparison is None or comparison.is_transient or now is None:
            return legs.undo(opened, opened.quantity, reduce_only=True)
        own_quantity = min(opened.quantity, now.quantity, _own_share(comparison, now))
        if own_quantity <= 0:
            raise OrderRejected(f"the account holds nothing of {now.symbol} on this side any more", "reduce_only")
        return legs.undo(opened, own_quantity, reduce_only=_venue_net(comparison) * get_sign(now.side) >= own_quantity)

    def _check_held(self, legs: LegExecutor, held: Position) -> None:
        """Of a symbol that the list lacks: returns where the account shows a position in it, so that an exit may find
        something. Raises PositionEnded where it was settled, UpstreamUnavailable where that is not known yet, and
        OrderRejected where only a person can tell."""
        comparison = self._compare(legs)
        if comparison is None or comparison.is_transient:
            why = "its record cannot be read now" if comparison is None else str(comparison.reason)
            raise VenueUnavailable(f"it lists {held.symbol} no more: {why}")
        if self._find_position(comparison, held) is None:
            raise PositionEnded(self._describe_end(held))
        if comparison.reason is not None and _venue_net(comparison) == 0:
            raise OrderRejected(f"{held.symbol}: {comparison.reason}", "filter")

    def _send(self, legs: LegExecutor, held: Position) -> ExitResult:
        first = self._reduce(legs, held)
        if isinstance(first, Position):
            return self._close_only_rest(legs, first)
        if first.quantity >= legs.closing_quantity(held.quantity):
            return ExitResult(first, held, unbooked=first)
        return self._close_rest(legs, first, self._book(legs.trade, first))

    def _submit(self, legs: LegExecutor, held: Position) -> Position:
        """`held` as it is once the request is submitted: from then on nothing else books what happened to it."""
        legs.submit()
        now = self._load_position(legs.trade)
        if now is None:
            raise PositionEnded(self._describe_end(held))
        return now

    def _reduce(self, legs: LegExecutor, held: Position) -> Fill | Position:
        """The reduction; or the position, as it is now, when the account has nothing that it would reduce."""
        for is_settled in (False, True):
            try:
                return legs.close(held)
            except OrderRejected as refusal:
                if refusal.kind != "reduce_only":
                    raise
                comparison = self._compare(legs)
                now = self._find_position(comparison, held)
                if now is None:
                    raise PositionEnded(self._describe_end(held)) from refusal
                if is_settled or now.quantity == held.quantity:
                    _check_explained(refusal, comparison, is_alone=legs.trade.can_be_reduce_only(held.side))
                    return now
                held = now
        raise AssertionError("the second attempt returns or raises")

    def _close_only_rest(self, legs: LegExecutor, left: Position) -> ExitResult:
        now, rest = self._compare_and_close_rest(legs, left, legs.closing_quantity(left.quantity))
        if now is None:
            raise PositionEnded(self._describe_end(left))
        if rest is None:
            raise OrderRejected(f"the account holds nothing of {left.symbol} on this side", "reduce_only")
        return ExitResult(rest, now, unbooked=rest)

    def _close_rest(self, legs: LegExecutor, first: Fill, done: BookedFill) -> ExitResult:
        """Once the reduction is booked, books and venue can be compared, and what is left to send is sent."""
        complete = ExitResult(first, _with_quantity(legs.trade.require_held(), first.quantity), None, done)
        left = self._load_position(legs.trade)
        if left is None:
            return complete
        closing = legs.closing_quantity(left.quantity + first.quantity)
        with keep_request_open("a first part of the exit is booked, and the rest neither sent nor refused yet"):
            try:
                now, rest = self._compare_and_close_rest(legs, left, closing - first.quantity, has_first_leg=True)
            except (OrderRejected, StrategyFault) as refusal:
                logger.warning(
                    "exit_rest_refused", symbol=left.symbol, quantity=str(left.quantity), reason=str(refusal)
                )
                now, rest = left, None
            if now is None:
                return complete
        held = _with_quantity(now, now.quantity + first.quantity)
        if rest is None:
            return ExitResult(first, held, None, done)
        if rest.kind == "dust":
            return ExitResult(first.model_copy(update={"dust": rest.quantity}), held, rest, done)
        return ExitResult(_add_fills(first, rest), held, rest, done)

    def _compare_and_close_rest(
        self, legs: LegExecutor, left: Position, wanted: Decimal, *, has_first_leg: bool = False
    ) -> tuple[Position | None, Fill | None]:
        """What is `left` once books and venue were compared (None when that was all of it), and the exit of as much of
        it as is `wanted` and the account holds: at once, or only net of what others hold on the opposite side. None
        where that is nothing. `has_first_leg` says that a first leg is booked."""
        made, has_more = legs.find_rest(wanted)
        if wanted <= 0:
            return left, None
        if not has_more:
            return left, legs.close_rest(left, wanted)
        comparison = self._compare(legs)
        if (
            comparison is None or comparison.is_transient
        ):  # what others hold is not known now: an order beyond zero waits until it is
            fired = None if made else _find_fired_rest(legs, left, comparison)
            if fired is None:
                self._raise_waiting(legs.trade.request, comparison, has_sent=made > 0 or not has_first_leg)
            return left, fired
        now = self._find_position(comparison, left)
        if now is None:
            return None, None
        held = _venue_net(comparison) * get_sign(now.side)
        reducible = held if held >= legs.min_quantity else Decimal(0)
        # Alone on the account, the venue has filled a part only, and would again.
        is_limited = reducible > 0 and (made > 0 or legs.trade.can_be_reduce_only(now.side))
        quantity = (
            made if is_limited else min(wanted, now.quantity, made + max(Decimal(0), _own_share(comparison, now)))
        )
        return now, legs.close_rest(now, quantity, reducible) if quantity > 0 else None

    def _raise_waiting(self, request: Request, comparison: SymbolComparison | None, *, has_sent: bool) -> NoReturn:
        """Raises UpstreamUnavailable. Where all that was sent is booked, nothing waits for this exit meanwhile."""
        if not has_sent:
            self._store.mark_rest_waiting(request.id, request.user_id)
        why = "its record cannot be read now" if comparison is None else str(comparison.reason)
        raise VenueUnavailable(f"the rest of an exit waits: {why}")

    def _compare(self, legs: LegExecutor) -> SymbolComparison | None:
        """Books and venue compared, and settled where the record explains it, also what hands did and undid; None where
        the venue does not tell. Where both agree, no doubt about the record is in an exit's way."""
        signal, request = legs.trade.signal, legs.trade.request
        key = (request.user_id, signal.exchange, signal.symbol)
        try:
            comparison = self._reconciler.reconcile(*key, legs.account, request.id, rereads=True)
        except CredentialsError:
            return None
        except UpstreamUnavailable as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            return None
        return (
            comparison
            if comparison.is_transient or comparison.facts.net != comparison.net
            else replace(comparison, reason=None)
        )

    def _load_fills(self, request: Request) -> tuple[RequestFill, ...]:
        return self._store.list_request_fills(request.id, request.user_id)

    def _book(self, trade: TradeContext, fill: Fill) -> BookedFill:
        request = trade.request
        done = self._store.book_fill(request.id, request.user_id, fill, status=None, answer=None)
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        return done

    def _load_position(self, trade: TradeContext) -> Position | None:
        signal, held = trade.signal, trade.require_held()
        own = self._store.list_strategy_positions(
            trade.request.user_id, signal.exchange, signal.strategy_id, signal.symbol
        )
        return next((each for each in own if each.id == held.id), None)

    @staticmethod
    def _find_position(comparison: SymbolComparison | None, held: Position) -> Position | None:
        if comparison is None:
            return held
        return next((each for each in comparison.facts.positions if each.id == held.id), None)

    def _describe_end(self, held: Position) -> str:
        trades = self._store.list_exit_reasons(held.user_id, held.exchange, held.symbol, held.strategy_id)
        reason = trades[0] if trades else "ended"
        return f"the position in {held.symbol} had ended at the venue without us ({reason}); that is booked now"


def _with_quantity(position: Position, quantity: Decimal) -> Position:
    return position.model_copy(update={"quantity": quantity})


def combine_fills(fills: Sequence[RequestFill]) -> Fill | None:
    """All legs of an exit as one fill; None where there is none."""
    dust = [each.fill for each in fills if each.kind == "dust"]
    legs = [each.fill for each in fills if each.kind in {"close", "rest"}]
    if not legs:
        return dust[0] if dust else None
    left = decimals.total(each.quantity for each in dust) or None
    return reduce(_add_fills, legs).model_copy(update={"dust": left})


def _check_explained(refusal: OrderRejected, comparison: SymbolComparison | None, *, is_alone: bool) -> None:
    """After an exit that had nothing to reduce: raises UpstreamUnavailable where a later comparison may tell why,
    and OrderRejected where only a person can, or where no position of others explains it (`is_alone`)."""
    if comparison is None or comparison.is_transient:
        why = "its record cannot be read now" if comparison is None else str(comparison.reason)
        raise VenueUnavailable(f"{refusal}; {why}") from refusal
    if comparison.reason is not None:
        message = f"{refusal}; the venue and the books differ ({comparison.reason}): `sparky reconcile` settles it"
        raise OrderRejected(message, "reduce_only") from refusal
    if is_alone:
        raise refusal


def _find_fired_rest(legs: LegExecutor, left: Position, comparison: SymbolComparison | None) -> Fill | None:
    """The exit that an order which protects what is `left` has made meanwhile."""
    if comparison is None or not any(each.id == left.id for each, _ in comparison.fired):
        return None
    return legs.cancel_and_find_fired(left)


def _venue_net(comparison: SymbolComparison) -> Decimal:
    """The venue's own net, with what the person holds outside Sparky."""
    return comparison.net + comparison.facts.outside_net


def _own_share(comparison: SymbolComparison, position: Position) -> Decimal:
    """How much of `position` the venue leaves when the positions of all others are taken from what it holds."""
    sign = get_sign(position.side)
    others = comparison.facts.net - sign * position.quantity
    return sign * (comparison.net - others)


def _add_fills(first: Fill, rest: Fill) -> Fill:
    """Both legs as one fill, for the answer."""
    quantity = first.quantity + rest.quantity
    value = decimals.total(decimals.product(each.quantity, each.price) for each in (first, rest))
    price = first.price if first.price == rest.price else decimals.quotient(value, quantity)
    return first.model_copy(
        update={"quantity": quantity, "price": price, "fee_usd": first.fee_usd + rest.fee_usd, "dust": rest.dust}
    )
