"""From an accepted request to its plan: which book, which legs, in turn where limits are shared."""

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
from engine.risk.entry_costs import CostLimits
from engine.risk.execution_plan import (
    ExecutionPlan,
    find_held_position,
    find_position_to_close,
    plan_entry,
    without_position,
)
from engine.risk.limit_breach import CostCheck, LimitBreach, no_cost_limit, unreadable_limit
from engine.store.margin import EntryMargin
from engine.store.store import Store
from engine.store.webhook_rows import ExecutionClaim, Portfolio
from engine.venues.venue import LiveVenue
from engine.venues.verified_venues import check_live_trading
from webhook_server.clock import Clock
from webhook_server.execution import exits_of_nothing
from webhook_server.execution.entry_pricing import EntryPricing
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
)
from webhook_server.execution.legs import LegExecutor
from webhook_server.execution.plan_executor import PlanExecutor, end_on_configuration_error
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
        self._lock_wait_s = lock_wait_s

    @contextmanager
    def lock_request(self, request: Request) -> Iterator[ExitStack]:
        """One request of a strategy at a time. `execute` may put the whole account's turn on the stack: always in this
        order. Raises Busy."""
        with ExitStack() as held_locks:
            key = (*_account_key(request), request.signal.strategy_id)
            is_exit = not request.signal.is_entry
            held_locks.enter_context(self._locks.hold(key, self._lock_timeout_s(request), is_urgent=is_exit))
            yield held_locks

    def lock_symbol(self, key: tuple[UUID, str, str], wait_s: float) -> AbstractContextManager[None]:
        """The turn in one symbol of an account, within that of a strategy: meanwhile no exit books what happened to
        others' positions there. Raises Busy."""
        return self._locks.hold(key, wait_s)

    def lock_strategy(self, key: LockKey, wait_s: float) -> AbstractContextManager[None]:
        """The turn of one strategy (or, without one, of the person) on an account. Raises Busy."""
        return self._locks.hold(key, wait_s)

    def _lock_timeout_s(self, request: Request) -> float:
        """How long a request may wait for its turn, after what it has waited for its place."""
        return max(MIN_LOCK_WAIT_S, self._lock_wait_s - (self._clock.monotonic() - request.started))

    def execute(self, request: Request, began: ExecutionClaim, held_locks: ExitStack) -> Result:
        """Risk, execution, booking; the answer is stored together with the last fill. Only within `lock_request`.

        Raises Ended when there is nothing (more) to book, Busy, Standby, and what the store and the venue raise.
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
            # An exit may have to be compared with what others hold on the account, in which nothing moves meanwhile.
            key = (*_account_key(request), request.signal.symbol)
            held_locks.enter_context(self._locks.hold(key, self._lock_timeout_s(request), is_urgent=True))
        plan = None
        if trade.may_have_been_sent:
            trade, plan = self._recover_sent_plan(trade)
        if plan is None:
            _check_live(trade)
            plan = self._plan_within_limits(trade)
        try:
            return self._plan_executor.execute(self._build_legs(trade), plan)
        except PositionEnded as ended:
            return self._enter_after_exit(trade, ended)

    def _enter_after_exit(self, trade: TradeContext, ended: PositionEnded) -> Result:
        """The entry of a reversal whose position had ended at the venue; judged again, as the books have changed."""
        if not trade.signal.is_entry:
            raise self._plan_executor.build_skip(trade.request, str(ended), is_paper=trade.is_paper) from ended
        portfolio = self._load_portfolio(trade.request, is_paper=trade.is_paper)
        held = find_held_position(trade.signal, portfolio.open_positions, is_paper=trade.is_paper)
        trade = replace(trade, held=held, portfolio=portfolio)
        return self._plan_executor.execute(self._build_legs(trade), self._plan_within_limits(trade))

    def _prepare_entry(self, request: Request, began: ExecutionClaim, held_locks: ExitStack) -> TradeContext:
        signal = request.signal
        portfolio = self._require_portfolio(began.portfolio, began.unreadable)
        if signal.strategy_id is not None and portfolio.strategy is None:
            raise RequestEnded("refused", Invalid("strategy_id", "this user has no such strategy"), "no such strategy")
        open_account = cache(partial(self._open_live_account, request))
        if not began.is_paper:
            self._refresh_account_check(open_account)
            self._check_prices(request, began, portfolio, open_account)
        keys = self._entry_lock_keys(request, portfolio, is_paper=began.is_paper)
        for key in keys:
            held_locks.enter_context(self._locks.hold(key, self._lock_timeout_s(request)))
        if keys:  # what others did until their turn ended is seen now
            portfolio = self._load_portfolio(request, is_paper=began.is_paper)
        held = find_held_position(signal, portfolio.open_positions, is_paper=began.is_paper)
        return TradeContext(request, began.is_paper, held, open_account, portfolio, began.other_sides)

    def _refresh_account_check(self, open_account: Callable[[], LiveVenue]) -> None:
        """Before the turns that exits wait for. What is wrong is said where the entry is made."""
        with suppress(ConfigurationError, UpstreamUnavailable):
            self.account_checks.refresh(open_account())

    def _check_prices(
        self, request: Request, began: ExecutionClaim, portfolio: Portfolio, open_account: Callable[[], LiveVenue]
    ) -> None:
        """Before the turns that exits wait for, so that a venue which quotes late or not at all is waited for here.

        What is found is shared with the judgement that counts, a moment later. Raises what the quotes raise, and Ended.
        """
        held = find_held_position(request.signal, portfolio.open_positions, is_paper=False)
        trade = TradeContext(request, is_paper=False, held=held, open_account=open_account, portfolio=portfolio)
        if not began.is_sent:
            _check_live(trade)
            self._build_plan(trade, portfolio, self._build_cost_check(trade))

    def _entry_lock_keys(self, request: Request, portfolio: Portfolio, *, is_paper: bool) -> list[Hashable]:
        """The turns that an entry waits for, in this order: of all that its limits add up, and of a live symbol, into
        which nothing is entered while it is not known whether the entry before could be protected."""
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
        breach = unreadable_limit(unreadable or "there is no portfolio")
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
        open_account = cache(partial(self._open_live_account, request))
        return TradeContext(
            request, held.is_paper, held, open_account, other_sides=began.other_sides, still_open=still_open
        )

    def _explain_nothing_held(self, request: Request) -> str:
        """Why there is nothing to close. Raises Ended when the sender named what does not exist."""
        if request.position_id is not None:
            return f"no open position in {request.signal.symbol}"
        return exits_of_nothing.explain_empty_exit(request, self._store, self._venues)

    def _recover_sent_plan(self, trade: TradeContext) -> tuple[TradeContext, ExecutionPlan | None]:
        """What an earlier attempt already did at a live venue: that is booked, whatever the limits say by now.

        Raises OrderOutcomeUnknown when the venue may not be asked.
        """
        try:
            found = find_sent_plan(self._build_legs(trade))
            if found is None:  # older releases named orders otherwise: one of those may be under way
                legacy_trade = trade.with_released_names()
                found = find_sent_plan(self._build_legs(legacy_trade))
                trade = legacy_trade if found is not None else trade
        except StrategyFault:
            if trade.signal.is_entry:
                raise
            return trade, None  # the symbol is gone: what was sent is settled by the venue's record
        except (ConfigurationError, RequestEnded) as error:
            raise OrderOutcomeUnknown(f"the venue cannot be asked about {trade.request.id}: {error}") from error
        if found is None or trade.portfolio is None or found.open_usd > 0:
            return trade, found
        # The exit of a reversal was made and has to be booked; its entry is judged as any that was not sent.
        return trade, replace(self._build_plan(trade, trade.portfolio), close=True)

    def _plan_within_limits(self, trade: TradeContext) -> ExecutionPlan:
        """The legs that risk allows. Raises Ended when none is left."""
        if trade.portfolio is None:
            return ExecutionPlan(close=True)
        plan = self._build_plan(trade, trade.portfolio, self._build_cost_check(trade))
        if plan.open_usd > 0 and trade.increases_position() and self._build_legs(trade).has_fired():
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

    def _build_plan(self, trade: TradeContext, portfolio: Portfolio, costs: CostCheck = no_cost_limit) -> ExecutionPlan:
        return plan_entry(trade.signal, portfolio, trade.held, self._clock.now(), costs)

    def _build_cost_check(self, trade: TradeContext) -> CostCheck:
        """Asks the venue when it is called; its faults are told as those of an order."""

        def find_breach(size_usd: Decimal) -> LimitBreach | None:
            with end_on_configuration_error(trade.signal.exchange):
                return self._build_pricing(trade).find_breach(size_usd)

        return find_breach

    def _build_pricing(self, trade: TradeContext) -> EntryPricing:
        quotes = partial(self._venues.paper if trade.is_paper else self._venues.quotes, trade.signal.exchange)
        return EntryPricing(trade.signal, quotes, CostLimits.from_portfolio(trade.portfolio), self._slippage_percent)

    def _build_legs(self, trade: TradeContext) -> LegExecutor:
        submit = partial(self._submit, trade.request)
        margin = partial(self._load_margin, trade.request)
        with end_on_configuration_error(trade.signal.exchange):
            common = (self._clock, self._metrics, self._build_pricing(trade), submit)
            if trade.is_paper:
                return LegExecutor(trade, self._venues.paper(trade.signal.exchange), *common, load_margin=margin)
            account = trade.open_account()
        return LegExecutor(trade, account, *common, partial(self.account_checks.guard_entry, account), margin)

    def _load_margin(self, request: Request) -> EntryMargin:
        signal = request.signal
        if signal.strategy_id is None:
            return EntryMargin()
        return self._store.get_entry_margin(request.user_id, signal.exchange, signal.symbol, signal.strategy_id)

    def _submit(self, request: Request) -> None:
        """From here on the venue is asked before anything of this request is done again."""
        if not self._store.mark_request_submitted(self.lease_owner, request.id, request.user_id):
            raise NotLeaseHolder("this server may not send orders (any more)")

    def _open_live_account(self, request: Request) -> LiveVenue:
        exchange = request.signal.exchange
        credentials = self._store.get_venue_credentials(request.user_id, exchange)
        if credentials is None:
            raise CredentialsError(f"this user has no credentials for {exchange}")
        return self._venues.live(exchange, credentials)


def find_sent_plan(legs: LegExecutor) -> ExecutionPlan | None:
    """The legs that an earlier attempt sent; None when it sent none."""
    signal, held = legs.trade.signal, legs.trade.held
    is_reversal = signal.is_entry and held is not None and not legs.trade.increases_position()
    if signal.is_entry and legs.find_sent(OPEN) is not None:
        return ExecutionPlan(close=is_reversal, open_usd=signal.position_size_usd or Decimal(0))
    if (is_reversal or not signal.is_entry) and (legs.was_sent(REST) or legs.find_sent(CLOSE) is not None):
        return ExecutionPlan(close=True)
    return None


def _check_live(trade: TradeContext) -> None:
    """An entry at a venue where live trading has not been tested is refused. Raises Ended."""
    if trade.signal.is_entry and not trade.is_paper:
        with end_on_configuration_error(trade.signal.exchange):
            check_live_trading(trade.signal.exchange)


def _account_key(request: Request) -> tuple[UUID, str]:
    return request.user_id, request.signal.exchange
