"""Compares one account with the books, symbol by symbol, and books what the venue's record explains."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import structlog

from engine.domain import decimals
from engine.domain.positions import Position
from engine.platform.errors import ConfigurationError, DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.store.margin import MarginUpdate
from engine.store.store import Store
from engine.store.venue_record import sum_net_quantity
from engine.store.webhook_rows import LiveAccount
from engine.venues.account_state import VenuePosition
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.venue import LiveVenue
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.reconciliation.open_order_cache import find_listed_instrument
from webhook_server.reconciliation.symbol_comparison import NOT_OURS, SymbolComparison, SymbolKey
from webhook_server.reconciliation.symbol_reconciliation import SymbolReconciler
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

MAX_BACKOFF_ROUNDS: Final = 20  # between two comparisons of what need not be compared often
MAX_UNANSWERED: Final = 2  # symbols for which a venue does not answer before the account is skipped for the round
OWN_FILL_TOLERANCE_MS: Final = 2_000  # a change this soon after our own fill is that fill
NOT_CHECKED: Final = "it was not looked into, since the venue does not answer"
Quantities = tuple[Decimal, Decimal]  # signed net: in the books, at the venue


@dataclass
class AccountComparison:
    """The result for one account, by symbol: the venue's `nets`, `reasons` of unexplained differences, and in `checked`
    the number of the last booked fill that was compared. `unanswered` counts symbols without an answer of the venue."""

    nets: dict[str, Decimal] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0

    @property
    def is_unavailable(self) -> bool:
        return self.unanswered >= MAX_UNANSWERED


class DifferenceBackoff:
    """When an unexplained difference is compared again: in each of the next three rounds, since a record may lag, then
    after 2, 4, 8, 16 and every 20 rounds, since reading a record weighs much; at once when the quantities change."""

    def __init__(self) -> None:
        self._failed: dict[SymbolKey, tuple[Quantities, int, int]] = {}  # quantities, failures, last round

    def is_due(self, key: SymbolKey, quantities: Quantities, now_round: int) -> bool:
        last, count, last_round = self._failed.get(key, (None, 0, 0))
        return last != quantities or now_round - last_round >= min(2 ** max(0, count - 3), MAX_BACKOFF_ROUNDS)

    def record_failure(self, key: SymbolKey, quantities: Quantities, now_round: int) -> None:
        last, count, _ = self._failed.get(key, (None, 0, 0))
        self._failed[key] = (quantities, count + 1 if last == quantities else 1, now_round)

    def forget(self, key: SymbolKey) -> None:
        self._failed.pop(key, None)


class AccountComparer:
    """Compares accounts round by round, and remembers which symbols need not be read again."""

    def __init__(self, store: Store, venues: Venues, reconciler: SymbolReconciler, exits: ProtectiveExits) -> None:
        self._store = store
        self._venues = venues
        self._reconciler = reconciler
        self._exits = exits
        self._changed_ms: dict[SymbolKey, int] = {}
        self._unbooked_exits: set[SymbolKey] = set()  # where a filled protective order stayed unbooked last time
        self._backoff = DifferenceBackoff()

    def compare(
        self,
        account: LiveAccount,
        own: Mapping[str, tuple[Position, ...]],
        differing: Collection[str],
        now_round: int,
    ) -> AccountComparison:
        """Compares the account with `own`, its positions in the books by symbol, and books what explains differences.

        `differing` are symbols with a known open difference. A symbol that cannot be read hides no other. Raises what
        the venue's list of positions and the store raise.
        """
        with low_priority():  # orders go first within the venue's request limit
            venue = self._open_account(account)
            at_venue = {position.symbol: position for position in venue.fetch_positions()}
            self._store_liquidation_prices(own, at_venue)
            comparison = AccountComparison({symbol: position.net for symbol, position in at_venue.items()})
            comparison.reasons |= dict.fromkeys(at_venue.keys() - own.keys(), NOT_OURS)
            for symbol in sorted(own.keys() | set(differing)):
                key = (account.user_id, account.exchange, symbol)
                quantities = (sum_net_quantity(own.get(symbol, ())), comparison.nets.get(symbol, Decimal(0)))
                is_due = quantities[0] != quantities[1] and self._backoff.is_due(key, quantities, now_round)
                is_gone = find_listed_instrument(venue, symbol) is None
                if (is_due or is_gone or self._has_changed(key, at_venue.get(symbol))) and not self._should_skip(
                    symbol, differing, comparison
                ):
                    self._compare_symbol(key, venue, comparison, quantities, now_round, differing)
            return comparison

    def _store_liquidation_prices(
        self, own: Mapping[str, tuple[Position, ...]], at_venue: Mapping[str, VenuePosition]
    ) -> None:
        """Copies the liquidation price of the account's net position to the booked positions on the same side."""
        pairs = [(held, at_venue.get(symbol)) for symbol, positions in own.items() for held in positions]
        prices = {
            held.id: net.liquidation_price if net is not None and net.side is held.side else None for held, net in pairs
        }
        self._store.update_margins(
            MarginUpdate(position_id=held.id, liquidation_price=prices[held.id], updates_price=True)
            for held, _ in pairs
            if prices[held.id] != held.liquidation_price
        )

    def _open_account(self, account: LiveAccount) -> LiveVenue:
        credentials = self._store.get_venue_credentials(account.user_id, account.exchange)
        if credentials is None:
            raise ConfigurationError("there are live positions and no credentials")
        return self._venues.live(account.exchange, credentials)

    def _should_skip(self, symbol: str, differing: Collection[str], comparison: AccountComparison) -> bool:
        """Whether the venue has failed too often in this round to be asked; a known difference keeps its reason."""
        if comparison.is_unavailable and symbol not in differing:
            comparison.reasons[symbol] = NOT_CHECKED
        return comparison.is_unavailable

    def _has_changed(self, key: SymbolKey, position: VenuePosition | None) -> bool:
        """Whether the venue has changed the position since its record was read, other than by our own newest fill. An
        equal quantity proves nothing: the position may have been closed and opened again."""
        if position is None or position.changed_ms in {0, self._changed_ms.get(key)}:
            return False
        facts = self._store.get_symbol_facts(*key)
        if position.changed_ms > max(facts.last_fill_ms, facts.read_ms) + OWN_FILL_TOLERANCE_MS:
            return True
        self._changed_ms[key] = position.changed_ms
        return False

    def _compare_symbol(
        self,
        key: SymbolKey,
        venue: LiveVenue,
        comparison: AccountComparison,
        quantities: Quantities,
        now_round: int,
        differing: Collection[str],
    ) -> None:
        symbol = key[2]
        try:
            result = self._reconcile_symbol(key, venue)
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if isinstance(error, DatabaseUnavailable):
                    raise  # no other symbol could be booked either
                comparison.unanswered += 1
            comparison.reasons[symbol] = str(error)
        except Exception as error:  # a fault in one symbol must not keep the others from being compared
            logger.exception("symbol_reconciliation_failed", user=str(key[0]), exchange=key[1], symbol=symbol)
            comparison.reasons[symbol] = f"it could not be compared: {type(error).__name__}"
        else:
            self._record_result(key, result, comparison, now_round, is_known=symbol in differing)
            return
        self._backoff.record_failure(key, quantities, now_round)

    def _reconcile_symbol(self, key: SymbolKey, venue: LiveVenue) -> SymbolComparison:
        """Books fills of protective orders that are not booked yet, then what the record explains."""
        result = self._reconciler.reconcile(*key, venue, rereads=True, is_regular=True)
        if result.fired:
            with low_priority(is_low=False):  # an exit must not wait for the weight that comparisons leave to orders
                for position, reason in result.fired:
                    self._exits.exit(position, reason)
            result = self._reconciler.reconcile(*key, venue, rereads=True, is_regular=True)
        return result

    def _record_result(
        self, key: SymbolKey, result: SymbolComparison, comparison: AccountComparison, now_round: int, *, is_known: bool
    ) -> None:
        symbol, outside_net = key[2], result.facts.outside_net
        # A filled order that stays unbooked over two rounds cannot be booked, so it is shown as a difference.
        persists = bool(result.fired) and key in self._unbooked_exits
        (self._unbooked_exits.add if result.fired else self._unbooked_exits.discard)(key)
        if result.is_transient and not persists:  # left to the next round, without a new difference or the end of one
            if not is_known:
                comparison.nets[symbol] = decimals.total((result.facts.net, outside_net))
            return
        comparison.nets[symbol] = decimals.total((result.net, outside_net))
        comparison.checked[symbol] = result.facts.last_fill_id
        self._changed_ms[key] = result.changed_ms
        if result.reason is None:
            self._backoff.forget(key)
            return
        comparison.reasons[symbol] = result.reason
        self._backoff.record_failure(key, (result.facts.net, comparison.nets[symbol]), now_round)
