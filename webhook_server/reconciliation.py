"""Compares the books with every venue's own record: what differs is said, counted and kept, never overwritten."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.errors import BadConfiguration, SparkyError
from engine.store.store import Store
from engine.store.webhook_rows import Difference, LiveAccount
from webhook_server.metrics import Metrics
from webhook_server.venues import Venues

logger = structlog.get_logger()

EVERY_S: Final = 300.0


class Reconciliation:
    def __init__(self, store: Store, venues: Venues, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._metrics = metrics
        self._known: dict[tuple[UUID, str, str], tuple[Decimal, Decimal]] = {}

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> tuple[Difference, ...]:
        """Looks at every account once; all open differences. An account that cannot be asked is logged and left out;
        what was compared before it no longer `goes_on` is kept, and told the next time.

        Raises UpstreamUnavailable when the database is away.
        """
        found: list[Difference] = []
        for account in self._store.live_accounts():
            if not goes_on():
                return tuple(found)
            nets = self._nets(account)
            if nets is not None:
                found += self._store.report_reconciliation(account.user_id, account.exchange, nets)
        self._metrics.differences.set(len(found))
        self._tell(found)
        return tuple(found)

    def _nets(self, account: LiveAccount) -> dict[str, Decimal] | None:
        """What the venue says that the account holds, by symbol."""
        try:
            credentials = self._store.venue_credentials(account.user_id, account.exchange)
            if credentials is None:
                raise BadConfiguration("there are live positions and no credentials")
            held = self._venues.live(account.exchange, credentials).positions()
        except SparkyError as error:
            logger.warning("not_reconciled", user=str(account.user_id), exchange=account.exchange, reason=str(error))
            return None
        return {each.symbol: each.net for each in held}

    def _tell(self, found: list[Difference]) -> None:
        """Transitions only: a new or changed difference, and one that is gone."""
        now = {(each.user_id, each.exchange, each.symbol): (each.booked, each.at_venue) for each in found}
        for each in found:
            key = (each.user_id, each.exchange, each.symbol)
            if self._known.get(key) != now[key]:
                told = each.model_dump(mode="json", include={"exchange", "symbol", "booked", "at_venue"})
                logger.error("books_differ", user=str(each.user_id), **told)
        for key in self._known.keys() - now.keys():
            logger.info("books_agree_again", what=str(key))
        self._known = now
