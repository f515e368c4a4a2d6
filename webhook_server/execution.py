"""From an accepted request to its booked fills: which book, which legs, in turn where limits are shared."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog

from engine.errors import BadConfiguration, OutcomeUnknown, UpstreamUnavailable, VenueRefused
from engine.exchanges.venue import Venue
from engine.store.store import Store
from engine.store.webhook_rows import BeganExecution, Fill, PlacedProtection, Portfolio
from engine.types import Position
from webhook_server import answers, risk
from webhook_server.answers import Answer
from webhook_server.clock import Clock
from webhook_server.decide import Plan, decide, held_by, to_exit
from webhook_server.legs import Legs
from webhook_server.locks import KeyedLocks
from webhook_server.metrics import Metrics
from webhook_server.trade import CLOSE, OPEN, UNDO, Ended, EndState, NothingToDo, Request, Standby, Trade
from webhook_server.venues import Venues

logger = structlog.get_logger()

TURN_WAIT_S: Final = 8.0  # below the 10 s that our own dispatcher waits for an answer


class Desk:
    """Executes requests. Those that share a limit wait for each other, so that none races past it.

    `server` is the name under which this server holds the lease to execute; None when it is alone by arrangement.
    """

    def __init__(
        self,
        store: Store,
        venues: Venues,
        clock: Clock,
        metrics: Metrics,
        slippage_percent: Decimal,
        server: str | None = None,
    ) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._metrics = metrics
        self._slippage_percent = slippage_percent
        self._turns = KeyedLocks()
        self.server = server

    @contextmanager
    def turn(self, request: Request) -> Iterator[ExitStack]:
        """One request of a strategy at a time. `execute` may put the whole account's turn on the stack: always in this
        order. Raises Busy."""
        with ExitStack() as held_locks:
            held_locks.enter_context(self._turns.hold((*_account(request), request.order.strategy_id), TURN_WAIT_S))
            yield held_locks

    def execute(self, request: Request, began: BeganExecution, held_locks: ExitStack) -> Answer:
        """Risk, execution, booking; the answer is stored together with the last fill. Only within `turn`.

        Raises Ended when there is nothing (more) to book, Busy, Standby, and what the store and the venue raise.
        """
        trade = self._entry(request, began, held_locks) if request.order.is_entry else self._exit(request, began)
        plan = self._found(trade) or self._judged(trade)
        return self._traded(self._legs(trade), plan)

    def _entry(self, request: Request, began: BeganExecution, held_locks: ExitStack) -> Trade:
        order = request.order
        portfolio = self._readable(began.portfolio, began.unreadable)
        if order.strategy_id is not None and portfolio.strategy is None:
            answer = answers.malformed("strategy_id", "this user has no such strategy")
            raise Ended("refused", answer, "no such strategy")
        if risk.counts_all(portfolio):  # then it is read again when the whole account's turn has come
            held_locks.enter_context(self._turns.hold(_account(request), TURN_WAIT_S))
            portfolio = self._portfolio(request, is_paper=began.is_paper)
        held = held_by(order, portfolio.open_positions, is_paper=began.is_paper)
        return Trade(request, began.is_paper, held, portfolio, began.other_sides)

    def _portfolio(self, request: Request, *, is_paper: bool) -> Portfolio:
        order = request.order
        try:
            return self._store.portfolio(request.user_id, order.exchange, order.strategy_id, is_paper=is_paper)
        except BadConfiguration as error:
            return self._readable(None, str(error))

    def _readable(self, portfolio: Portfolio | None, unreadable: str | None) -> Portfolio:
        if portfolio is not None:
            return portfolio
        refusal = risk.unreadable(unreadable or "there is no portfolio")
        self._metrics.refusals.labels(refusal.limit_type.value).inc()
        raise Ended("refused", answers.over_limit(refusal), refusal.message)

    def _exit(self, request: Request, began: BeganExecution) -> Trade:
        order, positions = request.order, began.positions
        if request.position_id is not None:
            positions = tuple(each for each in positions if each.id == request.position_id)
        held = to_exit(order, positions, request.asked_at if request.is_recovered else None)
        if held is None:
            reason = f"no open position in {order.symbol}"
            raise Ended("skipped", Answer(200, {**answers.skipped(reason), **self._common(request)}), reason)
        return Trade(request, held.is_paper, held, other_sides=began.other_sides)

    def _traded(self, legs: Legs, plan: Plan) -> Answer:
        closed = self._close(legs, plan) if plan.close else None
        if plan.open_usd > 0:
            return self._open(legs, plan, closed)
        if closed is None:
            raise AssertionError("a judged plan has at least one leg")
        return closed

    def _found(self, trade: Trade) -> Plan | None:
        """What an earlier attempt already did at a live venue: that is booked, whatever the limits say by now.

        Raises OutcomeUnknown when the venue may not be asked.
        """
        if not trade.may_have_been_sent:
            return None
        try:
            found = found_at_venue(self._legs(trade))
        except (BadConfiguration, Ended) as error:
            raise OutcomeUnknown(f"the venue cannot be asked about {trade.request.id}: {error}") from error
        if found is None or trade.portfolio is None or found.open_usd > 0:
            return found
        # The exit of a reversal was made and has to be booked; its entry is judged as any that was not sent.
        return replace(self._decided(trade, trade.portfolio), close=True)

    def _judged(self, trade: Trade) -> Plan:
        """The legs that risk allows. Raises Ended when none is left."""
        if trade.portfolio is None:
            return Plan(close=True)
        plan = self._decided(trade, trade.portfolio)
        if plan.refusal is not None:
            self._metrics.refusals.labels(plan.refusal.limit_type.value).inc()
        if plan.close or plan.open_usd > 0:
            return plan
        if plan.refusal is not None:
            raise Ended("refused", answers.over_limit(plan.refusal), plan.refusal.message)
        raise self._skipped(trade, plan.reason or "nothing to do")

    def _decided(self, trade: Trade, portfolio: Portfolio) -> Plan:
        return decide(trade.order, portfolio, trade.held, self._clock.now())

    def _legs(self, trade: Trade) -> Legs:
        return Legs(
            trade, self._venue(trade), self._clock, self._slippage_percent, partial(self._submit, trade.request)
        )

    def _submit(self, request: Request) -> None:
        """From here on the venue is asked before anything of this request is done again."""
        if not self._store.submit_request(self.server, request.id, request.user_id):
            raise Standby("this server may not send orders (any more)")

    def _venue(self, trade: Trade) -> Venue:
        exchange = trade.order.exchange
        with faults_of(exchange):
            if trade.is_paper:
                return self._venues.paper(exchange)
            credentials = self._store.venue_credentials(trade.request.user_id, exchange)
            if credentials is None:
                raise BadConfiguration(f"this user has no credentials for {exchange}")
            return self._venues.live(exchange, credentials)

    def _close(self, legs: Legs, plan: Plan) -> Answer:
        """Books the exit of what is held; it ends the request unless an open leg follows."""
        trade = legs.trade
        if trade.held is None:
            raise AssertionError("only what is held is closed")
        try:
            with faults_of(trade.order.exchange):
                fill = legs.close(trade.held)
        except NothingToDo as reason:
            raise self._skipped(trade, str(reason)) from None
        return self._book(trade, fill, answers.closed(fill, plan), is_last=plan.open_usd <= 0)

    def _open(self, legs: Legs, plan: Plan, closed: Answer | None) -> Answer:
        trade = legs.trade
        try:
            with faults_of(trade.order.exchange):
                fill = legs.open(plan.open_usd)
        except NothingToDo as reason:
            raise self._without_entry(trade, "skipped", answers.skipped(str(reason)), closed) from None
        except VenueRefused as error:
            raise self._without_entry(trade, "failed", answers.rejected(str(error)), closed) from error
        if not trade.is_protected:
            return self._book(trade, fill, answers.opened(fill, closed), is_last=True)
        return self._protected(legs, fill, closed)

    def _protected(self, legs: Legs, fill: Fill, closed: Answer | None) -> Answer:
        """Books the entry, then places its protection, or undoes the entry and says so.

        Dying in between leaves a request that is `filled`: the next attempt goes on from here.
        """
        trade, request = legs.trade, legs.trade.request
        booked = self._store.book_fill(request.id, request.user_id, fill, status=None, answer=None)
        position = next((each for each in self._own(trade) if each.id == booked.position_id), None)
        if position is None or legs.sent(UNDO) is not None:
            return self._undone(legs, fill, closed, "it was undone before")
        try:
            placed = legs.guard.placed(position)
        except (VenueRefused, OutcomeUnknown, UpstreamUnavailable) as error:
            return self._undone(legs, fill, closed, str(error))
        answer = self._answer(trade, answers.opened(_with_prices(fill, placed), closed))
        self._store.book_protection(
            request.id, request.user_id, position.id, placed, status=answer.status, answer=dict(answer.body)
        )
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        return answer

    def _own(self, trade: Trade) -> tuple[Position, ...]:
        order = trade.order
        return self._store.own_positions(trade.request.user_id, order.exchange, order.strategy_id, order.symbol)

    def _undone(self, legs: Legs, fill: Fill, closed: Answer | None, reason: str) -> Answer:
        logger.warning("entry_undone", signal=legs.trade.request.id, symbol=fill.symbol, reason=reason)
        self._metrics.undone.inc()
        undo = legs.undo(fill)
        return self._book(legs.trade, undo, answers.undone(fill, undo, reason, closed), is_last=True)

    def _without_entry(self, trade: Trade, state: EndState, body: dict[str, Any], closed: Answer | None) -> Ended:
        """The entry came to nothing; if it was half of a reversal, the answer still tells of the exit."""
        answer = self._answer(trade, answers.half_done(body, closed))
        return Ended(state, answer, str(body["reason"]))

    def _book(self, trade: Trade, fill: Fill, body: Mapping[str, Any], *, is_last: bool) -> Answer:
        """Books `fill`; the last one takes the answer with it, in the same transaction."""
        request = trade.request
        answer = self._answer(trade, body)
        status, stored = (answer.status, dict(answer.body)) if is_last else (None, None)
        booked = self._store.book_fill(request.id, request.user_id, fill, status=status, answer=stored)
        self._metrics.fills.labels(fill.kind, trade.book).inc()
        return Answer(200, booked.answer or answers.with_pnl(answer.body, booked))

    def _skipped(self, trade: Trade, reason: str) -> Ended:
        return Ended("skipped", self._answer(trade, answers.skipped(reason)), reason)

    def _answer(self, trade: Trade, body: Mapping[str, Any]) -> Answer:
        return Answer(200, answers.plain({**body, **self._common(trade.request), "paper": trade.is_paper}))

    def _common(self, request: Request) -> dict[str, Any]:
        return {"signal_id": request.id, "duration": round((self._clock.monotonic() - request.started) * 1000)}


@contextmanager
def faults_of(exchange: str) -> Iterator[None]:
    """An exchange that nobody knows, credentials that are missing or not accepted: the sender must mend that."""
    try:
        yield
    except BadConfiguration as error:
        answer = answers.malformed("exchange", str(error), answers.NO_CREDENTIALS_HINT)
        raise Ended("refused", answer, f"{exchange}: {error}") from error


def found_at_venue(legs: Legs) -> Plan | None:
    """The legs that an earlier attempt sent; None when it sent none."""
    order, held = legs.trade.order, legs.trade.held
    reverses = order.is_entry and held is not None and not legs.trade.adds()
    if order.is_entry and legs.sent(OPEN) is not None:
        return Plan(close=reverses, open_usd=order.position_size_usd or Decimal(0))
    if (reverses or not order.is_entry) and legs.sent(CLOSE) is not None:
        return Plan(close=True)
    return None


def _account(request: Request) -> tuple[UUID, str]:
    return request.user_id, request.order.exchange


def _with_prices(fill: Fill, placed: PlacedProtection) -> Fill:
    """The fill with the prices at which its position is protected, for the answer."""
    return fill.model_copy(
        update={"stop_loss_price": placed.stop_loss_price, "take_profit_price": placed.take_profit_price}
    )
