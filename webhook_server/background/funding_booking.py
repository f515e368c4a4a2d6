"""Reads the payments of funding of one account, or of one symbol on paper, and books what is not booked yet."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from engine.domain import decimals
from engine.domain.errors import StrategyFault
from engine.platform.errors import DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.store.funding import FundingFacts, FundingShare, FundingSymbol
from engine.store.store import Store
from engine.venues.account_record import Income
from engine.venues.account_state import USD_ASSETS
from engine.venues.market_data.coin_prices import QUOTE_ASSETS
from engine.venues.market_data.funding import MINUTE_MS, FundingRate, FundingSource
from engine.venues.venue import LiveVenue
from webhook_server.background.funding_allocation import HOUR_MS, ZERO, allocate_share, build_histories, split_payment
from webhook_server.background.funding_schedule import FundingResult
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

FUNDING_FEE: Final = "FUNDING_FEE"
MAX_LISTING_DELAY_MS: Final = 8 * HOUR_MS  # a payment may be shown so long after others that are younger
LOOKBACK_MS: Final = 2 * HOUR_MS  # what has ended so long before a payment has nothing to do with it
MAX_HOLD_S: Final = 600.0  # an order whose outcome is not known for longer does not hold a payment up
MAX_PRICE_WAIT_S: Final = 3_600.0  # nor does a price that is not told
MAX_ATTEMPTS: Final = 3
# Worth a dollar each: those of orders, and what venues pay funding in besides (Binance: BNFCR in the EU).
DOLLAR_ASSETS: Final = (*USD_ASSETS, "BNFCR", "FDUSD", "BUSD")
NOTHING_HELD: Final = "nothing of the symbol was held by the books"


class PricedPayment(NamedTuple):
    """A payment in dollars; without a known worth it is 0, for a `reason`."""

    income_id: str
    at_ms: int
    usd: Decimal
    reason: str | None = None


class LiveFunding:
    """Of one live account: all its symbols at once, from where its income was read last."""

    def __init__(self, store: Store, venues: Venues, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._metrics = metrics
        self._held_since: dict[tuple[UUID, str, str], float] = {}
        self._unpriced_since: dict[tuple[UUID, str, str], float] = {}
        self._seen_payments: set[tuple[UUID, str, str, str]] = set()

    def book(self, places: Sequence[FundingSymbol]) -> FundingResult:
        """Raises what account and store raise."""
        user_id, exchange = places[0].user_id, places[0].exchange
        credentials = self._store.get_venue_credentials(user_id, exchange)
        if credentials is None:
            return FundingResult({})
        first_ms = min(each.first_ms for each in places)
        since_ms = max(first_ms, max(each.read_ms for each in places) - MAX_LISTING_DELAY_MS)
        account = self._venues.live(exchange, credentials)
        settled_ms = _find_settled_ms(self._venues.funding(exchange), places)
        incomes = account.fetch_income(None, since_ms, FUNDING_FEE)
        rows = self._store.list_booked_payments(user_id, exchange, is_paper=False, since_ms=since_ms)
        known = {(each.symbol, each.income_id) for each in rows}
        unbooked: dict[str, list[Income]] = {}
        for income in incomes:
            if income.kind == FUNDING_FEE and (income.symbol, income.income_id) not in known:
                unbooked.setdefault(income.symbol, []).append(income)
        incomplete = [
            symbol for symbol, own in unbooked.items() if not self._book_symbol(places[0], symbol, own, account)
        ]
        read_ms = max(settled_ms, *(each.at_ms for each in incomes[-1:]), 0)
        if read_ms and not incomplete:
            self._store.set_funding_read_until(user_id, exchange, read_ms)
        return FundingResult(
            _newest_by_symbol((each.symbol, each.at_ms) for each in incomes), is_complete=not incomplete
        )

    def _book_symbol(
        self, account_place: FundingSymbol, symbol: str, incomes: Sequence[Income], account: LiveVenue
    ) -> bool:
        """Whether all of them are booked now: not while an order in the symbol is under way, and, where several share
        them, not at first sight, so that what ended at the venue just before the payment comes into the books first."""
        place = account_place.model_copy(update={"symbol": symbol})
        since_ms = incomes[0].at_ms - LOOKBACK_MS
        facts = _load_facts(self._store, place, since_ms)
        if (facts.is_unsettled and self._should_wait(place)) or (
            _are_shared(facts) and self._is_first_sight(incomes, account_place)
        ):
            return False
        self._held_since.pop((place.user_id, place.exchange, symbol), None)
        is_complete = True
        for income in incomes:
            paid = self._price_payment(income, account, place)
            if paid is None:
                is_complete = False
            else:
                facts = self._book_payment(place, paid, facts, since_ms)
        return is_complete

    def _price_payment(self, income: Income, account: LiveVenue, place: FundingSymbol) -> PricedPayment | None:
        """In dollars, of another coin by its price when it was paid. None while a price that the venue has is not told:
        then it is asked for again, for an hour."""
        usd = income.amount if income.asset in DOLLAR_ASSETS else _fetch_worth(income, account)
        key = (place.user_id, place.exchange, income.income_id)
        if usd is None and self._is_price_pending(income.asset, account, key):
            return None
        self._unpriced_since.pop(key, None)
        if usd is not None:
            return PricedPayment(income.income_id, income.at_ms, usd)
        amount = f"{decimals.format_plain(income.amount)} {income.asset}"
        return PricedPayment(income.income_id, income.at_ms, ZERO, f"paid in a coin without a price here: {amount}")

    def _is_price_pending(self, asset: str, account: LiveVenue, key: tuple[UUID, str, str]) -> bool:
        now = self._clock.monotonic()
        if now - self._unpriced_since.setdefault(key, now) >= MAX_PRICE_WAIT_S:
            return False
        try:
            return _is_listed(account, asset)
        except UpstreamUnavailable:
            return True

    def _book_payment(
        self, place: FundingSymbol, paid: PricedPayment, facts: FundingFacts, since_ms: int
    ) -> FundingFacts:
        """The facts as they were when it was booked, for the next one."""
        for _ in range(MAX_ATTEMPTS):
            split = split_payment(paid.usd, paid.at_ms, facts)
            reason = paid.reason or (None if split.is_explained else NOTHING_HELD)
            shares = () if paid.reason else split.shares
            outcome = self._store.book_funding(
                place, paid.income_id, paid.at_ms, shares, split.others_usd, reason, facts.last_fill_id
            )
            if outcome == "changed":
                facts = _load_facts(self._store, place, since_ms)
                continue
            if outcome == "booked":
                self._log_booking(place, paid, reason)
            return facts
        raise DatabaseUnavailable(f"the books of {place.symbol} changed whenever funding was booked")

    def _is_first_sight(self, incomes: Sequence[Income], place: FundingSymbol) -> bool:
        names = {(place.user_id, place.exchange, each.symbol, each.income_id) for each in incomes}
        is_new = not names <= self._seen_payments
        self._seen_payments = self._seen_payments | names if is_new else self._seen_payments - names
        return is_new

    def _should_wait(self, place: FundingSymbol) -> bool:
        now = self._clock.monotonic()
        since = self._held_since.setdefault((place.user_id, place.exchange, place.symbol), now)
        return now - since < MAX_HOLD_S

    def _log_booking(self, place: FundingSymbol, paid: PricedPayment, reason: str | None) -> None:
        fields = {"symbol": place.symbol, "income": paid.income_id, "usd": str(paid.usd)}
        if reason is None:
            self._metrics.funding_payments.labels("live").inc()
            logger.info("funding_booked", **fields)
        else:
            self._metrics.funding_unexplained.inc()
            logger.warning("funding_unexplained", reason=reason, user=str(place.user_id), **fields)


class PaperFunding:
    """Of one symbol, for everybody who holds it on paper: at the venue's rate and mark price of each moment."""

    def __init__(self, store: Store, venues: Venues, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._metrics = metrics
        self._logged_venues: set[str] = set()

    def book(self, places: Sequence[FundingSymbol]) -> FundingResult:
        """Raises what the source and the store raise."""
        exchange, symbol = places[0].exchange, places[0].symbol
        source = self._venues.funding(exchange)
        since = {each.user_id: max(each.first_ms, each.read_ms - MAX_LISTING_DELAY_MS) for each in places}
        settled_ms = _find_settled_ms(source, places)
        history = source.fetch_history(symbol, min(since.values()))
        if history is None:
            if exchange not in self._logged_venues:
                logger.warning("paper_funding_unavailable", exchange=exchange, reason="it does not tell its rates")
            self._logged_venues.add(exchange)
            return FundingResult({})
        prices = _MarkPrices(source, symbol)
        is_complete = True
        for place in places:
            rates = [each for each in history if each.at_ms >= since[place.user_id]]
            if not self._book_place(place, rates, prices):
                is_complete = False
            elif place.last_ms and settled_ms:
                self._store.set_paper_funding_read_until(place, min(settled_ms, place.last_ms + MAX_LISTING_DELAY_MS))
        return FundingResult(_newest_by_symbol((symbol, each.at_ms) for each in history), is_complete=is_complete)

    def _book_place(self, place: FundingSymbol, rates: Sequence[FundingRate], prices: "_MarkPrices") -> bool:
        """Whether all are booked; not when the books have changed meanwhile."""
        if not rates:
            return True
        since_ms = rates[0].at_ms
        rows = self._store.list_booked_payments(
            place.user_id, place.exchange, is_paper=True, since_ms=since_ms - MINUTE_MS
        )
        known = {(_payment_id(int(each.income_id)), each.position_id) for each in rows if each.symbol == place.symbol}
        facts = _load_facts(self._store, place, since_ms - LOOKBACK_MS)
        for rate in rates:
            shares = _build_paper_shares(rate, facts, prices, known)
            if not shares:
                continue
            outcome = self._store.book_funding(
                place, _payment_id(rate.at_ms), rate.at_ms, shares, ZERO, None, facts.last_fill_id
            )
            if outcome == "changed":
                return False
            if outcome == "booked":
                self._metrics.funding_payments.labels("paper").inc()
        return True


class _MarkPrices:
    """Of one symbol at the moments of its payments, each asked for once."""

    def __init__(self, source: FundingSource, symbol: str) -> None:
        self._source = source
        self._symbol = symbol
        self._cache: dict[int, Decimal] = {}

    def get_or_fetch(self, rate: FundingRate) -> Decimal:
        if rate.mark_price is not None:
            return rate.mark_price
        if rate.at_ms not in self._cache:
            self._cache[rate.at_ms] = self._source.fetch_price_at(self._symbol, rate.at_ms)
        return self._cache[rate.at_ms]


def _build_paper_shares(
    rate: FundingRate, facts: FundingFacts, prices: _MarkPrices, known: set[tuple[str, UUID]]
) -> list[FundingShare]:
    """What each position pays or gets that is not booked."""
    found = []
    for history in build_histories(facts):
        net = history.net_at(rate.at_ms)
        if net and rate.rate and (_payment_id(rate.at_ms), history.position_id) not in known:
            usd = decimals.product(decimals.product(net, prices.get_or_fetch(rate)), rate.rate).copy_negate()
            found.append(allocate_share(decimals.round_for_books(usd), history, rate.at_ms))
    return found


def _fetch_worth(income: Income, account: LiveVenue) -> Decimal | None:
    try:
        usd = account.convert_to_usd(income.asset, income.amount, income.at_ms)
    except UpstreamUnavailable:
        return None
    return None if usd is None else decimals.round_for_books(usd)


def _is_listed(account: LiveVenue, asset: str) -> bool:
    """Whether a price of it is to be had at all."""
    for quote in QUOTE_ASSETS:
        try:
            account.fetch_instrument(f"{asset}{quote}")
        except StrategyFault:
            continue
        return True
    return False


def _payment_id(at_ms: int) -> str:
    """Of a payment on paper, which has no name of its own: its minute, as a venue may tell its time a little otherwise
    the next time."""
    return str((at_ms + MINUTE_MS // 2) // MINUTE_MS * MINUTE_MS)


def _find_settled_ms(source: FundingSource, places: Sequence[FundingSymbol]) -> int:
    """Up to when payments are read by a look that begins now, as far as that settles what has ended: the venue's time,
    and never later than its last payment may be shown, as that time may be wrong. 0 where nothing has ended or the
    venue tells no time."""
    ended = max(places, key=lambda each: each.last_ms)
    if not ended.last_ms:
        return 0
    try:
        state = source.fetch_state(ended.symbol)
    except SparkyError:
        return 0
    return 0 if state is None else min(state.at_ms, ended.last_ms + MAX_LISTING_DELAY_MS)


def _are_shared(facts: FundingFacts) -> bool:
    return len(build_histories(facts)) > 1 or bool(facts.others_net)


def _load_facts(store: Store, place: FundingSymbol, since_ms: int) -> FundingFacts:
    return store.get_funding_facts(
        place.user_id, place.exchange, place.symbol, is_paper=place.is_paper, since_ms=since_ms
    )


def _newest_by_symbol(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for symbol, at_ms in rows:
        found[symbol] = max(at_ms, found.get(symbol, at_ms))
    return found
