"""Compares the books with every venue: books what the venue's record explains, keeps and logs the other differences.

An account with live positions in the books is compared in every round, the others in every twentieth.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.domain.positions import Position
from engine.platform.errors import DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import Difference, LiveAccount
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.account_comparison import MAX_BACKOFF_ROUNDS, AccountComparer
from webhook_server.reconciliation.late_costs import LateLiquidationCosts
from webhook_server.reconciliation.symbol_comparison import SymbolKey
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

INTERVAL_S: Final = 15.0
PositionsBySymbol = dict[tuple[UUID, str], dict[str, tuple[Position, ...]]]  # live positions by account and symbol


class Reconciliation:
    """One thread calls `run` every INTERVAL_S seconds."""

    def __init__(
        self,
        store: Store,
        venues: Venues,
        reconciler: SymbolReconciler,
        exits: ProtectiveExits,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._comparer = AccountComparer(store, venues, reconciler, exits)
        self._costs = LateLiquidationCosts(store, venues)
        self._clock = clock
        self._metrics = metrics
        self._known_differences: dict[SymbolKey, Difference] = {}
        self._unread_accounts: set[tuple[UUID, str]] = set()
        self._rounds = -1

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> tuple[Difference, ...]:
        """Compares every account once and returns all open differences.

        An account that could not be read keeps its known differences, and comes last in the next round, since a venue
        that is away may stay so and each attempt costs a timeout. Ends early when `should_continue` is False: the
        differences so far are returned, and logged by the next whole round.

        Raises UpstreamUnavailable when the database is away.
        """
        self._rounds += 1
        differences: list[Difference] = []
        unavailable, unread, held = UnavailableAccounts(), set(), self._load_live_positions()
        for account in sorted(
            self._store.list_live_accounts(), key=lambda account: _get_account_key(account) in self._unread_accounts
        ):
            if not should_continue():
                return tuple(differences)
            own = held.get(_get_account_key(account), {})
            if not own and not self._is_due(account):
                continue
            own_differences = (
                None
                if unavailable.should_skip(*_get_account_key(account))
                else self._compare_account(account, own, unavailable)
            )
            if own_differences is None:
                unread.add(_get_account_key(account))
                own_differences = self._list_known_differences(account)
            differences += own_differences
        # Only after a whole round: an interrupted one knows nothing of the accounts behind.
        self._unread_accounts = unread
        self._metrics.differences.set(len(differences))
        self._log_changes(differences)
        self._costs.run(unavailable, should_continue)
        return tuple(differences)

    def _load_live_positions(self) -> PositionsBySymbol:
        held: PositionsBySymbol = {}
        for position in self._store.list_open_positions():
            if not position.is_paper:
                own = held.setdefault((position.user_id, position.exchange), {})
                own[position.symbol] = (*own.get(position.symbol, ()), position)
        return held

    def _is_due(self, account: LiveAccount) -> bool:
        """Whether an account without positions in the books is compared in this round."""
        is_full_round = self._rounds % MAX_BACKOFF_ROUNDS == 0
        return (
            is_full_round
            or account.has_record
            or _get_account_key(account) in self._unread_accounts
            or bool(self._list_known_differences(account))
        )

    def _list_known_differences(self, account: LiveAccount) -> tuple[Difference, ...]:
        """The account's open differences as of the last round."""
        account_key = _get_account_key(account)
        return tuple(difference for key, difference in self._known_differences.items() if key[:2] == account_key)

    def _compare_account(
        self, account: LiveAccount, own: dict[str, tuple[Position, ...]], unavailable: UnavailableAccounts
    ) -> tuple[Difference, ...] | None:
        """The account's open differences; None when it could not be read."""
        log = logger.bind(user=str(account.user_id), exchange=account.exchange)
        began_at = self._clock.monotonic()
        differing = {difference.symbol for difference in self._list_known_differences(account)}
        try:
            comparison = self._comparer.compare(account, own, differing, self._rounds)
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if isinstance(error, DatabaseUnavailable):
                    raise
                unavailable.add(*_get_account_key(account))
            log.warning("reconciliation_failed", reason=str(error))
            return None
        except Exception:  # a fault in one account must not keep the others from being compared
            log.exception("reconciliation_failed")
            return None
        if comparison.is_unavailable:
            unavailable.add(*_get_account_key(account))
        age_s = self._clock.monotonic() - began_at
        return self._store.report_reconciliation(
            *_get_account_key(account), comparison.nets, comparison.reasons, comparison.checked, age_s
        )

    def _log_changes(self, differences: list[Difference]) -> None:
        """Logs transitions only: a new or changed difference, and one that is gone."""
        now = {(difference.user_id, difference.exchange, difference.symbol): difference for difference in differences}
        included = {"exchange", "symbol", "booked", "at_venue", "reason"}
        for key, difference in now.items():
            if _get_quantities(self._known_differences.get(key)) != _get_quantities(difference):
                fields = difference.model_dump(mode="json", include=included)
                logger.error("reconciliation_difference", user=str(difference.user_id), **fields)
        for key in self._known_differences.keys() - now.keys():
            logger.info("reconciliation_difference_resolved", what=str(key))
        self._known_differences = now


def _get_account_key(account: LiveAccount) -> tuple[UUID, str]:
    return account.user_id, account.exchange


def _get_quantities(difference: Difference | None) -> tuple[Decimal, Decimal] | None:
    return None if difference is None else (difference.booked, difference.at_venue)
