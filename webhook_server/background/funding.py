"""When funding is read and booked: live from the income of an account, on paper from the rates of a venue."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Final
from uuid import UUID

import structlog

from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.store.funding import FundingSymbol
from engine.store.store import Store
from engine.venues.ccxt_client.request_weight import low_priority
from webhook_server.background.funding_booking import LiveFunding, PaperFunding
from webhook_server.background.funding_schedule import Calendar, Looks
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.unavailable_accounts import Away
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

EVERY_S: Final = 15.0
WITHIN_S: Final = (
    12 * 3_600.0
)  # what ended so lately is looked at, and what ended before that until its payments are read
Symbol = tuple[str, str]  # exchange, symbol
Passed = dict[str, dict[str, int]]  # by exchange and symbol: when a payment has become due


class Funding:
    """One round: asks when payments are due, then books those of the accounts and symbols where one may be."""

    def __init__(self, store: Store, venues: Venues, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._live = LiveFunding(store, venues, clock, metrics)
        self._paper = PaperFunding(store, venues, metrics)
        self._calendars: dict[Symbol, Calendar] = {}
        self._looks: dict[object, Looks] = {}
        self._held: frozenset[Symbol] = frozenset()
        self._failing: dict[object, str] = {}

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """One round, while it `goes_on`. Raises UpstreamUnavailable for the database only."""
        places = self._store.list_funding_symbols(WITHIN_S)
        away = Away()
        with low_priority():
            passed = self._passed(places, goes_on)
            live = [(("live", *key), own) for key, own in _by(places, _account, is_paper=False)]
            paper = [(("paper", *key), own) for key, own in _by(places, _symbol, is_paper=True)]
            for key, own in [*live, *paper]:
                if goes_on():
                    self._look(key, own, passed, away)
        self._looks = {key: self._looks[key] for key, _ in [*live, *paper] if key in self._looks}

    def _passed(self, places: Iterable[FundingSymbol], goes_on: Callable[[], bool]) -> Passed:
        """Asks, for all that is held or was in the last round, whether a payment has become due."""
        held = frozenset(_symbol(each) for each in places if each.is_held)
        asked, passed = held | self._held, Passed()
        self._held = held
        self._calendars = {key: self._calendars.get(key, Calendar()) for key in asked}
        silent: set[str] = set()
        for (exchange, symbol), calendar in self._calendars.items():
            if exchange in silent or not goes_on():
                continue
            with self._bearing(exchange, symbol):
                due_ms = self._due(exchange, symbol, calendar, silent)
                if due_ms is not None:
                    passed.setdefault(exchange, {})[symbol] = due_ms
        return passed

    def _due(self, exchange: str, symbol: str, calendar: Calendar, silent: set[str]) -> int | None:
        """A venue that does not answer is not asked again in the round: each silence lasts seconds."""
        try:
            state = self._venues.funding(exchange).fetch_state(symbol)
        except UpstreamUnavailable:
            silent.add(exchange)
            raise
        return None if state is None else calendar.passed(state)

    def _look(self, key: object, places: list[FundingSymbol], passed: Passed, away: Away) -> None:
        first, now = places[0], self._clock.monotonic()
        looks = self._looks.setdefault(key, Looks())
        symbols = {each.symbol for each in places}
        looks.expect(passed.get(first.exchange, {}), symbols)
        is_away = not first.is_paper and away.covers(first.user_id, first.exchange)
        if is_away or not looks.is_due(now, symbols, is_held=any(each.is_held for each in places)):
            return
        looks.failed(now)  # until it has succeeded
        with self._bearing(first.exchange, first.symbol, None if first.is_paper else first.user_id, away):
            looks.looked(now, symbols, self._paper.book(places) if first.is_paper else self._live.book(places))

    @contextmanager
    def _bearing(
        self, exchange: str, symbol: str, user_id: UUID | None = None, away: Away | None = None
    ) -> Iterator[None]:
        """One account's or symbol's fault is in no other's way; it is logged once."""
        key = (exchange, symbol, user_id)
        try:
            yield
            self._failing.pop(key, None)
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable) and error.service == "database":
                raise
            if user_id is not None and away is not None and isinstance(error, UpstreamUnavailable):
                away.add(user_id, exchange)
            if self._failing.get(key) != str(error):
                logger.warning("funding_not_read", exchange=exchange, symbol=symbol, reason=str(error))
            self._failing[key] = str(error)
        except Exception:
            logger.exception("funding_not_read", exchange=exchange, symbol=symbol)


def _account(place: FundingSymbol) -> tuple[str, str]:
    return str(place.user_id), place.exchange


def _symbol(place: FundingSymbol) -> Symbol:
    return place.exchange, place.symbol


def _by(
    places: Iterable[FundingSymbol], key: Callable[[FundingSymbol], tuple[str, str]], *, is_paper: bool
) -> list[tuple[tuple[str, str], list[FundingSymbol]]]:
    own = sorted((each for each in places if each.is_paper is is_paper), key=key)
    return [(name, list(group)) for name, group in groupby(own, key)]
