"""The books of one person against their account's own record at the simulated venue, order by order."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import psycopg

from simulator.venue.trading_account import Account, Fill
from tests.support.clients.venue_file import change

OURS: Final = re.compile(r"s([a-z])[0-9a-z]?-[0-9a-f]{32}")  # a leg in parts numbers those after the first
PROTECTIVE: Final = frozenset("lt")
ZERO: Final = Decimal(0)
DIGITS: Final = Decimal("0.0000001")  # what the database rounds off, summed up
CENT: Final = Decimal("0.01")
MOST_MOVE: Final = Decimal("0.1")  # of a price, in a test


@dataclass
class Traded:
    """What one order traded: quantity, worth, fees."""

    quantity: Decimal = ZERO
    value: Decimal = ZERO
    fee_usd: Decimal = ZERO

    def add(self, quantity: Decimal, price: Decimal, fee_usd: Decimal) -> None:
        self.quantity += quantity
        self.value += quantity * price
        self.fee_usd += fee_usd

    def include(self, other: "Traded") -> None:
        self.quantity += other.quantity
        self.value += other.value
        self.fee_usd += other.fee_usd


def letter_of(fill: Fill) -> str | None:
    """The leg of an order of ours; None for orders of others."""
    found = OURS.fullmatch(fill.order.client_order_id)
    return found.group(1) if found else None


def check_account(connection: psycopg.Connection[Any], user_id: UUID, account: Account, added_to: Iterable[str]) -> int:
    """Every order of ours is booked once, as it traded, or as all orders of its leg did; of every other order no more
    than it traded, and where hands only closed (not `added_to`) all of it, with all fees. How many orders of others
    there were."""
    there, booked = _by_order(account), _booked(connection, user_id, added_to)
    ours = {str(f.order.order_id): f.order.client_order_id for f in account.fills if letter_of(f) is not None}
    assert booked.keys() <= there.keys(), booked.keys() - there.keys()
    several = _legs_of_several(connection, user_id)
    together = {each for leg in several for each in leg}
    assert ours.keys() >= together, together - ours.keys()
    for leg in several + [(each,) for each in ours.keys() - together]:
        known, made = booked.get(leg[0], Traded()), Traded()
        for order_id in leg:
            made.include(there[order_id])
        assert _is_near(known, made), (leg, ours[leg[0]], known, made)
    symbols = {str(f.order.order_id): f.order.symbol for f in account.fills}
    for order_id in there.keys() - ours.keys():
        made, known = there[order_id], booked.get(order_id, Traded())
        assert known.quantity <= made.quantity, (order_id, known, made)
        if symbols[order_id] not in added_to:
            assert known.quantity == made.quantity, (order_id, symbols[order_id], known, made)
            assert abs(known.value - made.value) < DIGITS * 1_000, (order_id, known, made)
    for symbol in set(symbols.values()) - set(added_to):
        orders = {order_id for order_id, name in symbols.items() if name == symbol}
        fees = sum((booked[each].fee_usd for each in orders & booked.keys()), ZERO)
        costs = [each for each in account.incomes if each.symbol == symbol and each.kind != "REALIZED_PNL"]
        assert abs(fees + sum((each.amount for each in costs), ZERO)) < DIGITS * 100, symbol
        check_profit(connection, user_id, account, symbol)
    return len(there.keys() - ours.keys())


def check_our_orders(connection: psycopg.Connection[Any], user_id: UUID, account: Account) -> int:
    """Every order of ours is in one fill, alone or with the other orders of its leg, as they traded together; how many
    there were."""
    there = _by_order(account)
    ours = {str(f.order.order_id) for f in account.fills if letter_of(f) is not None}
    query = """select coalesce(order_ids, array[order_id]), quantity, price, fee_usd from fills
        where user_id = %s and not is_paper and kind <> 'dust'"""
    seen: list[str] = []
    for order_ids, quantity, price, fee_usd in connection.execute(query, [user_id]).fetchall():
        if not ours.intersection(order_ids):
            continue
        made, known = Traded(), Traded()
        for each in order_ids:
            made.include(there[each])
        known.add(quantity, price, fee_usd)
        assert _is_near(known, made), (order_ids, known, made)
        seen += order_ids
    assert sorted(seen) == sorted(ours), set(seen) ^ ours
    return len(ours)


def check_profit(connection: psycopg.Connection[Any], user_id: UUID, account: Account, symbol: str) -> None:
    """What the trades of a symbol that is closed have earned is what the account has, but for what dust may have earned
    since it ended in the books."""
    worth = "select coalesce(sum(quantity * price), 0) from fills where user_id = %s and symbol = %s and kind = 'dust'"
    (dust_usd,) = connection.execute(worth, [user_id, symbol]).fetchone() or (ZERO,)
    earned = "select coalesce(sum(pnl_usd), 0) from trades where user_id = %s and symbol = %s and not is_paper"
    (booked,) = connection.execute(earned, [user_id, symbol]).fetchone() or (ZERO,)
    paid = sum((each.amount for each in account.incomes if each.symbol == symbol), ZERO)
    assert abs(booked - paid) < CENT + dust_usd * MOST_MOVE, (symbol, booked, paid, dust_usd)


def check_no_crossing(account: Account, dust: Mapping[str, Decimal] | None = None) -> int:
    """In the venue's order, no order of ours took the net to the other side of zero: entries may, and the second order
    of an exit (`sr-…`) began at zero or on the other side, unless another's trade came right before it, or was a
    reduction itself. How many orders of ours that close there were. `dust` is how much of a symbol may be too little to
    be reduced."""
    nets: dict[str, Decimal] = defaultdict(Decimal)
    before_it: dict[str, Fill] = {}
    count = 0
    for fill in account.fills:
        symbol, letter = fill.order.symbol, letter_of(fill)
        before, after = nets[symbol], nets[symbol] + change(fill)
        if letter == "r" and not fill.order.reduce_only:
            is_raced = symbol in before_it and letter_of(before_it[symbol]) is None
            is_dust = abs(before) <= (dust or {}).get(symbol, ZERO)
            assert before * change(fill) >= 0 or is_raced or is_dust, (before, fill)
        elif letter not in {None, "o", "u"}:  # the undoing of an entry goes back to where that began
            assert before * after >= 0, (fill, before, after)
            assert abs(after) < abs(before), (fill, before, after)
        count += letter not in {None, "o"}
        nets[symbol], before_it[symbol] = after, fill
    return count


def booked_after_s(
    connection: psycopg.Connection[Any], user_id: UUID, account: Account, market_is_behind_s: float
) -> Iterator[tuple[float, str]]:
    """For every order of others and every protective one: seconds from its last trade to its last booking; its name.

    `market_is_behind_s` is the host's time less the market's.
    """
    query = """select order_id, max(created_at) from fills
        where user_id = %s and not is_paper and kind <> 'dust' group by order_id"""
    booked: dict[str, datetime] = dict(connection.execute(query, [user_id]).fetchall())
    for order_id, fill in {str(f.order.order_id): f for f in account.fills}.items():
        if letter_of(fill) in PROTECTIVE | {None} and order_id in booked:
            happened = fill.at_ms / 1_000 + market_is_behind_s
            yield booked[order_id].timestamp() - happened, fill.order.client_order_id


def _legs_of_several(connection: psycopg.Connection[Any], user_id: UUID) -> list[tuple[str, ...]]:
    """The orders of each leg that has more than one; the fill is under the first."""
    query = "select order_ids from fills where user_id = %s and not is_paper and order_ids is not null"
    legs = [tuple(row[0]) for row in connection.execute(query, [user_id]).fetchall()]
    assert len({each for leg in legs for each in leg}) == sum(map(len, legs)), legs
    return legs


def _by_order(account: Account) -> dict[str, Traded]:
    found: dict[str, Traded] = defaultdict(Traded)
    for fill in account.fills:
        found[str(fill.order.order_id)].add(fill.quantity, fill.price, fill.commission)
    return found


def _booked(connection: psycopg.Connection[Any], user_id: UUID, added_to: Iterable[str]) -> Mapping[str, Traded]:
    """By the venue's order; one order of others may be the end of several positions. Where hands added, a person may
    have adopted what no order of the record explains."""
    query = """select order_id, symbol, quantity, price, fee_usd from fills
        where user_id = %s and not is_paper and kind <> 'dust'"""
    found: dict[str, Traded] = defaultdict(Traded)
    for order_id, symbol, quantity, price, fee_usd in connection.execute(query, [user_id]).fetchall():
        if order_id is not None or symbol not in added_to:
            found[order_id].add(quantity, price, fee_usd)
    return dict(found)


def _is_near(one: Traded, other: Traded) -> bool:
    """Quantities to the digit; worth and fees but for the digits that the database rounds off."""
    is_same = one.quantity == other.quantity
    return is_same and abs(one.value - other.value) < DIGITS and abs(one.fee_usd - other.fee_usd) < DIGITS
