"""One look at one account: what the venue holds by symbol, and why it differs from the books where it does."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.domain import decimals
from engine.domain.positions import Position
from engine.platform.errors import BadConfiguration, SparkyError, UpstreamUnavailable
from engine.store.margin import MarginUpdate
from engine.store.store import Store
from engine.store.venue_record import sum_net_quantity
from engine.store.webhook_rows import LiveAccount
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.venue import LiveVenue, VenuePosition
from webhook_server.background.protective_exits import Exits
from webhook_server.reconciliation.open_order_cache import find_listed_instrument
from webhook_server.reconciliation.venue_changes import NOT_OURS, SymbolComparison, VenueChanges
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

UNUSED_EVERY: Final = 20  # rounds between two looks at what need not be looked at often
MOST_SILENT: Final = 2  # symbols for which a venue does not answer, before the account is left alone for the round
OWN_MS: Final = 2_000  # a change this soon after our own fill is that fill
NOT_ASKED: Final = "it was not looked into, since the venue does not answer"
Key = tuple[UUID, str, str]  # person, exchange, symbol
Difference = tuple[Decimal, Decimal]  # booked, at the venue


@dataclass
class Seen:
    """What one look at an account brought: net quantities by symbol, why some are not explained, and those `checked`
    against the books up to the fill of that number. `silent` counts symbols for which the venue did not answer."""

    nets: dict[str, Decimal] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    silent: int = 0

    @property
    def is_away(self) -> bool:
        return self.silent >= MOST_SILENT


class Retries:
    """When a difference that nothing explained is looked into again: soon at first, since a record may lag, then
    seldom, since reading one weighs much; and at once when it has become another one."""

    def __init__(self) -> None:
        self._failed: dict[Key, tuple[Difference, int, int]] = {}

    def is_due(self, key: Key, difference: Difference, now_round: int) -> bool:
        known, count, last_round = self._failed.get(key, (None, 0, 0))
        return known != difference or now_round - last_round >= min(2 ** max(0, count - 3), UNUSED_EVERY)

    def note(self, key: Key, difference: Difference, now_round: int) -> None:
        known, count, _ = self._failed.get(key, (None, 0, 0))
        self._failed[key] = (difference, count + 1 if known == difference else 1, now_round)

    def forget(self, key: Key) -> None:
        self._failed.pop(key, None)


class AccountLooks:
    """Remembers of earlier rounds what need not be read again."""

    def __init__(self, store: Store, venues: Venues, changes: VenueChanges, exits: Exits) -> None:
        self._store = store
        self._venues = venues
        self._changes = changes
        self._exits = exits
        self._changed_ms: dict[Key, int] = {}
        self._fired: set[Key] = set()  # where a protective order stayed unbooked at the last look
        self._retries = Retries()

    def look(
        self,
        account: LiveAccount,
        own: Mapping[str, tuple[Position, ...]],
        differing: Collection[str],
        now_round: int,
    ) -> Seen:
        """Books what explains that the account holds something else than `own`, symbol by symbol; one that cannot be
        read hides no other. Its questions leave room for orders. Raises what the list of positions and the store raise.
        """
        with low_priority():
            venue = self._account(account)
            there = {each.symbol: each for each in venue.fetch_positions()}
            self._note_liquidation_prices(own, there)
            seen = Seen({symbol: each.net for symbol, each in there.items()})
            seen.reasons |= dict.fromkeys(there.keys() - own.keys(), NOT_OURS)
            for symbol in sorted(own.keys() | set(differing)):
                key = (account.user_id, account.exchange, symbol)
                sides = (sum_net_quantity(own.get(symbol, ())), seen.nets.get(symbol, Decimal(0)))
                is_due = sides[0] != sides[1] and self._retries.is_due(key, sides, now_round)
                is_gone = find_listed_instrument(venue, symbol) is None
                if (is_due or is_gone or self._has_changed(key, there.get(symbol))) and not self._is_left(
                    symbol, differing, seen
                ):
                    self._look_into(key, venue, seen, sides, now_round, differing)
            return seen

    def _note_liquidation_prices(
        self, own: Mapping[str, tuple[Position, ...]], there: Mapping[str, VenuePosition]
    ) -> None:
        """As the venue tells it of the account's net, for the positions on its side."""
        told = [(held, there.get(symbol)) for symbol, positions in own.items() for held in positions]
        prices = {
            held.id: net.liquidation_price if net is not None and net.side is held.side else None for held, net in told
        }
        self._store.update_margins(
            MarginUpdate(position_id=held.id, liquidation_price=prices[held.id], notes_price=True)
            for held, _ in told
            if prices[held.id] != held.liquidation_price
        )

    def _account(self, account: LiveAccount) -> LiveVenue:
        credentials = self._store.get_venue_credentials(account.user_id, account.exchange)
        if credentials is None:
            raise BadConfiguration("there are live positions and no credentials")
        return self._venues.live(account.exchange, credentials)

    def _is_left(self, symbol: str, differing: Collection[str], seen: Seen) -> bool:
        """Whether nothing more is asked; a difference that is known keeps its reason."""
        if seen.is_away and symbol not in differing:
            seen.reasons[symbol] = NOT_ASKED
        return seen.is_away

    def _has_changed(self, key: Key, position: VenuePosition | None) -> bool:
        """Whether the venue has changed the position since its record was read, and that is not what our own newest
        fill did: it may have been closed and opened again."""
        if position is None or position.changed_ms in {0, self._changed_ms.get(key)}:
            return False
        facts = self._store.get_symbol_facts(*key)
        if position.changed_ms > max(facts.last_fill_ms, facts.read_ms) + OWN_MS:
            return True
        self._changed_ms[key] = position.changed_ms
        return False

    def _look_into(
        self, key: Key, venue: LiveVenue, seen: Seen, sides: Difference, now_round: int, differing: Collection[str]
    ) -> None:
        symbol = key[2]
        try:
            look = self._settled(key, venue)
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if error.service == "database":
                    raise
                seen.silent += 1
            seen.reasons[symbol] = str(error)
        except Exception as error:  # one symbol's fault is in no other's way
            logger.exception("symbol_not_reconciled", user=str(key[0]), exchange=key[1], symbol=symbol)
            seen.reasons[symbol] = f"it could not be compared: {type(error).__name__}"
        else:
            self._note(key, look, seen, now_round, is_known=symbol in differing)
            return
        self._retries.note(key, sides, now_round)

    def _settled(self, key: Key, venue: LiveVenue) -> SymbolComparison:
        """Books what the record explains, and what protective orders have done unseen."""
        look = self._changes.reconcile(*key, venue, rereads=True, is_regular=True)
        if look.fired:
            with low_priority(is_low=False):
                for position, reason in look.fired:
                    self._exits.exit(position, reason)
            look = self._changes.reconcile(*key, venue, rereads=True, is_regular=True)
        return look

    def _note(self, key: Key, look: SymbolComparison, seen: Seen, now_round: int, *, is_known: bool) -> None:
        symbol, outside_net = key[2], look.facts.outside_net
        lasts = bool(look.fired) and key in self._fired
        (self._fired.add if look.fired else self._fired.discard)(key)
        if look.is_transient and not lasts:  # the next look will tell; a difference that is known stays one
            if not is_known:
                seen.nets[symbol] = decimals.total((look.facts.net, outside_net))
            return
        seen.nets[symbol] = decimals.total((look.net, outside_net))
        seen.checked[symbol] = look.facts.last_fill_id
        self._changed_ms[key] = look.changed_ms
        if look.reason is None:
            self._retries.forget(key)
            return
        seen.reasons[symbol] = look.reason
        self._retries.note(key, (look.facts.net, seen.nets[symbol]), now_round)
