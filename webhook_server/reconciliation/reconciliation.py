"""Compares the books with every venue's own record: what that explains is booked, what differs still is kept and told.

Every account in which the books hold something is looked at often, the others now and then.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.domain.positions import Position
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import Difference, LiveAccount
from webhook_server.background.protective_exits import Exits
from webhook_server.clock import Clock
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.account_comparison import UNUSED_EVERY, AccountLooks, Key
from webhook_server.reconciliation.late_costs import LateCosts
from webhook_server.reconciliation.unavailable_accounts import Away
from webhook_server.reconciliation.venue_changes import VenueChanges
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

EVERY_S: Final = 15.0
Held = dict[tuple[UUID, str], dict[str, tuple[Position, ...]]]  # live positions by account and symbol


class Reconciliation:
    def __init__(
        self, store: Store, venues: Venues, changes: VenueChanges, exits: Exits, clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._looks = AccountLooks(store, venues, changes, exits)
        self._costs = LateCosts(store, venues)
        self._clock = clock
        self._metrics = metrics
        self._known: dict[Key, Difference] = {}
        self._unread: set[tuple[UUID, str]] = set()
        self._rounds = -1

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> tuple[Difference, ...]:
        """Looks at every account once; all open differences. Of an account that could not be read the differences stay
        as they were known, and it comes last the next time, since its silence may last. What was compared before it no
        longer `goes_on` is kept, and told the next time.

        Raises UpstreamUnavailable when the database is away.
        """
        self._rounds += 1
        found: list[Difference] = []
        away, unread, held = Away(), set(), self._held()
        for account in sorted(self._store.live_accounts(), key=lambda each: _name(each) in self._unread):
            if not goes_on():
                return tuple(found)
            own = held.get(_name(account), {})
            if not own and not self._is_due(account):
                continue
            told = None if away.covers(*_name(account)) else self._looked_at(account, own, away)
            if told is None:
                unread.add(_name(account))
            found += self._differences(account) if told is None else told
        self._unread = unread
        self._metrics.differences.set(len(found))
        self._tell(found)
        self._costs.run(away, goes_on)
        return tuple(found)

    def _held(self) -> Held:
        held: Held = {}
        for position in self._store.open_positions():
            if not position.is_paper:
                own = held.setdefault((position.user_id, position.exchange), {})
                own[position.symbol] = (*own.get(position.symbol, ()), position)
        return held

    def _is_due(self, account: LiveAccount) -> bool:
        """Whether an account in which the books hold nothing is looked at in this round."""
        is_its_turn = self._rounds % UNUSED_EVERY == 0
        return is_its_turn or account.has_record or _name(account) in self._unread or bool(self._differences(account))

    def _differences(self, account: LiveAccount) -> tuple[Difference, ...]:
        """Those that are known from the last round."""
        return tuple(each for key, each in self._known.items() if key[:2] == _name(account))

    def _looked_at(
        self, account: LiveAccount, own: dict[str, tuple[Position, ...]], away: Away
    ) -> tuple[Difference, ...] | None:
        """Its open differences; None when it could not be read."""
        log = logger.bind(user=str(account.user_id), exchange=account.exchange)
        began_at = self._clock.monotonic()
        try:
            seen = self._looks.look(account, own, {each.symbol for each in self._differences(account)}, self._rounds)
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if error.service == "database":
                    raise
                away.add(*_name(account))
            log.warning("not_reconciled", reason=str(error))
            return None
        except Exception:  # one account's fault is in no other's way
            log.exception("not_reconciled")
            return None
        if seen.is_away:
            away.add(*_name(account))
        age_s = self._clock.monotonic() - began_at
        return self._store.report_reconciliation(*_name(account), seen.nets, seen.reasons, seen.checked, age_s)

    def _tell(self, found: list[Difference]) -> None:
        """Transitions only: a new or changed difference, and one that is gone."""
        now = {(each.user_id, each.exchange, each.symbol): each for each in found}
        for key, each in now.items():
            if _sides(self._known.get(key)) != _sides(each):
                told = each.model_dump(mode="json", include={"exchange", "symbol", "booked", "at_venue", "reason"})
                logger.error("books_differ", user=str(each.user_id), **told)
        for key in self._known.keys() - now.keys():
            logger.info("books_agree_again", what=str(key))
        self._known = now


def _name(account: LiveAccount) -> tuple[UUID, str]:
    return account.user_id, account.exchange


def _sides(difference: Difference | None) -> tuple[Decimal, Decimal] | None:
    return None if difference is None else (difference.booked, difference.at_venue)
