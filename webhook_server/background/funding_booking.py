"""Books funding payments that are not in the books yet: of one live account, or of one symbol on paper."""

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
MAX_LISTING_DELAY_MS: Final = 8 * HOUR_MS  # a venue may list a payment so long after younger ones
LOOKBACK_MS: Final = 2 * HOUR_MS  # of fills before a payment; positions that ended earlier have no share in it
MAX_HOLD_S: Final = 600.0  # an order with an unknown outcome delays a payment so long and no longer
MAX_PRICE_WAIT_S: Final = 3_600.0  # and so does a coin without a price
MAX_ATTEMPTS: Final = 3  # of booking, each with newly read books
# Worth a dollar each: quote assets of orders, and others that venues pay funding in (Binance: BNFCR in the EU).
DOLLAR_ASSETS: Final = (*USD_ASSETS, "BNFCR", "FDUSD", "BUSD")
NOTHING_HELD: Final = "nothing of the symbol was held by the books"


class PricedPayment(NamedTuple):
    """A payment in USD; 0 with a `reason` where its coin has no price."""

    income_id: str
    at_ms: int
    usd: Decimal
    reason: str | None = None


class LiveFunding:
    """Books the funding of one live account: all its symbols at once, from where its income was read last."""

    def __init__(self, store: Store, venues: Venues, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._clock = clock
        self._metrics = metrics
        self._held_since: dict[tuple[UUID, str, str], float] = {}
        self._unpriced_since: dict[tuple[UUID, str, str], float] = {}
        self._seen_payments: set[tuple[UUID, str, str, str]] = set()

    def book(self, funding_symbols: Sequence[FundingSymbol]) -> FundingResult:
        """Books the payments of one account. Raises what the account and the store raise."""
        user_id, exchange = funding_symbols[0].user_id, funding_symbols[0].exchange
        credentials = self._store.get_venue_credentials(user_id, exchange)
        if credentials is None:
            return FundingResult({})
        first_ms = min(row.first_ms for row in funding_symbols)
        # Never before the first entry: earlier payments were for positions outside the books.
        since_ms = max(first_ms, max(row.read_ms for row in funding_symbols) - MAX_LISTING_DELAY_MS)
        account = self._venues.live(exchange, credentials)
        # The time before the income: payments up to a time that is read after it may not have been listed yet.
        settled_ms = _find_settled_ms(self._venues.funding(exchange), funding_symbols)
        incomes = account.fetch_income(None, since_ms, FUNDING_FEE)
        rows = self._store.list_booked_payments(user_id, exchange, is_paper=False, since_ms=since_ms)
        booked = {(row.symbol, row.income_id) for row in rows}
        unbooked: dict[str, list[Income]] = {}
        for income in incomes:
            if income.kind == FUNDING_FEE and (income.symbol, income.income_id) not in booked:
                unbooked.setdefault(income.symbol, []).append(income)
        first = funding_symbols[0]
        incomplete = [symbol for symbol, own in unbooked.items() if not self._book_symbol(first, symbol, own, account)]
        read_ms = max(settled_ms, *(income.at_ms for income in incomes[-1:]), 0)
        if read_ms and not incomplete:
            self._store.set_funding_read_until(user_id, exchange, read_ms)
        return FundingResult(
            _find_newest_by_symbol((income.symbol, income.at_ms) for income in incomes), is_complete=not incomplete
        )

    def _book_symbol(
        self, account_symbol: FundingSymbol, symbol: str, incomes: Sequence[Income], account: LiveVenue
    ) -> bool:
        """Books `incomes` of `symbol` and returns whether all of them are booked.

        They wait while an order in the symbol is under way, and, where several positions share them, until the second
        round that shows them: positions that ended at the venue just before the payment are booked in between.
        """
        funding_symbol = account_symbol.model_copy(update={"symbol": symbol})
        since_ms = incomes[0].at_ms - LOOKBACK_MS
        facts = _load_facts(self._store, funding_symbol, since_ms)
        if (facts.is_unsettled and self._should_wait(funding_symbol)) or (
            _has_several_holders(facts) and self._is_first_sight(incomes, account_symbol)
        ):
            return False
        self._held_since.pop(_get_symbol_key(funding_symbol), None)
        is_complete = True
        for income in incomes:
            paid = self._price_payment(income, account, funding_symbol)
            if paid is None:
                is_complete = False
            else:
                facts = self._book_payment(funding_symbol, paid, facts, since_ms)
        return is_complete

    def _price_payment(self, income: Income, account: LiveVenue, funding_symbol: FundingSymbol) -> PricedPayment | None:
        """`income` in USD, by the coin's price at the time of payment. None while the venue lists a price of the coin
        and does not answer with it: that is tried again for an hour."""
        usd = income.amount if income.asset in DOLLAR_ASSETS else _fetch_worth(income, account)
        key = (funding_symbol.user_id, funding_symbol.exchange, income.income_id)
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
        self, funding_symbol: FundingSymbol, paid: PricedPayment, facts: FundingFacts, since_ms: int
    ) -> FundingFacts:
        """Books one payment; the facts that were valid then serve the next one. Raises DatabaseUnavailable when the
        books change at every attempt."""
        for _ in range(MAX_ATTEMPTS):
            split = split_payment(paid.usd, paid.at_ms, facts)
            reason = paid.reason or (None if split.is_explained else NOTHING_HELD)
            shares = () if paid.reason else split.shares
            outcome = self._store.book_funding(
                funding_symbol, paid.income_id, paid.at_ms, shares, split.others_usd, reason, facts.last_fill_id
            )
            if outcome == "changed":  # a fill was booked since the facts were read, so the shares may be wrong
                facts = _load_facts(self._store, funding_symbol, since_ms)
                continue
            if outcome == "booked":
                self._log_booking(funding_symbol, paid, reason)
            return facts
        raise DatabaseUnavailable(f"the books of {funding_symbol.symbol} changed whenever funding was booked")

    def _is_first_sight(self, incomes: Sequence[Income], funding_symbol: FundingSymbol) -> bool:
        account = (funding_symbol.user_id, funding_symbol.exchange)
        keys = {(*account, income.symbol, income.income_id) for income in incomes}
        is_new = not keys <= self._seen_payments
        self._seen_payments = self._seen_payments | keys if is_new else self._seen_payments - keys
        return is_new

    def _should_wait(self, funding_symbol: FundingSymbol) -> bool:
        now = self._clock.monotonic()
        return now - self._held_since.setdefault(_get_symbol_key(funding_symbol), now) < MAX_HOLD_S

    def _log_booking(self, funding_symbol: FundingSymbol, paid: PricedPayment, reason: str | None) -> None:
        fields = {"symbol": funding_symbol.symbol, "income": paid.income_id, "usd": str(paid.usd)}
        if reason is None:
            self._metrics.funding_payments.labels("live").inc()
            logger.info("funding_booked", **fields)
        else:
            self._metrics.funding_unexplained.inc()
            logger.warning("funding_unexplained", reason=reason, user=str(funding_symbol.user_id), **fields)


class PaperFunding:
    """Books the funding of one symbol for all paper positions, at the venue's rate and mark price of each payment."""

    def __init__(self, store: Store, venues: Venues, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._metrics = metrics
        self._logged_venues: set[str] = set()

    def book(self, funding_symbols: Sequence[FundingSymbol]) -> FundingResult:
        """Books the payments of one symbol. Raises what the venue and the store raise."""
        exchange, symbol = funding_symbols[0].exchange, funding_symbols[0].symbol
        source = self._venues.funding(exchange)
        since = {row.user_id: max(row.first_ms, row.read_ms - MAX_LISTING_DELAY_MS) for row in funding_symbols}
        settled_ms = _find_settled_ms(source, funding_symbols)
        history = source.fetch_history(symbol, min(since.values()))
        if history is None:
            if exchange not in self._logged_venues:
                logger.warning("paper_funding_unavailable", exchange=exchange, reason="it does not tell its rates")
            self._logged_venues.add(exchange)
            return FundingResult({})
        prices = _MarkPrices(source, symbol)
        is_complete = True
        for funding_symbol in funding_symbols:
            rates = [rate for rate in history if rate.at_ms >= since[funding_symbol.user_id]]
            if not self._book_place(funding_symbol, rates, prices):
                is_complete = False
            elif funding_symbol.last_ms and settled_ms:
                read_ms = min(settled_ms, funding_symbol.last_ms + MAX_LISTING_DELAY_MS)
                self._store.set_paper_funding_read_until(funding_symbol, read_ms)
        return FundingResult(_find_newest_by_symbol((symbol, rate.at_ms) for rate in history), is_complete=is_complete)

    def _book_place(self, funding_symbol: FundingSymbol, rates: Sequence[FundingRate], prices: "_MarkPrices") -> bool:
        """Books one person's payments at `rates`; False when the books have changed meanwhile, so that the next round
        goes on."""
        if not rates:
            return True
        since_ms, key = rates[0].at_ms, _get_symbol_key(funding_symbol)
        rows = self._store.list_booked_payments(*key[:2], is_paper=True, since_ms=since_ms - MINUTE_MS)
        booked = {(_build_payment_id(int(row.income_id)), row.position_id) for row in rows if row.symbol == key[2]}
        facts = _load_facts(self._store, funding_symbol, since_ms - LOOKBACK_MS)
        for rate in rates:
            shares = _build_paper_shares(rate, facts, prices, booked)
            if not shares:
                continue
            outcome = self._store.book_funding(
                funding_symbol, _build_payment_id(rate.at_ms), rate.at_ms, shares, ZERO, None, facts.last_fill_id
            )
            if outcome == "changed":
                return False
            if outcome == "booked":
                self._metrics.funding_payments.labels("paper").inc()
        return True


class _MarkPrices:
    """Mark prices of one symbol at the times of its payments, each fetched once."""

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
    rate: FundingRate, facts: FundingFacts, prices: _MarkPrices, booked: set[tuple[str, UUID]]
) -> list[FundingShare]:
    """The shares of all positions in one payment, without those that are `booked`."""
    shares = []
    for history in build_histories(facts):
        net = history.get_net_at(rate.at_ms)
        if net and rate.rate and (_build_payment_id(rate.at_ms), history.position_id) not in booked:
            usd = decimals.product(decimals.product(net, prices.get_or_fetch(rate)), rate.rate).copy_negate()
            shares.append(allocate_share(decimals.round_for_books(usd), history, rate.at_ms))
    return shares


def _fetch_worth(income: Income, account: LiveVenue) -> Decimal | None:
    try:
        usd = account.convert_to_usd(income.asset, income.amount, income.at_ms)
    except UpstreamUnavailable:
        return None
    return None if usd is None else decimals.round_for_books(usd)


def _is_listed(account: LiveVenue, asset: str) -> bool:
    """Whether the venue lists `asset` against any quote asset, so that it has a price."""
    for quote in QUOTE_ASSETS:
        try:
            account.fetch_instrument(f"{asset}{quote}")
        except StrategyFault:
            continue
        return True
    return False


def _build_payment_id(at_ms: int) -> str:
    """An id for a payment on paper, where venues give none: its nearest minute, since a venue may report a slightly
    different time when it is asked again."""
    return str((at_ms + MINUTE_MS // 2) // MINUTE_MS * MINUTE_MS)


def _find_settled_ms(source: FundingSource, funding_symbols: Sequence[FundingSymbol]) -> int:
    """Up to when (Unix ms) payments of ended positions are complete once a reading that begins now has succeeded; 0
    where none has ended or the venue reports no time.

    That is the venue's time, which may be wrong, so at most MAX_LISTING_DELAY_MS after the last exit.
    """
    last_ended = max(funding_symbols, key=lambda row: row.last_ms)
    if not last_ended.last_ms:
        return 0
    try:
        state = source.fetch_state(last_ended.symbol)
    except SparkyError:
        return 0
    return 0 if state is None else min(state.at_ms, last_ended.last_ms + MAX_LISTING_DELAY_MS)


def _has_several_holders(facts: FundingFacts) -> bool:
    return len(build_histories(facts)) > 1 or bool(facts.others_net)


def _load_facts(store: Store, funding_symbol: FundingSymbol, since_ms: int) -> FundingFacts:
    return store.get_funding_facts(
        *_get_symbol_key(funding_symbol), is_paper=funding_symbol.is_paper, since_ms=since_ms
    )


def _get_symbol_key(funding_symbol: FundingSymbol) -> tuple[UUID, str, str]:
    return funding_symbol.user_id, funding_symbol.exchange, funding_symbol.symbol


def _find_newest_by_symbol(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for symbol, at_ms in rows:
        found[symbol] = max(at_ms, found.get(symbol, at_ms))
    return found
