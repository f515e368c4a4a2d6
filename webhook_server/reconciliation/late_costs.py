"""Books the cost of a liquidation for ten minutes after it: a venue may show that cost later than the trades."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

import structlog

from engine.platform.errors import DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.store.venue_record import RecentLiquidation
from engine.venues.ccxt_client.request_weight import low_priority
from webhook_server.reconciliation.liquidation_costs import find_liquidated_exits, find_unbooked_costs, split_cost
from webhook_server.reconciliation.outside_record import INCOME_TIME_TOLERANCE_MS
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

LOOKBACK_S: Final = 600.0
LiquidationKey = tuple[UUID, str, str, int]  # user, exchange, symbol, number of the last fill


def is_due(rounds: int) -> bool:
    """Whether to read the income `rounds` rounds after a liquidation was first seen: after 0, 1, 2, 4, 8 and so on."""
    return rounds & (rounds - 1) == 0  # no bit or one bit set


class LateLiquidationCosts:
    """Remembers how many rounds ago it first saw each recent liquidation."""

    def __init__(self, store: Store, venues: Venues) -> None:
        self._store = store
        self._venues = venues
        self._rounds: dict[LiquidationKey, int] = {}

    def run(self, unavailable: UnavailableAccounts, should_continue: Callable[[], bool]) -> None:
        """One round over recent liquidations; skips accounts that are `unavailable`, and stops when `should_continue`
        is False. Raises UpstreamUnavailable for the database only."""
        rounds: dict[LiquidationKey, int] = {}
        for recent in self._store.list_recent_liquidations(LOOKBACK_S):
            key = (recent.user_id, recent.exchange, recent.symbol, recent.last_fill_id)
            rounds[key] = self._rounds.get(key, -1) + 1
            if (
                is_due(rounds[key])
                and should_continue()
                and not unavailable.should_skip(recent.user_id, recent.exchange)
            ):
                self._check(recent, unavailable)
        self._rounds = rounds

    def _check(self, recent: RecentLiquidation, unavailable: UnavailableAccounts) -> None:
        try:
            with low_priority():
                self._book(recent)
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if isinstance(error, DatabaseUnavailable):
                    raise
                unavailable.add(recent.user_id, recent.exchange)
            logger.warning("liquidation_cost_check_failed", symbol=recent.symbol, reason=str(error))
        except Exception:  # a fault in one account must not keep the others from being checked
            logger.exception("liquidation_cost_check_failed", symbol=recent.symbol)

    def _book(self, recent: RecentLiquidation) -> None:
        key = (recent.user_id, recent.exchange, recent.symbol)
        credentials = self._store.get_venue_credentials(recent.user_id, recent.exchange)
        if credentials is None:
            return
        account, since_ms = self._venues.live(recent.exchange, credentials), recent.first_ms - INCOME_TIME_TOLERANCE_MS
        incomes = account.fetch_income(recent.symbol, since_ms)
        booked = self._store.get_liquidation_exits(*key, recent.first_ms)
        costs = find_unbooked_costs(incomes, booked.cost_ids, booked.costs_until_ms, account.convert_to_usd)
        # Forced orders cost a request of their own, and only assign a cost, so they are read only where there is one.
        forced = account.fetch_forced_orders(recent.symbol, since_ms) if costs else ()
        for cost in costs:
            parts, whole = find_liquidated_exits(cost, booked.exits, forced)
            shares = split_cost(cost.amount.copy_negate(), [part.quantity for part in parts], whole) if parts else []
            usd_by_fill = {part.fill_id: share for part, share in zip(parts, shares, strict=True)}
            if usd_by_fill and self._store.book_liquidation_cost(*key, cost.income_id, usd_by_fill):
                logger.warning("liquidation_cost_booked", symbol=recent.symbol, income=cost.income_id)
