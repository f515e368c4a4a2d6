"""Compares the books with every venue's own record: what that explains is booked, what differs still is kept and told.

Every account in which the books hold something is looked at often, the others now and then.
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
from webhook_server.reconciliation.account_comparison import MAX_BACKOFF_ROUNDS, AccountComparer, SymbolKey
from webhook_server.reconciliation.late_costs import LateLiquidationCosts
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.reconciliation.venue_changes import VenueChanges
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

INTERVAL_S: Final = 15.0
PositionsBySymbol = dict[tuple[UUID, str], dict[str, tuple[Position, ...]]]  # live positions by account and symbol


class Reconciliation:
    def __init__(
        self,
        store: Store,
        venues: Venues,
        changes: VenueChanges,
        exits: ProtectiveExits,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._looks = AccountComparer(store, venues, changes, exits)
        self._costs = LateLiquidationCosts(store, venues)
        self._clock = clock
        self._metrics = metrics
        self._known_differences: dict[SymbolKey, Difference] = {}
        self._unread_accounts: set[tuple[UUID, str]] = set()
        self._rounds = -1

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> tuple[Difference, ...]:
        """Looks at every account once; all open differences. Of an account that could not be read the differences stay
        as they were known, and it comes last the next time, since its silence may last. What was compared before it no
        longer `goes_on` is kept, and told the next time.

        Raises UpstreamUnavailable when the database is away.
        """
        self._rounds += 1
        found: list[Difference] = []
        unavailable, unread, held = UnavailableAccounts(), set(), self._load_live_positions()
        for account in sorted(
            self._store.list_live_accounts(), key=lambda each: _account_key(each) in self._unread_accounts
        ):
            if not should_continue():
                return tuple(found)
            own = held.get(_account_key(account), {})
            if not own and not self._is_due(account):
                continue
            differences = (
                None
                if unavailable.should_skip(*_account_key(account))
                else self._compare_account(account, own, unavailable)
            )
            if differences is None:
                unread.add(_account_key(account))
            found += self._differences_of(account) if differences is None else differences
        self._unread_accounts = unread
        self._metrics.differences.set(len(found))
        self._log_changes(found)
        self._costs.run(unavailable, should_continue)
        return tuple(found)

    def _load_live_positions(self) -> PositionsBySymbol:
        held: PositionsBySymbol = {}
        for position in self._store.list_open_positions():
            if not position.is_paper:
                own = held.setdefault((position.user_id, position.exchange), {})
                own[position.symbol] = (*own.get(position.symbol, ()), position)
        return held

    def _is_due(self, account: LiveAccount) -> bool:
        """Whether an account in which the books hold nothing is looked at in this round."""
        is_its_turn = self._rounds % MAX_BACKOFF_ROUNDS == 0
        return (
            is_its_turn
            or account.has_record
            or _account_key(account) in self._unread_accounts
            or bool(self._differences_of(account))
        )

    def _differences_of(self, account: LiveAccount) -> tuple[Difference, ...]:
        """Those that are known from the last round."""
        return tuple(each for key, each in self._known_differences.items() if key[:2] == _account_key(account))

    def _compare_account(
        self, account: LiveAccount, own: dict[str, tuple[Position, ...]], unavailable: UnavailableAccounts
    ) -> tuple[Difference, ...] | None:
        """Its open differences; None when it could not be read."""
        log = logger.bind(user=str(account.user_id), exchange=account.exchange)
        began_at = self._clock.monotonic()
        try:
            seen = self._looks.compare(
                account, own, {each.symbol for each in self._differences_of(account)}, self._rounds
            )
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if isinstance(error, DatabaseUnavailable):
                    raise
                unavailable.add(*_account_key(account))
            log.warning("reconciliation_failed", reason=str(error))
            return None
        except Exception:  # one account's fault is in no other's way
            log.exception("reconciliation_failed")
            return None
        if seen.is_unavailable:
            unavailable.add(*_account_key(account))
        age_s = self._clock.monotonic() - began_at
        return self._store.report_reconciliation(*_account_key(account), seen.nets, seen.reasons, seen.checked, age_s)

    def _log_changes(self, found: list[Difference]) -> None:
        """Transitions only: a new or changed difference, and one that is gone."""
        now = {(each.user_id, each.exchange, each.symbol): each for each in found}
        for key, each in now.items():
            if _quantities(self._known_differences.get(key)) != _quantities(each):
                fields = each.model_dump(mode="json", include={"exchange", "symbol", "booked", "at_venue", "reason"})
                logger.error("reconciliation_difference", user=str(each.user_id), **fields)
        for key in self._known_differences.keys() - now.keys():
            logger.info("reconciliation_difference_resolved", what=str(key))
        self._known_differences = now


def _account_key(account: LiveAccount) -> tuple[UUID, str]:
    return account.user_id, account.exchange


def _quantities(difference: Difference | None) -> tuple[Decimal, Decimal] | None:
    return None if difference is None else (difference.booked, difference.at_venue)
