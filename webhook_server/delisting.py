"""What ends with a symbol that a venue lists no more: by the account's record, else at the last price known."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from engine import booked
from engine.errors import StrategyFault
from engine.exchanges.account_record import AccountRecord, Income
from engine.exchanges.readings import DOLLARS
from engine.shares import unit_of
from engine.store.venue_rows import OutsideExit, ReadRecord, VenueFacts, net_of
from engine.store.webhook_rows import Fill
from engine.types import Position
from webhook_server.attribution import Part, attribute
from webhook_server.endings import DELISTED, SETTLED, ended_without_order
from webhook_server.outside_record import BEFORE_MS, OutsideRecord, read_record

# Binance's name of the income of a delivery is spelled so.
SETTLEMENTS: Final = ("REALIZED_PNL", "DELIVERED_SETTELMENT")


def settled_by_trades(
    account: AccountRecord, symbol: str, facts: VenueFacts
) -> tuple[tuple[Part, ...], ReadRecord] | None:
    """How the trades of the account ended all positions of `facts`; None where they do not."""
    try:
        record = read_record(account, symbol, facts, differs=True)
    except StrategyFault:  # nothing is told of a symbol that is not listed
        record = OutsideRecord()
    lot = unit_of([each.quantity for each in facts.positions], None)
    for trades in record.accounts:
        found = attribute(facts.positions, trades, facts.unbooked_net, lot)
        if not any(found.left.values()):
            read = ReadRecord(last_trade_id=record.last_trade_id, unbooked_net=Decimal(0), read_ms=record.read_ms)
            return found.parts, read
    return None


def settled_by_income(account: AccountRecord, symbol: str, facts: VenueFacts) -> tuple[OutsideExit, ...]:
    """Exits of all positions of `facts` at the price that the venue's income of the settlement comes to; where it tells
    none, at the price at which the books have valued them last."""
    try:
        incomes = account.income(symbol, max(facts.first_ms or 0, facts.last_fill_ms) - BEFORE_MS)
    except StrategyFault:
        incomes = ()
    paid = [each for each in incomes if each.kind in SETTLEMENTS and each.trade_id is None and each.asset in DOLLARS]
    price = settlement_price(facts.positions, paid)
    reason = DELISTED if price is None else SETTLED
    at_ms = max((each.at_ms for each in paid), default=None)
    return tuple(
        OutsideExit(
            request_id=f"venue/{reason}/{each.id}",
            fill=ended_without_order(each, price or last_price(each), reason, at_ms, kind="close"),
        )
        for each in facts.positions
    )


def settlement_price(positions: Sequence[Position], paid: Iterable[Income]) -> Decimal | None:
    """The price at which all `positions` together earned what was `paid`; None where nothing was, or no price does."""
    amounts = [each.amount for each in paid]
    net = net_of(positions)
    if not amounts or net == 0:
        return None
    costs = net_of(each.model_copy(update={"quantity": each.position_size_usd}) for each in positions)
    price = booked.quotient(booked.total([*amounts, costs]), net)
    return price if price > 0 else None


def last_price(position: Position) -> Decimal:
    """At which the books have valued it last."""
    return position.current_price or position.entry_price


def delisted_exit(held: Position) -> Fill:
    """The end of a paper position in a symbol that is listed no more, at the last price known."""
    return ended_without_order(held, last_price(held), DELISTED, kind="close")
