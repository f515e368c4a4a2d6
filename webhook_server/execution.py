"""From an accepted request to its booked fills: which book, which legs, one at a time per account."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from engine.errors import BadConfiguration, VenueRefused
from engine.exchanges.venue import Venue
from engine.store.rows import Fill, Portfolio
from engine.store.store import Store
from webhook_server import answers, risk
from webhook_server.answers import Answer
from webhook_server.clock import Clock
from webhook_server.decide import Plan, decide, held_by, is_paper_entry, to_exit
from webhook_server.legs import Legs
from webhook_server.locks import KeyedLocks
from webhook_server.metrics import Metrics
from webhook_server.risk import Refusal
from webhook_server.trade import CLOSE, OPEN, Ended, EndState, NothingToDo, Request, Trade
from webhook_server.venues import Venues

ACCOUNT_WAIT_S: Final = 8.0  # below the 10 s that our own dispatcher waits for an answer


class Desk:
    """Executes requests. Those of one user on one exchange and book wait for each other, so that limits hold."""

    def __init__(self, store: Store, venues: Venues, clock: Clock, metrics: Metrics, slippage_percent: Decimal) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._metrics = metrics
        self._slippage_percent = slippage_percent
        self._accounts = KeyedLocks()

    def execute(self, request: Request) -> Answer:
        """Risk, execution, booking; the answer is stored together with the last fill.

        Raises Ended when there is nothing (more) to book, Busy, and what the store and the venue raise.
        """
        with self._accounts.hold((request.user_id, request.order.exchange), ACCOUNT_WAIT_S):
            trade = self._entry(request) if request.order.is_entry else self._exit(request)
            plan = None if trade.may_have_been_sent else self._judged(trade)
            legs = Legs(trade, self._venue(trade), self._clock, self._slippage_percent)
            with faults_of(request.order.exchange):
                plan = plan or found_at_venue(legs)
            return self._traded(legs, plan or self._judged(trade))

    def _entry(self, request: Request) -> Trade:
        order = request.order
        portfolio = self._portfolio(
            request, is_paper=order.strategy_id is not None or order.environment != "production"
        )
        if order.strategy_id is not None and portfolio.strategy is None:
            answer = answers.malformed("strategy_id", "this user has no such strategy")
            raise Ended("refused", answer, "no such strategy")
        is_paper = is_paper_entry(order, portfolio)
        if not is_paper and order.strategy_id is not None:
            portfolio = self._portfolio(request, is_paper=False)
        held = held_by(order, portfolio.open_positions, is_paper=is_paper)
        return Trade(request, is_paper, held, portfolio)

    def _portfolio(self, request: Request, *, is_paper: bool) -> Portfolio:
        order = request.order
        try:
            return self._store.portfolio(request.user_id, order.exchange, order.strategy_id, is_paper=is_paper)
        except BadConfiguration as error:
            raise self._over_limit(risk.unreadable(str(error))) from error

    def _exit(self, request: Request) -> Trade:
        order = request.order
        positions = self._store.open_positions(user_id=request.user_id, exchange=order.exchange)
        if request.position_id is not None:
            positions = tuple(each for each in positions if each.id == request.position_id)
        held = to_exit(order, positions, request.asked_at if request.is_resumed else None)
        if held is None:
            trade = Trade(request, order.environment != "production", None)
            raise self._skipped(trade, f"no open position in {order.symbol}")
        return Trade(request, held.is_paper, held)

    def _traded(self, legs: Legs, plan: Plan) -> Answer:
        closed = self._close(legs, plan) if plan.close else None
        if plan.open_usd > 0:
            return self._open(legs, plan, closed)
        if closed is None:
            raise AssertionError("a judged plan has at least one leg")
        return closed

    def _judged(self, trade: Trade) -> Plan:
        """The legs that risk allows. Raises Ended when none is left."""
        if trade.portfolio is None:
            return Plan(close=True)
        plan = decide(trade.order, trade.portfolio, trade.held, self._clock.now(), is_paper=trade.is_paper)
        if plan.close or plan.open_usd > 0:
            return plan
        if plan.refusal is not None:
            raise self._over_limit(plan.refusal)
        if plan.rejection is not None:
            raise Ended("refused", self._answer(trade, answers.rejected(plan.rejection)), plan.rejection)
        raise self._skipped(trade, plan.reason or "nothing to do")

    def _over_limit(self, refusal: Refusal) -> Ended:
        self._metrics.refusals.labels(refusal.limit_type.value).inc()
        return Ended("refused", answers.over_limit(refusal), refusal.message)

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
        return self._book(trade, fill, answers.opened(fill, closed), is_last=True)

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
        duration_ms = round((self._clock.monotonic() - trade.request.started) * 1000)
        common = {"signal_id": trade.request.id, "paper": trade.is_paper, "duration": duration_ms}
        return Answer(200, answers.plain({**body, **common}))


@contextmanager
def faults_of(exchange: str) -> Iterator[None]:
    """An exchange that nobody knows, credentials that are missing or not accepted: the sender must mend that."""
    try:
        yield
    except BadConfiguration as error:
        answer = answers.malformed("exchange", str(error), answers.NO_CREDENTIALS_HINT)
        raise Ended("refused", answer, f"{exchange}: {error}") from error


def found_at_venue(legs: Legs) -> Plan | None:
    """What an earlier attempt already did at a live venue: that is booked, whatever the limits say by now."""
    trade = legs.trade
    if not trade.may_have_been_sent:
        return None
    order, held = trade.order, trade.held
    if not order.is_entry:
        return Plan(close=True) if legs.sent(CLOSE) is not None else None
    if legs.sent(OPEN) is None:
        return None
    return Plan(close=held is not None and not trade.adds(), open_usd=order.position_size_usd or Decimal(0))
