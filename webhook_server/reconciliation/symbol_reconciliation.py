"""Reconciles one symbol of an account: books what happened at the venue without us, as far as its record explains it.

An order typed on the venue's page, a liquidation, an automatic deleveraging: the books follow, whole positions and
parts, at the record's prices and fees. What the record does not explain stays a difference, with the reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.domain import decimals
from engine.domain.errors import StrategyFault
from engine.domain.positions import Position
from engine.store.store import Store
from engine.store.venue_record import RecordProgress, SymbolFacts
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.orders import is_own_order_id, is_protective_order_id
from engine.venues.venue import LiveVenue
from webhook_server.metrics import Metrics
from webhook_server.protection.position_protection import (
    STOP_LOSS_REASON,
    TAKE_PROFIT_REASON,
    find_fired_reason,
    is_unbooked_exit,
    protective_order_ids,
)
from webhook_server.reconciliation.attribution import AttributedExit, Attribution, attribute_trades
from webhook_server.reconciliation.delisting import DelistedReconciler
from webhook_server.reconciliation.open_order_cache import find_listed_instrument, is_delisted
from webhook_server.reconciliation.outside_exits import build_outside_exit
from webhook_server.reconciliation.outside_record import OutsideRecord, distribute_costs, fetch_outside_record
from webhook_server.reconciliation.symbol_comparison import (
    BOOKS_CHANGED,
    FIRED,
    IN_PROGRESS,
    NOT_OURS,
    SymbolComparison,
    SymbolKey,
    has_other_requests,
)

logger = structlog.get_logger()

MAX_ATTEMPTS: Final = 3  # of booking, each with newly read books


class SymbolReconciler:
    """Safe to call from any thread: what is booked is checked against the books in the transaction that books it."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._delisted = DelistedReconciler(store, metrics)

    def reconcile(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        account: LiveVenue,
        request_id: str | None = None,
        *,
        rereads: bool = False,
        is_regular: bool = False,
    ) -> SymbolComparison:
        """Compares books and venue, books what the record explains, and returns the comparison after that.

        `request_id` is the caller's own request, which is under way. `rereads` reads the record also where both agree:
        a position may have been closed and opened again. `is_regular` marks the periodic comparisons, which count how
        long a symbol has been delisted without a settlement. Raises what the account and the store raise.
        """
        key = (user_id, exchange, symbol)
        if find_listed_instrument(account, symbol) is None:
            return self._delisted.reconcile(key, account, request_id, is_regular=is_regular)
        try:
            comparison = self._reconcile_listed(key, account, request_id, rereads=rereads)
        except StrategyFault:
            if not is_delisted(account, symbol):
                raise
            return self._delisted.reconcile(key, account, request_id, is_regular=is_regular)
        is_unexplained = comparison.reason is not None and not comparison.is_transient
        is_flat_at_venue = comparison.net + comparison.facts.outside_net == 0
        # The cached list of instruments may be older than a delisting, which looks like an exit that no trade explains.
        if is_unexplained and is_flat_at_venue and is_delisted(account, symbol):
            return self._delisted.reconcile(key, account, request_id, is_regular=is_regular)
        return comparison

    def _reconcile_listed(
        self, key: SymbolKey, account: LiveVenue, request_id: str | None, *, rereads: bool
    ) -> SymbolComparison:
        user_id, exchange, symbol = key
        for _ in range(MAX_ATTEMPTS):
            comparison = self._compare(key, account, request_id)
            is_equal = comparison.facts.net == comparison.net
            if comparison.reason is not None or (is_equal and not (rereads and comparison.facts.positions)):
                return comparison
            explanation = self._explain(account, symbol, comparison)
            if isinstance(explanation, SymbolComparison):
                return explanation if explanation.fired else self._recheck_books(explanation, request_id, key)
            attribution, record = explanation
            # Before the booking: a crash between the two must leave no order that no position knows.
            fired = _cancel_protection(account, attribution)
            if fired:
                return replace(comparison, reason=FIRED, fired=fired)
            exits = [build_outside_exit(exchange, part) for part in attribution.exits]
            if self._store.book_outside_exits(user_id, exchange, symbol, request_id, comparison.facts, exits, record):
                self._log_exits(symbol, attribution.exits)
                after = replace(comparison, facts=self._store.get_symbol_facts(*key))
                return self._absorb_dust(_check_remainder(after, attribution, request_id), key)
        return replace(comparison, reason=BOOKS_CHANGED)

    def _absorb_dust(self, comparison: SymbolComparison, key: SymbolKey) -> SymbolComparison:
        """Takes the gap from the dust that is noted as held outside Sparky, where the person has traded that dust.

        Returns `comparison` without a reason then, else unchanged.
        """
        gap = decimals.total((comparison.net, comparison.facts.net.copy_negate()))
        if gap == 0 or comparison.is_transient or not self._store.reduce_outside_dust(*key, gap):
            return comparison
        return replace(comparison, facts=self._store.get_symbol_facts(*key), net=comparison.facts.net, reason=None)

    def _compare(self, key: SymbolKey, account: LiveVenue, request_id: str | None) -> SymbolComparison:
        """Reads the books before and after the venue's position, so that both sides belong to one moment."""
        before = self._store.get_symbol_facts(*key)
        if has_other_requests(before, request_id):
            return SymbolComparison(before, before.net, IN_PROGRESS)
        symbol = key[2]
        held = next((position for position in account.fetch_positions(symbol) if position.symbol == symbol), None)
        after = self._store.get_symbol_facts(*key)
        net = Decimal(0) if held is None else held.net
        comparison = SymbolComparison(
            after,
            decimals.total((net, after.outside_net.copy_negate())),
            changed_ms=0 if held is None else held.changed_ms,
        )
        has_changed = _has_changed(after, before.last_fill_id, request_id)
        return replace(comparison, reason=BOOKS_CHANGED) if has_changed else comparison

    def _recheck_books(self, comparison: SymbolComparison, request_id: str | None, key: SymbolKey) -> SymbolComparison:
        """`comparison`, or BOOKS_CHANGED where something was traded while the record was read: an order of ours that
        the books did not know then may only have been under way."""
        facts = self._store.get_symbol_facts(*key)
        has_changed = _has_changed(facts, comparison.facts.last_fill_id, request_id)
        return replace(comparison, facts=facts, reason=BOOKS_CHANGED) if has_changed else comparison

    def _explain(
        self, account: LiveVenue, symbol: str, comparison: SymbolComparison
    ) -> tuple[Attribution, RecordProgress] | SymbolComparison:
        """What the venue's record makes of the difference; a comparison with the reason where it does not explain it.

        The order of checks is from what is cheap and certain to the account's trades, whose requests weigh most.
        """
        facts = comparison.facts
        fired = _find_fired(account, facts.positions)
        if fired:
            return replace(comparison, reason=FIRED, fired=fired)
        if facts.first_ms is None and not facts.last_trade_id:
            return replace(comparison, reason=NOT_OURS)
        record = fetch_outside_record(account, symbol, facts, differs=facts.net != comparison.net)
        own_order_id = _find_unbooked_own_order(record, facts.positions)
        if own_order_id is not None:
            return replace(comparison, reason=f"order {own_order_id} is one of ours, and not in the books")
        lot, explained_net = account.fetch_instrument(symbol).lot, Decimal(0)
        for trades in record.candidate_trades:
            attribution = attribute_trades(facts.positions, trades, facts.unbooked_net, lot)
            explained_net = decimals.total((attribution.net, attribution.unbooked_net, facts.outside_net.copy_negate()))
            if explained_net == comparison.net:
                return distribute_costs(attribution, trades, record.costs_usd), RecordProgress(
                    last_trade_id=record.last_trade_id,
                    unbooked_net=attribution.unbooked_net,
                    cost_ids=record.cost_ids,
                    read_ms=max(record.read_ms, comparison.changed_ms),
                )
        reason = f"by its record the account should hold {explained_net:f}, and it holds {comparison.net:f}"
        return replace(comparison, reason=reason)

    def _log_exits(self, symbol: str, exits: Iterable[AttributedExit]) -> None:
        for part in exits:
            self._metrics.outside_exits.labels(part.reason).inc()
            logger.warning(
                "position_ended_at_venue",
                symbol=symbol,
                position=str(part.position.id),
                reason=part.reason,
                quantity=str(part.quantity),
                price=str(part.price),
                order=part.order_id,
            )


def _has_changed(facts: SymbolFacts, last_fill_id: int, request_id: str | None) -> bool:
    """Whether a fill after `last_fill_id` is booked, or a request other than `request_id` is under way."""
    return facts.last_fill_id != last_fill_id or has_other_requests(facts, request_id)


def _check_remainder(
    comparison: SymbolComparison, attribution: Attribution, request_id: str | None
) -> SymbolComparison:
    """Compares again once `attribution` is booked: the remainder was traded by others, or the books have gone on."""
    if comparison.facts.net == comparison.net:
        return comparison
    if comparison.facts.net != attribution.net or has_other_requests(comparison.facts, request_id):
        return replace(comparison, reason=BOOKS_CHANGED)
    others = f"{attribution.unbooked_net:f} was traded at the venue by others than Sparky"
    return replace(comparison, reason=f"{others}, and is nobody's in the books")


def _find_fired(account: LiveVenue, positions: Sequence[Position]) -> tuple[tuple[Position, str], ...]:
    reasons = ((position, find_fired_reason(account, position, {})) for position in positions)
    return tuple((position, reason) for position, reason in reasons if reason is not None)


def _cancel_protection(account: LiveVenue, attribution: Attribution) -> tuple[tuple[Position, str], ...]:
    """Cancels the protective orders of positions that ended wholly or in part.

    Returns the positions whose order turns out to have filled, with the exit reason. `ProtectionWatchdog` protects
    anew what is left of the others.
    """
    fired = []
    with low_priority(is_low=False):  # an order that should be gone can fill at any moment
        for position in {part.position.id: part.position for part in attribution.exits}.values():
            for reason, name in zip(
                (STOP_LOSS_REASON, TAKE_PROFIT_REASON), protective_order_ids(position), strict=True
            ):
                cancelled = None if name is None else account.cancel_order(position.symbol, name)
                if is_unbooked_exit(cancelled, position):
                    fired.append((position, reason))
    return tuple(fired)


def _find_unbooked_own_order(record: OutsideRecord, positions: Iterable[Position]) -> str | None:
    """The client order id of an order that is ours by its name, though the books do not know it; None without one.

    A protective order of a position that ended earlier does not count: no request asked for its trades, so they are
    attributed like those of others.
    """
    protective_ids = {name for position in positions for name in protective_order_ids(position)}
    for order_id in dict.fromkeys(outside.trade.order_id for outside in record.trades):
        name = record.client_order_ids.get(order_id) or ""
        if is_own_order_id(name) and not (is_protective_order_id(name) and name not in protective_ids):
            return name
    return None
