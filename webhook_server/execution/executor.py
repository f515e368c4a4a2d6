"""From an accepted request to its plan: paper or live, which legs, and the locks that it shares with others."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from typing import Final
from uuid import UUID

from engine.domain.errors import OrderOutcomeUnknown, StrategyFault
from engine.platform.errors import ConfigurationError, CredentialsError, UpstreamUnavailable
from engine.risk import entry_limits
from engine.risk.execution_plan import (
    ExecutionPlan,
    find_held_position,
    find_position_to_close,
    plan_entry,
    without_position,
)
from engine.risk.limit_breach import CostCheck, build_unreadable_breach, skip_cost_check
from engine.store.margin import EntryMargin
from engine.store.store import Store
from engine.store.webhook_rows import ExecutionClaim, Portfolio
from engine.venues.venue import LiveVenue, Venue
from engine.venues.verified_venues import check_live_trading
from webhook_server.clock import Clock
from webhook_server.execution import exits_of_nothing
from webhook_server.execution.entry_legs import MAX_ORDER_DELAY_S, LegExecutor
from webhook_server.execution.execution_context import (
    CLOSE,
    OPEN,
    REST,
    AlreadyBooked,
    NotLeaseHolder,
    PositionEnded,
    Request,
    RequestEnded,
    TradeContext,
    end_on_configuration_error,
)
from webhook_server.execution.plan_executor import PlanExecutor
from webhook_server.execution.results import AnswerEncoder, Invalid, Refused, Result
from webhook_server.locks import KeyedLocks
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.account_checks import AccountChecks
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler
from webhook_server.venue_registry import Venues

LOCK_WAIT_S: Final = 8.0  # since a signal came; below the 10 s that our own dispatcher waits for an answer
MIN_LOCK_WAIT_S: Final = 1.0
LockKey = tuple[UUID, str, UUID | None]  # person, exchange, strategy


class OrderExecutor:
    """Executes requests. Those that share a limit wait for each other, so that none races past it.

    `lease_owner` is the name under which this server holds the lease to execute; None when it is alone by arrangement.
    """

    def __init__(
        self,
        store: Store,
        venues: Venues,
        clock: Clock,
        metrics: Metrics,
        slippage_percent: Decimal,
        encode: AnswerEncoder,
        lease_owner: str | None = None,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._metrics = metrics
        self._slippage_percent = slippage_percent
        self._locks = KeyedLocks()
        self._plan_executor = PlanExecutor(store, clock, metrics, SymbolReconciler(store, metrics), encode)
        self.account_checks = AccountChecks(clock)
        self.lease_owner = lease_owner
        self.max_order_delay_s = MAX_ORDER_DELAY_S
        self._lock_wait_s = lock_wait_s

    @contextmanager
    def lock_request(self, request: Request) -> Iterator[ExitStack]:
        """Holds the strategy's lock for one request. `execute` may add the locks of the account and of a symbol to the
        stack, always in this order, so that no two requests wait for each other. Raises LockTimeout."""
        with ExitStack() as held_locks:
            key = (*_account_key(request), request.signal.strategy_id)
            is_exit = not request.signal.is_entry
            held_locks.enter_context(self._locks.hold(key, self._lock_timeout_s(request), is_urgent=is_exit))
            yield held_locks

    def lock_symbol(self, key: tuple[UUID, str, str], wait_s: float) -> AbstractContextManager[None]:
        """The lock of one symbol of an account, taken after that of a strategy: while it is held no exit books what
        happened to other strategies' positions there. Raises LockTimeout."""
        return self._locks.hold(key, wait_s)

    def lock_strategy(self, key: LockKey, wait_s: float) -> AbstractContextManager[None]:
        """The lock of one strategy (or, without one, of the person) on an account. Raises LockTimeout."""
        return self._locks.hold(key, wait_s)

    def _lock_timeout_s(self, request: Request) -> float:
        """How long a request may still wait for a lock, after what it has waited for an execution slot."""
        return max(MIN_LOCK_WAIT_S, self._lock_wait_s - (self._clock.monotonic() - request.started))

    def execute(self, request: Request, began: ExecutionClaim, held_locks: ExitStack) -> Result:
        """Risk, execution, booking; the answer is stored together with the last fill. Only within `lock_request`.

        Raises RequestEnded when there is nothing (more) to book, LockTimeout, NotLeaseHolder, and what the store and
        the venue raise.
        """
        try:
            return self._execute(request, began, held_locks)
        except AlreadyBooked as done:
            return done.result

    def _execute(self, request: Request, began: ExecutionClaim, held_locks: ExitStack) -> Result:
        trade = (
            self._prepare_entry(request, began, held_locks)
            if request.signal.is_entry
            else self._prepare_exit(request, began)
        )
        if not (trade.is_paper or trade.signal.is_entry) and trade.other_sides:
            # The exit may have to be netted against what other strategies hold, so nothing may change there meanwhile.
            key = (*_account_key(request), request.signal.symbol)
            held_locks.enter_context(self._locks.hold(key, self._lock_timeout_s(request), is_urgent=True))
        legs, plan = self._build_legs(trade), None
        if trade.may_have_been_sent:
            legs, plan = self._recover_sent_plan(legs)
        if plan is None:
            _check_live(trade)
            plan = self._plan_within_limits(legs)
        try:
            return self._plan_executor.execute(legs, plan)
        except PositionEnded as ended:
            return self._enter_after_exit(legs.trade, ended)

    def _enter_after_exit(self, trade: TradeContext, ended: PositionEnded) -> Result:
        """The entry of a reversal whose position had ended at the venue; judged again, as the books have changed."""
        if not trade.signal.is_entry:
            raise self._plan_executor.build_skip(trade.request, str(ended), is_paper=trade.is_paper) from ended
        portfolio = self._load_portfolio(trade.request, is_paper=trade.is_paper)
        held = find_held_position(trade.signal, portfolio.open_positions, is_paper=trade.is_paper)
        legs = self._build_legs(replace(trade, held=held, portfolio=portfolio))
        return self._plan_executor.execute(legs, self._plan_within_limits(legs))

    def _prepare_entry(self, request: Request, began: ExecutionClaim, held_locks: ExitStack) -> TradeContext:
        signal = request.signal
        portfolio = self._require_portfolio(began.portfolio, began.unreadable)
        if signal.strategy_id is not None and portfolio.strategy is None:
            raise RequestEnded("refused", Invalid("strategy_id", "this user has no such strategy"), "no such strategy")
        open_venue = cache(partial(self._open_venue, request, is_paper=began.is_paper))
        if not began.is_paper:
            self._check_before_locks(request, began, portfolio, open_venue)
        keys = self._entry_lock_keys(request, portfolio, is_paper=began.is_paper)
        for key in keys:
            held_locks.enter_context(self._locks.hold(key, self._lock_timeout_s(request)))
        if keys:  # the portfolio was read before the locks: other requests may have opened positions since
            portfolio = self._load_portfolio(request, is_paper=began.is_paper)
        held = find_held_position(signal, portfolio.open_positions, is_paper=began.is_paper)
        return TradeContext(request, began.is_paper, held, open_venue, portfolio, began.other_sides)

    def _check_before_locks(
        self, request: Request, began: ExecutionClaim, portfolio: Portfolio, open_venue: Callable[[], Venue]
    ) -> None:
        """What asks a live venue that may answer late or never: before the locks that exits wait for.

        What is found is shared with the judgement that counts, a moment later; what is wrong with the account is said
        there. Raises what the quotes raise, and RequestEnded.
        """
        held = find_held_position(request.signal, portfolio.open_positions, is_paper=False)
        trade = TradeContext(request, is_paper=False, held=held, open_venue=open_venue, portfolio=portfolio)
        legs = self._build_legs(trade)
        with suppress(ConfigurationError, RequestEnded, UpstreamUnavailable):
            self.account_checks.refresh(legs.account)
        if not began.is_sent:
            _check_live(trade)
            self._build_plan(trade, portfolio, legs.find_cost_breach)

    def _entry_lock_keys(self, request: Request, portfolio: Portfolio, *, is_paper: bool) -> list[Hashable]:
        """The locks that an entry waits for, in this order: of the account, where its limits add up several strategies;
        of a live symbol, as nothing is entered there until the entry before is protected or undone."""
        account = _account_key(request)
        keys: list[Hashable] = [account] if entry_limits.has_account_limits(portfolio) else []
        return keys if is_paper else [*keys, (*account, request.signal.symbol)]

    def _load_portfolio(self, request: Request, *, is_paper: bool) -> Portfolio:
        signal = request.signal
        try:
            return self._store.get_portfolio(
                request.user_id, signal.exchange, signal.strategy_id, is_paper=is_paper, symbol=signal.symbol
            )
        except ConfigurationError as error:
            return self._require_portfolio(None, str(error))

    def _require_portfolio(self, portfolio: Portfolio | None, unreadable: str | None) -> Portfolio:
        if portfolio is not None:
            return portfolio
        breach = build_unreadable_breach(unreadable or "there is no portfolio")
        self._metrics.refusals.labels(breach.limit_type.value).inc()
        raise RequestEnded("refused", Refused(breach), breach.message)

    def _prepare_exit(self, request: Request, began: ExecutionClaim) -> TradeContext:
        signal, positions = request.signal, began.positions
        if request.position_id is not None:
            positions = tuple(each for each in positions if each.id == request.position_id)
        held = find_position_to_close(signal, positions, request.received_at if request.is_recovered else None)
        if held is None:
            if request.is_resumed:
                self._plan_executor.check_already_booked(request)
            raise self._plan_executor.build_skip(request, self._explain_nothing_held(request))
        still_open = tuple(each for each in positions if each.id != held.id)
        open_venue = cache(partial(self._open_venue, request, is_paper=held.is_paper))
        return TradeContext(
            request, held.is_paper, held, open_venue, other_sides=began.other_sides, still_open=still_open
        )

    def _explain_nothing_held(self, request: Request) -> str:
        """Why there is nothing to close. Raises RequestEnded when the sender named what does not exist."""
        if request.position_id is not None:
            return f"no open position in {request.signal.symbol}"
        return exits_of_nothing.explain_empty_exit(request, self._store, self._venues)

    def _recover_sent_plan(self, legs: LegExecutor) -> tuple[LegExecutor, ExecutionPlan | None]:
        """What an earlier attempt already did at a live venue: that is booked, whatever the limits say by now.

        Raises OrderOutcomeUnknown when the venue may not be asked.
        """
        trade = legs.trade
        try:
            found = find_sent_plan(legs)
            if found is None:  # older releases named orders otherwise: one of those may be under way
                legacy_legs = replace(legs, trade=trade.with_released_names())
                found = find_sent_plan(legacy_legs)
                legs = legacy_legs if found is not None else legs
        except StrategyFault:
            if trade.signal.is_entry:
                raise
            return legs, None  # the symbol is gone: what was sent is settled by the venue's record
        except (ConfigurationError, RequestEnded) as error:
            raise OrderOutcomeUnknown(f"the venue cannot be asked about {trade.request.id}: {error}") from error
        if found is None or trade.portfolio is None or found.open_usd > 0:
            return legs, found
        # The exit of a reversal was made and has to be booked; its entry is judged as any that was not sent.
        return legs, replace(self._build_plan(trade, trade.portfolio), close=True)

    def _plan_within_limits(self, legs: LegExecutor) -> ExecutionPlan:
        """The legs that risk allows. Raises RequestEnded when none is left."""
        trade = legs.trade
        if trade.portfolio is None:
            return ExecutionPlan(close=True)
        plan = self._build_plan(trade, trade.portfolio, legs.find_cost_breach)
        if plan.open_usd > 0 and trade.increases_position and legs.has_fired():
            # Its stop or target has been filled at the venue: that is booked first, and what follows is no addition.
            emptied = without_position(trade.portfolio, trade.held)
            plan = replace(plan_entry(trade.signal, emptied, None, self._clock.now()), close=True)
        if plan.breach is not None:
            self._metrics.refusals.labels(plan.breach.limit_type.value).inc()
        if plan.close or plan.open_usd > 0:
            return plan
        if plan.breach is not None:
            if trade.request.is_resumed:  # by an attempt that made and booked the exit of a reversal, perhaps
                self._plan_executor.check_already_booked(trade.request, plan.breach)
            raise RequestEnded("refused", Refused(plan.breach), plan.breach.message)
        raise self._plan_executor.build_skip(trade.request, plan.reason or "nothing to do", is_paper=trade.is_paper)

    def _build_plan(
        self, trade: TradeContext, portfolio: Portfolio, costs: CostCheck = skip_cost_check
    ) -> ExecutionPlan:
        return plan_entry(trade.signal, portfolio, trade.held, self._clock.now(), costs)

    def _build_legs(self, trade: TradeContext) -> LegExecutor:
        """Opens nothing yet."""
        request, exchange = trade.request, trade.signal.exchange
        return LegExecutor(
            trade,
            self._clock,
            self._metrics,
            submit=partial(self._submit, request),
            open_quotes=trade.open_venue if trade.is_paper else partial(self._venues.quotes, exchange),
            slippage_percent=self._slippage_percent,
            guard_entry=self.account_checks.guard_entry,
            load_margin=partial(self._load_margin, request),
            max_order_delay_s=self.max_order_delay_s,
        )

    def _load_margin(self, request: Request) -> EntryMargin:
        signal = request.signal
        if signal.strategy_id is None:
            return EntryMargin()
        return self._store.get_entry_margin(request.user_id, signal.exchange, signal.symbol, signal.strategy_id)

    def _submit(self, request: Request) -> None:
        """From here on the venue is asked before anything of this request is done again."""
        if not self._store.mark_request_submitted(self.lease_owner, request.id, request.user_id):
            raise NotLeaseHolder("this server may not send orders (any more)")

    def _open_venue(self, request: Request, *, is_paper: bool) -> Venue:
        exchange = request.signal.exchange
        return self._venues.paper(exchange) if is_paper else self._open_account(request)

    def _open_account(self, request: Request) -> LiveVenue:
        exchange = request.signal.exchange
        credentials = self._store.get_venue_credentials(request.user_id, exchange)
        if credentials is None:
            raise CredentialsError(f"this user has no credentials for {exchange}")
        return self._venues.live(exchange, credentials)


def find_sent_plan(legs: LegExecutor) -> ExecutionPlan | None:
    """The legs that an earlier attempt sent; None when it sent none."""
    signal, held = legs.trade.signal, legs.trade.held
    is_reversal = signal.is_entry and held is not None and not legs.trade.increases_position
    if signal.is_entry and legs.find_sent(OPEN) is not None:
        return ExecutionPlan(close=is_reversal, open_usd=signal.position_size_usd or Decimal(0))
    if (is_reversal or not signal.is_entry) and (legs.was_sent(REST) or legs.find_sent(CLOSE) is not None):
        return ExecutionPlan(close=True)
    return None


def _check_live(trade: TradeContext) -> None:
    """Raises RequestEnded for an entry at a venue where live trading has not been tested. Exits go through."""
    if trade.signal.is_entry and not trade.is_paper:
        with end_on_configuration_error(trade.signal.exchange):
            check_live_trading(trade.signal.exchange)


def _account_key(request: Request) -> tuple[UUID, str]:
    return request.user_id, request.signal.exchange
