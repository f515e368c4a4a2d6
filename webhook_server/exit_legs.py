"""The exit of one position, in the order that keeps the account from crossing zero.

First a reduction, which ends at zero by itself. What is left then belongs to the account only together with what
others hold on the opposite side: it is sent as a second order, after books and venue were compared. What the venue
ended without us is settled before, and then there may be nothing left to do.
"""

from dataclasses import dataclass
from decimal import Decimal

import structlog

from engine import booked
from engine.errors import CredentialsRefused, UpstreamUnavailable, VenueRefused
from engine.exchanges.venue import Account
from engine.store.store import Store
from engine.store.webhook_rows import BookedFill, Fill
from engine.types import Position
from webhook_server.legs import Legs
from webhook_server.metrics import Metrics
from webhook_server.trade import PositionEnded, Trade, sign_of
from webhook_server.venue_changes import Look, VenueChanges

logger = structlog.get_logger()


@dataclass(frozen=True)
class Exit:
    """What the legs closed of `held`, as one `fill`. `unbooked` is the leg that is to be booked with the answer,
    `booked` what booking the leg before it did."""

    fill: Fill
    held: Position
    unbooked: Fill | None
    booked: BookedFill | None = None

    @property
    def is_whole(self) -> bool:
        return self.fill.quantity >= self.held.quantity

    def pnl(self, last: BookedFill | None) -> tuple[Decimal, Decimal]:
        """In USD and in percent of the cost; `last` is what booking the last leg did. Costs are in the proportion of
        the quantities."""
        legs = [each for each in (self.booked, last) if each is not None]
        usd = sum((each.pnl_usd or Decimal(0) for each in legs), Decimal(0))
        if self.unbooked is None or self.booked is None:
            return usd, sum((each.pnl_percent or Decimal(0) for each in legs), Decimal(0))
        share = booked.quotient(self.unbooked.quantity, self.fill.quantity)
        percents = [each.pnl_percent or Decimal(0) for each in legs]
        return usd, percents[0] * (1 - share) + percents[-1] * share


class ExitLegs:
    """One for all requests; each call is one request's, within its turns."""

    def __init__(self, store: Store, changes: VenueChanges, metrics: Metrics) -> None:
        self._store = store
        self._changes = changes
        self._metrics = metrics

    def make(self, legs: Legs, held: Position) -> Exit:
        """Closes what the order names of `held`. Raises PositionEnded where it turns out to have ended at the venue,
        NothingToDo, and what the venue and the store raise."""
        if legs.trade.is_paper:
            fill = legs.close(held)
            return Exit(fill, held, unbooked=fill)
        first = self._first(legs, held)
        if isinstance(first, Position):
            return self._only_rest(legs, first)
        if not self._may_have_rest(legs, held, first):
            return Exit(first, held, unbooked=first)
        return self._with_rest(legs, first)

    def _first(self, legs: Legs, held: Position) -> Fill | Position:
        """The reduction; or the position, as it is now, when the account has nothing that it would reduce."""
        for is_settled in (False, True):
            try:
                return legs.close(held)
            except VenueRefused as refusal:
                if refusal.kind != "reduce_only":
                    raise
                look = self._look(legs)
                now = self._of(look, held)
                if now is None:
                    raise PositionEnded(self._ended(held)) from refusal
                if is_settled or now.quantity == held.quantity:
                    if look is None or look.reason is not None or legs.trade.may_only_reduce(held.side):
                        raise VenueRefused(_unsettled(refusal, look), "reduce_only") from refusal
                    return now
                held = now
        raise AssertionError("the second attempt returns or raises")

    def _only_rest(self, legs: Legs, left: Position) -> Exit:
        now, quantity = self._rest(legs, left, legs.closing_quantity(left.quantity))
        if now is None:
            raise PositionEnded(self._ended(left))
        if quantity <= 0:
            raise VenueRefused(f"the account holds nothing of {left.symbol} on this side", "reduce_only")
        rest = legs.close_rest(now, quantity)
        return Exit(rest, now, unbooked=rest)

    def _with_rest(self, legs: Legs, first: Fill) -> Exit:
        """Books the reduction, so that books and venue can be compared, and sends what is left to send."""
        trade = legs.trade
        done = self._book(trade, first)
        left = self._position(trade)
        if left is None:
            return Exit(first, _of_quantity(_held(trade), first.quantity), None, done)
        closing = legs.closing_quantity(left.quantity + first.quantity)
        left, quantity = self._rest(legs, left, closing - first.quantity)
        if left is None:
            return Exit(first, _of_quantity(_held(trade), first.quantity), None, done)
        held = _of_quantity(left, left.quantity + first.quantity)
        if quantity <= 0:
            return Exit(first, held, None, done)
        try:
            rest = legs.close_rest(left, quantity)
        except VenueRefused as refusal:
            logger.warning("exit_rest_refused", symbol=left.symbol, quantity=str(quantity), reason=str(refusal))
            return Exit(first, held, None, done)
        return Exit(_sum(first, rest), held, rest, done)

    def _rest(self, legs: Legs, left: Position, wanted: Decimal) -> tuple[Position | None, Decimal]:
        """What is `left` once books and venue were compared (None when that was all of it), and how much of it the
        account holds only net of what others hold on the opposite side."""
        if wanted <= 0 or legs.sent_rest():
            return left, max(wanted, Decimal(0))
        look = self._look(legs)
        now = self._of(look, left)
        if look is None or now is None:
            return now, Decimal(0)
        sign = sign_of(now.side)
        if look.net * sign > 0:  # the venue filled a part only: it holds more that can be reduced
            return now, Decimal(0)
        others = look.facts.net - sign * now.quantity
        return now, min(wanted, now.quantity, max(Decimal(0), sign * (look.net - others)))

    def _look(self, legs: Legs) -> Look | None:
        """Books and venue compared, and settled where the record explains it; None where the venue does not tell."""
        order, request = legs.trade.order, legs.trade.request
        account: Account = legs.account
        try:
            return self._changes.settle(request.user_id, order.exchange, order.symbol, account, request.id)
        except CredentialsRefused:
            return None
        except UpstreamUnavailable as error:
            if error.service == "database":
                raise
            return None

    @staticmethod
    def _may_have_rest(legs: Legs, held: Position, first: Fill) -> bool:
        """Whether a second order may be needed: an attempt that was broken off may have booked its first already."""
        if legs.trade.may_have_been_sent:
            return True
        is_opposed = not legs.trade.may_only_reduce(held.side)
        return is_opposed and first.quantity < legs.closing_quantity(held.quantity)

    def _book(self, trade: Trade, fill: Fill) -> BookedFill:
        request = trade.request
        done = self._store.book_fill(request.id, request.user_id, fill, status=None, answer=None)
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        return done

    def _position(self, trade: Trade) -> Position | None:
        order, held = trade.order, _held(trade)
        own = self._store.own_positions(trade.request.user_id, order.exchange, order.strategy_id, order.symbol)
        return next((each for each in own if each.id == held.id), None)

    @staticmethod
    def _of(look: Look | None, held: Position) -> Position | None:
        if look is None:
            return held
        return next((each for each in look.facts.positions if each.id == held.id), None)

    def _ended(self, held: Position) -> str:
        trades = self._store.exits_of(held.user_id, held.exchange, held.symbol, held.strategy_id)
        reason = trades[0] if trades else "ended"
        return f"the position in {held.symbol} had ended at the venue without us ({reason}); that is booked now"


def _of_quantity(position: Position, quantity: Decimal) -> Position:
    return position.model_copy(update={"quantity": quantity})


def _unsettled(refusal: VenueRefused, look: Look | None) -> str:
    """What the venue said, and what a person can do where the books are wrong."""
    if look is None or look.reason is None:
        return str(refusal)
    return f"{refusal}; the venue and the books differ ({look.reason}): `sparky reconcile` settles it"


def _sum(first: Fill, rest: Fill) -> Fill:
    """Both legs as one fill, for the answer."""
    quantity = first.quantity + rest.quantity
    value = booked.total(booked.product(each.quantity, each.price) for each in (first, rest))
    price = first.price if first.price == rest.price else booked.quotient(value, quantity)
    return first.model_copy(update={"quantity": quantity, "price": price, "fee_usd": first.fee_usd + rest.fee_usd})


def _held(trade: Trade) -> Position:
    if trade.held is None:
        raise AssertionError("only what is held is closed")
    return trade.held
