"""Books the end of positions in a symbol that a venue lists no more: by its record, else at the last known price."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

import structlog

from engine.domain import decimals
from engine.domain.errors import StrategyFault
from engine.domain.positions import Position
from engine.domain.pro_rata import find_unit
from engine.store.store import Store
from engine.store.venue_record import OutsideExit, RecordProgress, SymbolFacts, sum_net_quantity
from engine.store.webhook_rows import Fill
from engine.venues.account_record import AccountRecord, Income
from engine.venues.account_state import USD_ASSETS
from engine.venues.venue import LiveVenue
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.attribution import AttributedExit, attribute_trades
from webhook_server.reconciliation.outside_exits import DELISTED, SETTLED, build_orderless_exit, build_outside_exit
from webhook_server.reconciliation.outside_record import (
    CLOSED_AT_VENUE,
    INCOME_TIME_TOLERANCE_MS,
    OutsideRecord,
    fetch_outside_record,
)
from webhook_server.reconciliation.symbol_comparison import (
    BOOKS_CHANGED,
    IN_PROGRESS,
    NOT_RECORDED,
    NOT_SETTLED,
    SymbolComparison,
    SymbolKey,
    has_other_requests,
)

logger = structlog.get_logger()

SETTLEMENT_INCOME: Final = ("REALIZED_PNL", "DELIVERED_SETTELMENT")  # Binance's own spelling of a delivery's income
# Periodic comparisons (two minutes) within which a venue may still show a settlement. Booking at the last known price
# sooner would leave a price in the books that the record contradicts later.
MAX_SETTLEMENT_CHECKS: Final = 8


class DelistedReconciler:
    """Safe to call from any thread, as `SymbolReconciler`, which calls it for symbols that the venue lists no more."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._settlement_checks: dict[SymbolKey, int] = {}  # periodic comparisons that found no settlement yet

    def reconcile(
        self, key: SymbolKey, account: LiveVenue, request_id: str | None, *, is_regular: bool
    ) -> SymbolComparison:
        """Books the end of all that the books hold of the symbol, once the venue holds nothing of it.

        `is_regular` counts this comparison towards MAX_SETTLEMENT_CHECKS. Raises what the account and the store raise.
        """
        symbol, facts = key[2], self._store.get_symbol_facts(*key)
        if has_other_requests(facts, request_id):
            return SymbolComparison(facts, facts.net, IN_PROGRESS)
        # Without a symbol in the question: a venue may refuse one that it does not list.
        positions = account.fetch_positions()
        net = next((position.net for position in positions if position.symbol == symbol), Decimal(0))
        own_net = decimals.total((net, facts.outside_net.copy_negate()))
        if net != 0:
            return SymbolComparison(facts, own_net, NOT_SETTLED)
        if facts.positions:
            reason = self._book(key, account, request_id, facts, is_regular=is_regular)
            if reason is not None:
                return SymbolComparison(facts, own_net, reason)
        if facts.outside_net != 0:  # the venue has settled that too
            self._store.delete_outside_holding(*key)
        return SymbolComparison(self._store.get_symbol_facts(*key), net)

    def _book(
        self, key: SymbolKey, account: LiveVenue, request_id: str | None, facts: SymbolFacts, *, is_regular: bool
    ) -> str | None:
        """Why nothing was booked; None where it was.

        In this order: trades carry a price each, income only a sum, and the last known price is a guess.
        """
        by_trades = settle_by_trades(account, key[2], facts)
        if by_trades is None:
            paid = fetch_settlements(account, key[2], facts)
            reason = None if paid else self._find_unsettled_reason(key, account, facts, is_regular=is_regular)
            if reason is not None:
                return reason
            exits = list(build_settlement_exits(account, key[2], facts, paid))
            record = RecordProgress(
                last_trade_id=facts.last_trade_id or 0, unbooked_net=Decimal(0), read_ms=facts.read_ms
            )
        else:
            parts, record = by_trades
            parts = tuple(replace(part, reason=SETTLED) if part.reason == CLOSED_AT_VENUE else part for part in parts)
            exits = [build_outside_exit(key[1], part) for part in parts]
        if not self._store.book_outside_exits(*key, request_id, facts, exits, record):
            return BOOKS_CHANGED
        self._settlement_checks.pop(key, None)
        for outside_exit in exits:
            fill = outside_exit.fill
            self._metrics.outside_exits.labels(fill.exit_reason or SETTLED).inc()
            fields = {"reason": fill.exit_reason, "quantity": str(fill.quantity), "price": str(fill.price)}
            logger.warning("position_settled_by_venue", symbol=fill.symbol, **fields)
        return None

    def _find_unsettled_reason(
        self, key: SymbolKey, account: LiveVenue, facts: SymbolFacts, *, is_regular: bool
    ) -> str | None:
        """Why positions without a recorded settlement are not booked; None where they are, at the last known price."""
        if decimals.total((facts.net, facts.outside_net)) == 0:  # the account held nothing that could be settled
            return None
        successor = find_successor_symbol(account, self._store, key, facts.last_fill_ms)
        if successor is not None:
            return (
                f"the venue lists it no more and shows no settlement, but {successor}, of which the books know nothing"
            )
        self._settlement_checks[key] = self._settlement_checks.get(key, 0) + is_regular
        return None if self._settlement_checks[key] >= MAX_SETTLEMENT_CHECKS else NOT_RECORDED


def settle_by_trades(
    account: AccountRecord, symbol: str, facts: SymbolFacts
) -> tuple[tuple[AttributedExit, ...], RecordProgress] | None:
    """The exits of all positions of `facts` by the account's trades, and how far its record is read; None where the
    trades do not end all of them. Raises what the account raises."""
    try:
        record = fetch_outside_record(account, symbol, facts, differs=True)
    except StrategyFault:  # the venue answers nothing about a symbol that it does not list
        record = OutsideRecord()
    # The venue tells no lot of a delisted symbol, so shares are multiples of the smallest unit of the quantities.
    lot = find_unit([position.quantity for position in facts.positions], None)
    for trades in record.candidate_trades:
        attribution = attribute_trades(facts.positions, trades, facts.unbooked_net, lot)
        if not any(attribution.remaining.values()):
            progress = RecordProgress(
                last_trade_id=record.last_trade_id, unbooked_net=Decimal(0), read_ms=record.read_ms
            )
            return attribution.exits, progress
    return None


def fetch_settlements(account: AccountRecord, symbol: str, facts: SymbolFacts) -> tuple[Income, ...]:
    """The venue's income from the settlement of `symbol`; empty where it shows none (yet)."""
    try:
        incomes = account.fetch_income(symbol, max(facts.first_ms or 0, facts.last_fill_ms) - INCOME_TIME_TOLERANCE_MS)
    except StrategyFault:
        return ()
    return tuple(
        income
        for income in incomes
        if income.kind in SETTLEMENT_INCOME and income.trade_id is None and income.asset in USD_ASSETS
    )


def build_settlement_exits(
    account: AccountRecord, symbol: str, facts: SymbolFacts, paid: Sequence[Income]
) -> tuple[OutsideExit, ...]:
    """Exits of all positions of `facts`: at the price that the settlement `paid` implies, where these positions alone
    were settled, else at the newest price that the books know."""
    price = None
    if paid and is_held_by_books_only(account, symbol, facts):
        price = compute_settlement_price(facts.positions, paid)
    if price is None:
        price = get_last_booked_price(max(facts.positions, key=lambda position: position.entry_time))
    reason = SETTLED if paid else DELISTED
    at_ms = max((income.at_ms for income in paid), default=None)
    return tuple(
        OutsideExit(
            request_id=f"venue/{reason}/{position.id}",
            fill=build_orderless_exit(position, price, reason, at_ms, kind="close"),
        )
        for position in facts.positions
    )


def is_held_by_books_only(account: AccountRecord, symbol: str, facts: SymbolFacts) -> bool:
    """Whether what the account held is what the books hold, on one side and at the same cost.

    The account's cost is the average of all that was held at once: what others than these positions have traded since
    the first of them was entered, and what one of several has closed, leaves another cost than the books' in it.
    """
    held = facts.positions
    is_all = facts.outside_net == facts.unbooked_net == 0 and len({position.side for position in held}) == 1
    if not is_all or (len(held) > 1 and any(position.exit_order_ids for position in held)):
        return False
    ids = {position.id for position in held}
    try:
        trades = account.fetch_trades(symbol, since_ms=facts.first_ms)
    except StrategyFault:  # the venue may answer nothing about a symbol that it does not list
        trades = ()
    are_own = [facts.order_positions.get(trade.order_id) in ids for trade in trades]
    if not any(are_own):
        return set(facts.order_positions.values()) <= ids and not facts.outside_order_ids
    return all(are_own[are_own.index(True) :])


def compute_settlement_price(positions: Sequence[Position], paid: Iterable[Income]) -> Decimal | None:
    """The price at which all `positions` together earned what was `paid`; None where no price does."""
    costs = sum_net_quantity(
        position.model_copy(update={"quantity": position.position_size_usd}) for position in positions
    )
    price = decimals.quotient(decimals.total([*(income.amount for income in paid), costs]), sum_net_quantity(positions))
    return price if price > 0 else None


def find_successor_symbol(account: LiveVenue, store: Store, key: SymbolKey, since_ms: int) -> str | None:
    """Another symbol of the account with a position that is unknown to the books and no older than `since_ms`: a
    delisted contract may have been converted into it, at another quantity. None without one."""
    for position in account.fetch_positions():
        is_new = position.changed_ms == 0 or position.changed_ms >= since_ms
        if position.symbol != key[2] and is_new:
            facts = store.get_symbol_facts(key[0], key[1], position.symbol)
            if not facts.positions and position.net != facts.outside_net:
                return position.symbol
    return None


def get_last_booked_price(position: Position) -> Decimal:
    """The price at which the books last valued `position`."""
    return position.current_price or position.entry_price


def build_delisted_exit(held: Position) -> Fill:
    """The exit of a paper position in a symbol that is listed no more, at the last known price."""
    return build_orderless_exit(held, get_last_booked_price(held), DELISTED, kind="close")
