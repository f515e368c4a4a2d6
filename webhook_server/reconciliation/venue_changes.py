"""Books what happened to an account at its venue without us, as far as the account's own record explains it.

A hand on the venue's page, a liquidation, an automatic deleveraging: the books follow, whole positions and parts, at
the record's prices and fees. What the record does not explain is left as a difference, with the reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from webhook_server.execution.position_protection import (
    STOP_LOSS_REASON,
    TAKE_PROFIT_REASON,
    find_fired_reason,
    is_unbooked_exit,
    protective_order_ids,
)
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.attribution import AttributedExit, Attribution, attribute_trades
from webhook_server.reconciliation.delisting import (
    build_settlement_exits,
    fetch_settlements,
    find_successor_symbol,
    settle_by_trades,
)
from webhook_server.reconciliation.open_order_cache import find_listed_instrument, is_delisted
from webhook_server.reconciliation.outside_exits import SETTLED, build_outside_exit
from webhook_server.reconciliation.outside_record import (
    CLOSED_AT_VENUE,
    OutsideRecord,
    distribute_costs,
    fetch_outside_record,
)

logger = structlog.get_logger()

IN_PROGRESS: Final = "a signal in this symbol is being executed"
BOOKS_CHANGED: Final = "the books changed while the venue was asked"
NOT_OURS: Final = "the books hold nothing of it, and Sparky did not open what the venue holds"
FIRED: Final = "a protective order has filled and is not booked yet"
NOT_SETTLED: Final = "the venue lists it no more, and has not settled it yet"
NOT_RECORDED: Final = "the venue holds nothing of it any more, and its record does not show the settlement yet"
MAX_ATTEMPTS: Final = 3
MAX_SETTLEMENT_CHECKS: Final = (
    8  # looks, two minutes: within which a record may show the settlement of a symbol that is gone
)
SymbolKey = tuple[UUID, str, str]  # person, exchange, symbol


@dataclass(frozen=True)
class SymbolComparison:
    """One symbol of an account: what the books say (`facts`) and the `net` that the venue holds of it, without what the
    person holds outside Sparky. `reason` is None where both agree, else why no rule explains the difference.
    `fired` are positions whose protective order has filled and is not booked yet, with the exit reason. `changed_ms` is
    when the venue last changed the position; 0 without one."""

    facts: SymbolFacts
    net: Decimal
    reason: str | None = None
    fired: tuple[tuple[Position, str], ...] = ()
    changed_ms: int = 0

    @property
    def is_transient(self) -> bool:
        """Whether the difference is of the moment: what is under way ends, and the next look sees more."""
        return self.reason in {IN_PROGRESS, BOOKS_CHANGED, NOT_RECORDED} or bool(self.fired)


class VenueChanges:
    """Safe to call from any thread: what is booked is checked against the books in the transaction that books it."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._settlement_checks: dict[
            SymbolKey, int
        ] = {}  # looks at symbols that are gone and whose settlement is not shown yet

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
        """Compares, and books what the record explains. `request_id` is the caller's own request, which is under way.

        `rereads` reads the record also where both agree: a position may have been closed and opened again. `is_regular`
        are looks of every so often, by whose number it is known how long a symbol is gone. Raises what the account and
        the store raise.
        """
        place = (user_id, exchange, symbol)
        if find_listed_instrument(account, symbol) is None:
            return self._reconcile_delisted(place, account, request_id, is_regular=is_regular)
        try:
            look = self._reconcile_listed(user_id, exchange, symbol, account, request_id, rereads=rereads)
        except StrategyFault:
            if not is_delisted(account, symbol):
                raise
            return self._reconcile_delisted(place, account, request_id, is_regular=is_regular)
        is_unexplained = look.reason is not None and not look.is_transient and look.net + look.facts.outside_net == 0
        if is_unexplained and is_delisted(account, symbol):
            return self._reconcile_delisted(place, account, request_id, is_regular=is_regular)
        return look

    def _reconcile_listed(
        self,
        user_id: UUID,
        exchange: str,
        symbol: str,
        account: LiveVenue,
        request_id: str | None,
        *,
        rereads: bool,
    ) -> SymbolComparison:
        for _ in range(MAX_ATTEMPTS):
            look = self._compare(user_id, exchange, symbol, account, request_id)
            is_equal = look.facts.net == look.net
            if look.reason is not None or (is_equal and not (rereads and look.facts.positions)):
                return look
            found = self._explain(account, symbol, look)
            if isinstance(found, SymbolComparison):
                return found if found.fired else self._recheck_books(found, request_id, (user_id, exchange, symbol))
            attribution, record = found
            fired = _cancel_protection(account, attribution)
            if fired:
                return replace(look, reason=FIRED, fired=fired)
            exits = [build_outside_exit(exchange, each) for each in attribution.exits]
            if self._store.book_outside_exits(user_id, exchange, symbol, request_id, look.facts, exits, record):
                self._log_exits(symbol, attribution.exits)
                after = replace(look, facts=self._store.get_symbol_facts(user_id, exchange, symbol))
                return self._absorb_dust(_check_remainder(after, attribution, request_id), user_id, exchange, symbol)
        return replace(look, reason=BOOKS_CHANGED)

    def _absorb_dust(self, look: SymbolComparison, user_id: UUID, exchange: str, symbol: str) -> SymbolComparison:
        """`look`, once less is noted of dust where others have traded that: it is no difference."""
        gap = decimals.total((look.net, look.facts.net.copy_negate()))
        if gap == 0 or look.is_transient or not self._store.reduce_outside_dust(user_id, exchange, symbol, gap):
            return look
        return replace(
            look, facts=self._store.get_symbol_facts(user_id, exchange, symbol), net=look.facts.net, reason=None
        )

    def _reconcile_delisted(
        self, place: SymbolKey, account: LiveVenue, request_id: str | None, *, is_regular: bool
    ) -> SymbolComparison:
        """Books the end of all that is held of a symbol that the venue lists no more, once it holds nothing of it."""
        symbol, facts = place[2], self._store.get_symbol_facts(*place)
        if set(facts.unsettled) - {request_id}:
            return SymbolComparison(facts, facts.net, IN_PROGRESS)
        net = next((each.net for each in account.fetch_positions() if each.symbol == symbol), Decimal(0))
        left = decimals.total((net, facts.outside_net.copy_negate()))
        if net != 0:
            return SymbolComparison(facts, left, NOT_SETTLED)
        if facts.positions:
            reason = self._book_delisted(place, account, request_id, facts, is_regular=is_regular)
            if reason is not None:
                return SymbolComparison(facts, left, reason)
        if facts.outside_net != 0:  # the venue has settled that too
            self._store.delete_outside_holding(*place)
        return SymbolComparison(self._store.get_symbol_facts(*place), net)

    def _book_delisted(
        self, place: SymbolKey, account: LiveVenue, request_id: str | None, facts: SymbolFacts, *, is_regular: bool
    ) -> str | None:
        """Why nothing was booked; None where it was."""
        by_trades = settle_by_trades(account, place[2], facts)
        if by_trades is None:
            paid = fetch_settlements(account, place[2], facts)
            reason = None if paid else self._why_not_settled(place, account, facts, is_regular=is_regular)
            if reason is not None:
                return reason
            exits = list(build_settlement_exits(account, place[2], facts, paid))
            record = RecordProgress(
                last_trade_id=facts.last_trade_id or 0, unbooked_net=Decimal(0), read_ms=facts.read_ms
            )
        else:
            parts, record = by_trades
            parts = tuple(replace(each, reason=SETTLED) if each.reason == CLOSED_AT_VENUE else each for each in parts)
            exits = [build_outside_exit(place[1], each) for each in parts]
        if not self._store.book_outside_exits(*place, request_id, facts, exits, record):
            return BOOKS_CHANGED
        self._settlement_checks.pop(place, None)
        for each in exits:
            fill = each.fill
            self._metrics.outside_exits.labels(fill.exit_reason or SETTLED).inc()
            fields = {"reason": fill.exit_reason, "quantity": str(fill.quantity), "price": str(fill.price)}
            logger.warning("position_settled_by_venue", symbol=fill.symbol, **fields)
        return None

    def _why_not_settled(
        self, place: SymbolKey, account: LiveVenue, facts: SymbolFacts, *, is_regular: bool
    ) -> str | None:
        """Why what no record shows as settled is not booked; None where it is, at the last price."""
        if decimals.total((facts.net, facts.outside_net)) == 0:  # the account held nothing that could be settled
            return None
        other = find_successor_symbol(account, self._store, place, facts.last_fill_ms)
        if other is not None:
            return f"the venue lists it no more and shows no settlement, but {other}, of which the books know nothing"
        self._settlement_checks[place] = self._settlement_checks.get(place, 0) + is_regular
        return None if self._settlement_checks[place] >= MAX_SETTLEMENT_CHECKS else NOT_RECORDED

    def _compare(
        self, user_id: UUID, exchange: str, symbol: str, account: LiveVenue, request_id: str | None
    ) -> SymbolComparison:
        """Both sides, read so that they belong together."""
        facts = self._store.get_symbol_facts(user_id, exchange, symbol)
        if set(facts.unsettled) - {request_id}:
            return SymbolComparison(facts, facts.net, IN_PROGRESS)
        held = next((each for each in account.fetch_positions(symbol) if each.symbol == symbol), None)
        after = self._store.get_symbol_facts(user_id, exchange, symbol)
        net = Decimal(0) if held is None else held.net
        look = SymbolComparison(
            after,
            decimals.total((net, after.outside_net.copy_negate())),
            changed_ms=0 if held is None else held.changed_ms,
        )
        return replace(look, reason=BOOKS_CHANGED) if _has_changed(after, facts.last_fill_id, request_id) else look

    def _recheck_books(
        self, look: SymbolComparison, request_id: str | None, place: tuple[UUID, str, str]
    ) -> SymbolComparison:
        """`look`, unless its reason may be that something was traded while the record was read: an order of ours that
        the books did not know then may only have been under way."""
        facts = self._store.get_symbol_facts(*place)
        is_traded = _has_changed(facts, look.facts.last_fill_id, request_id)
        return replace(look, facts=facts, reason=BOOKS_CHANGED) if is_traded else look

    def _explain(
        self, account: LiveVenue, symbol: str, look: SymbolComparison
    ) -> tuple[Attribution, RecordProgress] | SymbolComparison:
        """What the record makes of the difference; a Look with the reason when it does not explain it."""
        facts = look.facts
        fired = _find_fired(account, facts.positions)
        if fired:
            return replace(look, reason=FIRED, fired=fired)
        if facts.first_ms is None and not facts.last_trade_id:
            return replace(look, reason=NOT_OURS)
        record = fetch_outside_record(account, symbol, facts, differs=facts.net != look.net)
        ours = _find_unbooked_own_order(record, facts.positions)
        if ours is not None:
            return replace(look, reason=f"order {ours} is one of ours, and not in the books")
        lot, explained_net = account.fetch_instrument(symbol).lot, Decimal(0)
        for trades in record.candidate_trades:
            found = attribute_trades(facts.positions, trades, facts.unbooked_net, lot)
            explained_net = decimals.total((found.net, found.unbooked_net, facts.outside_net.copy_negate()))
            if explained_net == look.net:
                return distribute_costs(found, trades, record.costs_usd), RecordProgress(
                    last_trade_id=record.last_trade_id,
                    unbooked_net=found.unbooked_net,
                    cost_ids=record.cost_ids,
                    read_ms=max(record.read_ms, look.changed_ms),
                )
        why = f"by its record the account should hold {explained_net:f}, and it holds {look.net:f}"
        return replace(look, reason=why)

    def _log_exits(self, symbol: str, parts: Iterable[AttributedExit]) -> None:
        for part in parts:
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
    """Whether something was booked since the fill of that number, or is under way beside `request_id`."""
    return facts.last_fill_id != last_fill_id or bool(set(facts.unsettled) - {request_id})


def _check_remainder(look: SymbolComparison, attribution: Attribution, request_id: str | None) -> SymbolComparison:
    """What is left once `attribution` is booked; the books may have gone on since."""
    if look.facts.net == look.net:
        return look
    if look.facts.net != attribution.net or set(look.facts.unsettled) - {request_id}:
        return replace(look, reason=BOOKS_CHANGED)
    others = f"{attribution.unbooked_net:f} was traded at the venue by others than Sparky"
    return replace(look, reason=f"{others}, and is nobody's in the books")


def _find_fired(account: LiveVenue, positions: Sequence[Position]) -> tuple[tuple[Position, str], ...]:
    found = ((position, find_fired_reason(account, position, {})) for position in positions)
    return tuple((position, reason) for position, reason in found if reason is not None)


def _cancel_protection(account: LiveVenue, attribution: Attribution) -> tuple[tuple[Position, str], ...]:
    """Cancels what protects positions of which something ended, before that is booked, so that no crash leaves an order
    that no position knows; those whose order turns out to have filled. What is left is protected again by
    `ProtectionWatchdog`."""
    fired = []
    with low_priority(is_low=False):
        for position in {each.position.id: each.position for each in attribution.exits}.values():
            for reason, name in zip(
                (STOP_LOSS_REASON, TAKE_PROFIT_REASON), protective_order_ids(position), strict=True
            ):
                ended = None if name is None else account.cancel_order(position.symbol, name)
                if is_unbooked_exit(ended, position):
                    fired.append((position, reason))
    return tuple(fired)


def _find_unbooked_own_order(record: OutsideRecord, positions: Iterable[Position]) -> str | None:
    """The client id of an order that is ours by its name, though the books do not know it. A protective order of a
    position that has ended before is none: what it traded was nobody's wish, and ends what others hold by the rule."""
    held = {name for each in positions for name in protective_order_ids(each)}
    for order_id in dict.fromkeys(each.trade.order_id for each in record.trades):
        name = record.client_order_ids.get(order_id) or ""
        if is_own_order_id(name) and not (is_protective_order_id(name) and name not in held):
            return name
    return None
