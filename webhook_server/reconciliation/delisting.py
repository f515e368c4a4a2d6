"""What ends with a symbol that a venue lists no more: by the account's record, else at the last price known."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final
from uuid import UUID

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
from webhook_server.reconciliation.attribution import AttributedExit, attribute_trades
from webhook_server.reconciliation.outside_exits import DELISTED, SETTLED, build_orderless_exit
from webhook_server.reconciliation.outside_record import INCOME_TIME_TOLERANCE_MS, OutsideRecord, fetch_outside_record

# Binance's name of the income of a delivery is spelled so.
SETTLEMENT_INCOME: Final = ("REALIZED_PNL", "DELIVERED_SETTELMENT")


def settle_by_trades(
    account: AccountRecord, symbol: str, facts: SymbolFacts
) -> tuple[tuple[AttributedExit, ...], RecordProgress] | None:
    """How the trades of the account ended all positions of `facts`; None where they do not."""
    try:
        record = fetch_outside_record(account, symbol, facts, differs=True)
    except StrategyFault:  # nothing is told of a symbol that is not listed
        record = OutsideRecord()
    lot = find_unit([each.quantity for each in facts.positions], None)
    for trades in record.candidate_trades:
        attribution = attribute_trades(facts.positions, trades, facts.unbooked_net, lot)
        if not any(attribution.remaining.values()):
            read = RecordProgress(last_trade_id=record.last_trade_id, unbooked_net=Decimal(0), read_ms=record.read_ms)
            return attribution.exits, read
    return None


def fetch_settlements(account: AccountRecord, symbol: str, facts: SymbolFacts) -> tuple[Income, ...]:
    """The venue's income of the settlement of `symbol`; empty where it tells none (yet)."""
    try:
        incomes = account.fetch_income(symbol, max(facts.first_ms or 0, facts.last_fill_ms) - INCOME_TIME_TOLERANCE_MS)
    except StrategyFault:
        return ()
    return tuple(
        each
        for each in incomes
        if each.kind in SETTLEMENT_INCOME and each.trade_id is None and each.asset in USD_ASSETS
    )


def build_settlement_exits(
    account: AccountRecord, symbol: str, facts: SymbolFacts, paid: Sequence[Income]
) -> tuple[OutsideExit, ...]:
    """Exits of all positions of `facts` at the price that what was `paid` comes to, where it was paid for them alone;
    else all at the newest price that the books know."""
    price = None
    if paid and held_only_booked(account, symbol, facts):
        price = settlement_price(facts.positions, paid)
    if price is None:
        price = last_price(max(facts.positions, key=lambda each: each.entry_time))
    reason = SETTLED if paid else DELISTED
    at_ms = max((each.at_ms for each in paid), default=None)
    return tuple(
        OutsideExit(
            request_id=f"venue/{reason}/{each.id}",
            fill=build_orderless_exit(each, price, reason, at_ms, kind="close"),
        )
        for each in facts.positions
    )


def held_only_booked(account: AccountRecord, symbol: str, facts: SymbolFacts) -> bool:
    """Whether what the account held is what the books hold, on one side and at the same cost.

    The account's cost is the average of all that was held at once: what others than these positions have traded since
    the first of them was entered, and what one of several has closed, leaves another cost than the books' in it.
    """
    held = facts.positions
    is_all = facts.outside_net == facts.unbooked_net == 0 and len({each.side for each in held}) == 1
    if not is_all or (len(held) > 1 and any(each.exit_order_ids for each in held)):
        return False
    ids = {each.id for each in held}
    try:
        trades = account.fetch_trades(symbol, since_ms=facts.first_ms)
    except StrategyFault:  # of a symbol that it does not list the venue may tell no trades
        trades = ()
    are_own = [facts.order_positions.get(each.order_id) in ids for each in trades]
    if not any(are_own):
        return set(facts.order_positions.values()) <= ids and not facts.outside_order_ids
    return all(are_own[are_own.index(True) :])


def settlement_price(positions: Sequence[Position], paid: Iterable[Income]) -> Decimal | None:
    """The price at which all `positions` together earned what was `paid`; None where no price does."""
    costs = sum_net_quantity(each.model_copy(update={"quantity": each.position_size_usd}) for each in positions)
    price = decimals.quotient(decimals.total([*(each.amount for each in paid), costs]), sum_net_quantity(positions))
    return price if price > 0 else None


def find_successor_symbol(account: LiveVenue, store: Store, key: tuple[UUID, str, str], since_ms: int) -> str | None:
    """Another symbol of the account that holds something which neither books nor notes know, as new as `since_ms`: what
    a symbol that is gone may have become, at another quantity."""
    for each in account.fetch_positions():
        is_new = each.changed_ms == 0 or each.changed_ms >= since_ms
        if each.symbol != key[2] and is_new:
            facts = store.get_symbol_facts(key[0], key[1], each.symbol)
            if not facts.positions and each.net != facts.outside_net:
                return each.symbol
    return None


def last_price(position: Position) -> Decimal:
    """At which the books have valued it last."""
    return position.current_price or position.entry_price


def build_delisted_exit(held: Position) -> Fill:
    """The end of a paper position in a symbol that is listed no more, at the last price known."""
    return build_orderless_exit(held, last_price(held), DELISTED, kind="close")
