"""Compares the books with every venue's own record: what that explains is booked, what differs still is kept and told.

Every account in which the books hold something is looked at often, the others now and then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.errors import BadConfiguration, SparkyError, UpstreamUnavailable
from engine.exchanges.venue import Account, VenuePosition
from engine.store.store import Store
from engine.store.venue_rows import net_of
from engine.store.webhook_rows import Difference, LiveAccount
from engine.types import Position
from webhook_server.exits import Exits
from webhook_server.metrics import Metrics
from webhook_server.venue_changes import NOT_OURS, Look, VenueChanges
from webhook_server.venues import Venues

logger = structlog.get_logger()

EVERY_S: Final = 15.0
UNUSED_EVERY: Final = 20  # rounds between two looks at an account of which the books hold nothing
Key = tuple[UUID, str, str]  # person, exchange, symbol


@dataclass
class _Seen:
    """What one look at an account brought: net quantities by symbol, why some are not explained, and which were
    `checked` against books that did not change meanwhile."""

    nets: dict[str, Decimal] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)


class _Retries:
    """When a difference that nothing explained is looked into again: soon at first, since a record may lag, then
    seldom, since reading one weighs much; and at once when it has become another one."""

    def __init__(self) -> None:
        self._failed: dict[Key, tuple[tuple[Decimal, Decimal], int, int]] = {}

    def is_due(self, key: Key, difference: tuple[Decimal, Decimal], now_round: int) -> bool:
        known, count, last_round = self._failed.get(key, (None, 0, 0))
        return known != difference or now_round - last_round >= min(2 ** max(0, count - 3), UNUSED_EVERY)

    def note(self, key: Key, difference: tuple[Decimal, Decimal], now_round: int) -> None:
        known, count, _ = self._failed.get(key, (None, 0, 0))
        self._failed[key] = (difference, count + 1 if known == difference else 1, now_round)

    def forget(self, key: Key) -> None:
        self._failed.pop(key, None)


class Reconciliation:
    def __init__(self, store: Store, venues: Venues, changes: VenueChanges, exits: Exits, metrics: Metrics) -> None:
        self._store = store
        self._venues = venues
        self._changes = changes
        self._exits = exits
        self._metrics = metrics
        self._known: dict[Key, tuple[Decimal, Decimal]] = {}
        self._changed_ms: dict[Key, int] = {}
        self._fired: set[Key] = set()  # where a protective order stayed unbooked at the last look
        self._retries = _Retries()
        self._rounds = -1

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> tuple[Difference, ...]:
        """Looks at every account once; all open differences. An account that cannot be asked is logged and left out;
        what was compared before it no longer `goes_on` is kept, and told the next time.

        Raises UpstreamUnavailable when the database is away.
        """
        self._rounds += 1
        found: list[Difference] = []
        held = self._held()
        for account in self._store.live_accounts():
            if not goes_on():
                return tuple(found)
            own = held.get((account.user_id, account.exchange), {})
            is_used = bool(own) or account.has_record or self._has_difference(account)
            if is_used or self._rounds % UNUSED_EVERY == 0:
                found += self._looked_at(account, own)
        self._metrics.differences.set(len(found))
        self._tell(found)
        return tuple(found)

    def _held(self) -> dict[tuple[UUID, str], dict[str, tuple[Position, ...]]]:
        """Live positions by account and symbol."""
        held: dict[tuple[UUID, str], dict[str, tuple[Position, ...]]] = {}
        for position in self._store.open_positions():
            if not position.is_paper:
                own = held.setdefault((position.user_id, position.exchange), {})
                own[position.symbol] = (*own.get(position.symbol, ()), position)
        return held

    def _has_difference(self, account: LiveAccount) -> bool:
        return any(key[:2] == (account.user_id, account.exchange) for key in self._known)

    def _looked_at(self, account: LiveAccount, own: Mapping[str, tuple[Position, ...]]) -> tuple[Difference, ...]:
        try:
            seen = self._seen(account, own)
        except UpstreamUnavailable as error:
            if error.service == "database":
                raise
            self._not_reconciled(account, error)
            return ()
        except SparkyError as error:
            self._not_reconciled(account, error)
            return ()
        return self._store.report_reconciliation(
            account.user_id, account.exchange, seen.nets, seen.reasons, seen.checked
        )

    def _not_reconciled(self, account: LiveAccount, error: SparkyError) -> None:
        logger.warning("not_reconciled", user=str(account.user_id), exchange=account.exchange, reason=str(error))

    def _seen(self, account: LiveAccount, own: Mapping[str, tuple[Position, ...]]) -> _Seen:
        credentials = self._store.venue_credentials(account.user_id, account.exchange)
        if credentials is None:
            raise BadConfiguration("there are live positions and no credentials")
        venue = self._venues.live(account.exchange, credentials)
        there = {each.symbol: each for each in venue.positions()}
        seen = _Seen({symbol: each.net for symbol, each in there.items()})
        seen.reasons |= dict.fromkeys(there.keys() - own.keys(), NOT_OURS)
        for symbol in own.keys() | self._differing(account):
            key = (account.user_id, account.exchange, symbol)
            sides = (net_of(own.get(symbol, ())), seen.nets.get(symbol, Decimal(0)))
            differs = sides[0] != sides[1] and self._retries.is_due(key, sides, self._rounds)
            if differs or self._has_changed(key, there.get(symbol)):
                self._settle(account, symbol, venue, seen)
        return seen

    def _differing(self, account: LiveAccount) -> set[str]:
        return {key[2] for key in self._known if key[:2] == (account.user_id, account.exchange)}

    def _has_changed(self, key: Key, position: VenuePosition | None) -> bool:
        """Whether the venue has changed the position since the last look: it may have been closed and opened again."""
        return position is not None and position.changed_ms not in {0, self._changed_ms.get(key)}

    def _settle(self, account: LiveAccount, symbol: str, venue: Account, seen: _Seen) -> None:
        """Books what the record explains, and what protective orders have done unseen."""
        key = (account.user_id, account.exchange, symbol)
        look = self._changes.settle(*key, venue, rereads=True)
        if look.fired:
            for position, reason in look.fired:
                self._exits.exit(position, reason)
            look = self._changes.settle(*key, venue, rereads=True)
        self._note(key, symbol, venue, look, seen)

    def _note(self, key: Key, symbol: str, venue: Account, look: Look, seen: _Seen) -> None:
        lasts = bool(look.fired) and key in self._fired
        (self._fired.add if look.fired else self._fired.discard)(key)
        if look.is_passing and not lasts:  # as if both agreed: the next look will tell
            seen.nets[symbol] = look.facts.net + look.facts.outside_net
            return
        seen.nets[symbol] = look.net + look.facts.outside_net
        seen.checked.add(symbol)
        if look.reason is not None:
            seen.reasons[symbol] = look.reason
            self._retries.note(key, (look.facts.net, seen.nets[symbol]), self._rounds)
        else:
            self._retries.forget(key)
        position = next((each for each in venue.positions(symbol) if each.symbol == symbol), None)
        self._changed_ms[key] = 0 if position is None else position.changed_ms

    def _tell(self, found: list[Difference]) -> None:
        """Transitions only: a new or changed difference, and one that is gone."""
        now = {(each.user_id, each.exchange, each.symbol): (each.booked, each.at_venue) for each in found}
        for each in found:
            key = (each.user_id, each.exchange, each.symbol)
            if self._known.get(key) != now[key]:
                told = each.model_dump(mode="json", include={"exchange", "symbol", "booked", "at_venue", "reason"})
                logger.error("books_differ", user=str(each.user_id), **told)
        for key in self._known.keys() - now.keys():
            logger.info("books_agree_again", what=str(key))
        self._known = now
