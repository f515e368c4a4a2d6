"""The funding job: when payments are read, live from the income of an account, on paper from the rates of a venue."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Final
from uuid import UUID

import structlog

from engine.platform.errors import DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.store.funding import FundingSymbol
from engine.store.store import Store
from engine.venues.ccxt_client.request_weight import low_priority
from webhook_server.background.funding_booking import LiveFunding, PaperFunding
from webhook_server.background.funding_schedule import FundingCalendar, FundingSchedule
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

INTERVAL_S: Final = 15.0
# After its last exit a symbol is read for so long, and longer where its payments have not been read until then.
LOOKBACK_S: Final = 12 * 3_600.0
VenueSymbol = tuple[str, str]  # exchange, symbol
DuePayments = dict[str, dict[str, int]]  # by exchange and symbol: when a payment became due (Unix ms)


class FundingJob:
    """Finds out which payments have become due, then books those of the accounts and symbols that may have one."""

    def __init__(self, store: Store, venues: Venues, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._live = LiveFunding(store, venues, clock, metrics)
        self._paper = PaperFunding(store, venues, metrics)
        self._calendars: dict[VenueSymbol, FundingCalendar] = {}
        self._schedules: dict[object, FundingSchedule] = {}
        self._held: frozenset[VenueSymbol] = frozenset()
        self._logged_failures: dict[object, str] = {}

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> None:
        """One round, until `should_continue` is False. Raises UpstreamUnavailable for the database only."""
        funding_symbols = self._store.list_funding_symbols(LOOKBACK_S)
        unavailable = UnavailableAccounts()
        with low_priority():  # orders go first within the venue's request limit
            due_payments = self._find_due_payments(funding_symbols, should_continue)
            live = [(("live", *key), own) for key, own in _group_by(funding_symbols, _get_account_key, is_paper=False)]
            paper = [(("paper", *key), own) for key, own in _group_by(funding_symbols, _get_symbol_key, is_paper=True)]
            for key, own in [*live, *paper]:
                if should_continue():
                    self._read_and_book(key, own, due_payments, unavailable)
        self._schedules = {key: self._schedules[key] for key, _ in [*live, *paper] if key in self._schedules}

    def _find_due_payments(
        self, funding_symbols: Iterable[FundingSymbol], should_continue: Callable[[], bool]
    ) -> DuePayments:
        """Payments that have become due in symbols that are held, or were in the last round: one may have been due
        before an exit between the rounds."""
        held = frozenset(_get_symbol_key(row) for row in funding_symbols if row.is_held)
        symbols, due_payments = held | self._held, DuePayments()
        self._held = held
        self._calendars = {key: self._calendars.get(key, FundingCalendar()) for key in symbols}
        unanswered: set[str] = set()
        for (exchange, symbol), calendar in self._calendars.items():
            if exchange in unanswered or not should_continue():
                continue
            with self._isolate_failures(exchange, symbol):
                due_ms = self._pop_due(exchange, symbol, calendar, unanswered)
                if due_ms is not None:
                    due_payments.setdefault(exchange, {})[symbol] = due_ms
        return due_payments

    def _pop_due(self, exchange: str, symbol: str, calendar: FundingCalendar, unanswered: set[str]) -> int | None:
        """The due time of a payment (Unix ms), or None. A venue that does not answer is added to `unanswered` and not
        asked again in the round, since each timeout lasts seconds."""
        try:
            state = self._venues.funding(exchange).fetch_state(symbol)
        except UpstreamUnavailable:
            unanswered.add(exchange)
            raise
        return None if state is None else calendar.pop_due(state)

    def _read_and_book(
        self,
        key: object,
        funding_symbols: list[FundingSymbol],
        due_payments: DuePayments,
        unavailable: UnavailableAccounts,
    ) -> None:
        first, now = funding_symbols[0], self._clock.monotonic()
        schedule = self._schedules.setdefault(key, FundingSchedule())
        symbols = {row.symbol for row in funding_symbols}
        schedule.expect(due_payments.get(first.exchange, {}), symbols)
        is_away = not first.is_paper and unavailable.should_skip(first.user_id, first.exchange)
        if is_away or not schedule.is_due(now, symbols, is_held=any(row.is_held for row in funding_symbols)):
            return
        schedule.mark_failed(now)  # until it has succeeded
        user_id = None if first.is_paper else first.user_id
        booker = self._paper if first.is_paper else self._live
        with self._isolate_failures(first.exchange, first.symbol, user_id, unavailable):
            schedule.mark_read(now, symbols, booker.book(funding_symbols))

    @contextmanager
    def _isolate_failures(
        self, exchange: str, symbol: str, user_id: UUID | None = None, unavailable: UnavailableAccounts | None = None
    ) -> Iterator[None]:
        """Logs a fault of one account or symbol once and goes on with the others. Raises DatabaseUnavailable."""
        key = (exchange, symbol, user_id)
        try:
            yield
            self._logged_failures.pop(key, None)
        except SparkyError as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            if user_id is not None and unavailable is not None and isinstance(error, UpstreamUnavailable):
                unavailable.add(user_id, exchange)
            if self._logged_failures.get(key) != str(error):
                logger.warning("funding_read_failed", exchange=exchange, symbol=symbol, reason=str(error))
            self._logged_failures[key] = str(error)
        except Exception:
            logger.exception("funding_read_failed", exchange=exchange, symbol=symbol)


def _get_account_key(funding_symbol: FundingSymbol) -> tuple[str, str]:
    return str(funding_symbol.user_id), funding_symbol.exchange


def _get_symbol_key(funding_symbol: FundingSymbol) -> VenueSymbol:
    return funding_symbol.exchange, funding_symbol.symbol


def _group_by(
    funding_symbols: Iterable[FundingSymbol], key: Callable[[FundingSymbol], tuple[str, str]], *, is_paper: bool
) -> list[tuple[tuple[str, str], list[FundingSymbol]]]:
    own = sorted((row for row in funding_symbols if row.is_paper is is_paper), key=key)
    return [(name, list(group)) for name, group in groupby(own, key)]
