"""The venue's rules change, funding is paid and the server is killed, again and again, while strategies trade.

A whole `sparky up` and one person with strategies on both sides of the same symbols at the simulated Aster. FAULT_SEED
chooses signals, changes and kills, FAULT_SIGNALS how many signals there are. The venue's own record is the judge.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from threading import Event
from typing import Any

import psycopg
import pytest

from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from engine.venues.instrument import Instrument
from simulator.venue.trading_account import Account
from tests.support.clients.account_checks import check_no_crossing, check_our_orders
from tests.support.clients.account_owners import Person, person
from tests.support.clients.trading import SYMBOLS, all_settled
from tests.support.clients.venue_file import VenueFile, net_of
from tests.support.factories.keys import PRIVATE_KEY
from tests.support.processes.sparky import Sparky, without_strategies

SEED = int(os.environ.get("FAULT_SEED", "13"))
SIGNALS = min(int(os.environ.get("FAULT_SIGNALS", "90")), 300)
EVERY_S = 1.0  # between two changes
KILLED_EVERY = 8  # changes
MOST_KILLS = 3  # each start takes longer than the one before
SETTLED_S = 120.0
MOST_USD = Decimal(120)  # of one market order, so that exits are made in pieces
ZERO = Decimal(0)
GROWN = (2, 5)  # times the step
RATES = ("0.0003", "-0.0001", "0.002")


class Rules:
    """Changes what the venue lists, one thing at a time, by `dice`; `restore` puts everything back."""

    def __init__(self, product: Sparky, who: Person, dice: random.Random) -> None:
        self._product, self._who, self._dice = product, who, dice
        self._listed: dict[str, Instrument] = {symbol: who.venue.fetch_instrument(symbol) for symbol in SYMBOLS}
        self.done: Counter[str] = Counter()

    @property
    def most_dust(self) -> dict[str, Decimal]:
        """What three strategies may leave of a symbol while its step is at its largest."""
        return {symbol: 3 * max(GROWN) * was.lot for symbol, was in self._listed.items()}

    def change(self) -> None:
        symbol = self._dice.choice(SYMBOLS)
        was = self._listed[symbol]
        price = self._who.venue.fetch_quote(symbol).last
        changes: dict[str, dict[str, Any]] = {
            "step grows": {"step": str(was.lot * self._dice.choice(GROWN))},
            "step as it was": {"step": str(was.lot)},
            "tick grows": {"tick": str(was.tick * 10)},
            "tick as it was": {"tick": str(was.tick)},
            "small orders only": {"market_lot": {"max_quantity": str(was.floor_to_lot(MOST_USD / price) or was.lot)}},
            "large orders again": {"market_lot": {"max_quantity": str(was.max_quantity or 1_000_000)}},
            "settling": {"status": "SETTLING"},
            "trading": {"status": "TRADING"},
        }
        name = self._dice.choice([*changes, "funding", "trading"])
        if name == "funding":
            event = {"funding": {"symbol": symbol, "rate": self._dice.choice(RATES)}}
            self._product.control("aster", "account", event)
        else:
            self._product.control("aster", "instruments", {"symbol": symbol} | changes[name])
        self.done[name] += 1

    def restore(self) -> None:
        for symbol, was in self._listed.items():
            change = {"symbol": symbol, "step": str(was.lot), "tick": str(was.tick), "status": "TRADING"}
            most = {"market_lot": {"max_quantity": str(was.max_quantity or 1_000_000)}}
            self._product.control("aster", "instruments", change | most)


def trade(product: Sparky, who: Person, number: int, count: int, dice: random.Random, over: Event) -> Counter[str]:
    """`count` signals of one strategy: entries with stops, additions, reversals, exits in part and in full."""
    ends: Counter[str] = Counter()
    side, opposite = ("buy", "sell") if number % 2 == 0 else ("sell", "buy")
    for _ in range(count):
        action = dice.choice((side, side, side, opposite, "close", "close"))
        fields: dict[str, Any] = {"symbol": dice.choice(SYMBOLS), "action": action}
        if action == "close":
            fields["sell_percentage"] = dice.choice((100, 100, 50, 33))
        else:
            fields |= {"size": dice.choice((100, 200, 300)), "stop_loss_percent": 20}
        told = who.send(product, who.strategies[number], **fields)
        ends[str(told.get("action") or told.get("data", {}).get("limitType") or told.get("error"))] += 1
        over.wait(dice.uniform(0.3, 0.9))
    return ends


def traded(product: Sparky, who: Person, rules: Rules, seed: int) -> tuple[Counter[str], int]:
    """All signals are sent while rules change and the server is killed; how signals ended, and how many kills."""
    over, dice, kills = Event(), random.Random(seed + 1), 0
    count = SIGNALS // len(who.strategies)
    with ThreadPoolExecutor(len(who.strategies)) as pool:
        sent: list[Future[Counter[str]]] = [
            pool.submit(trade, product, who, number, count, random.Random(dice.random()), over)
            for number in range(len(who.strategies))
        ]
        while not all(each.done() for each in sent):
            rules.change()
            if rules.done.total() % KILLED_EVERY == 0 and kills < MOST_KILLS:
                product.kill("webhook")
                kills += 1
            over.wait(EVERY_S)
        ends: Counter[str] = sum((each.result() for each in sent), Counter())
    return ends, kills


def is_flat(store: Store, file: VenueFile, who: Person, outside: Callable[[], dict[str, Decimal]]) -> bool:
    """Nothing is held live, no order waits, and the venue holds what is noted as the person's own, which is dust."""
    held = [each for each in store.list_open_positions() if not each.is_paper]
    account = file.accounts()[who.address]
    if not all_settled(store) or held or account.open_orders():
        return False
    return all(net_of(account, each) == outside().get(each, 0) for each in SYMBOLS)


@pytest.mark.parametrize("seed", [SEED])
def test_the_books_follow_while_rules_change_funding_is_paid_and_the_server_is_killed(
    seed: int, measured: Callable[[str], None]
) -> None:
    began = time.monotonic()
    with (
        without_strategies() as product,
        product.store() as store,
        person(product, store, PRIVATE_KEY, 3) as who,
        psycopg.connect(build_dsn(product.home), autocommit=True) as connection,
    ):
        product.control("aster", "market", {"weight_per_minute": 0})
        rules = Rules(product, who, random.Random(seed))
        ends, kills = traded(product, who, rules, seed)
        rules.restore()
        close_all(product, store, who)
        file = VenueFile(product.home)
        product.wait_for(
            lambda: is_flat(store, file, who, lambda: dust_of(connection)),
            "the venue holding nothing but dust",
            SETTLED_S,
        )
        account = file.accounts()[who.address]
        orders = check_our_orders(connection, who.user_id, account)
        exits = check_no_crossing(account, rules.most_dust)
        product.wait_for(lambda: funding_is_booked(connection, account), "all funding in the books", SETTLED_S)
    measured(
        f"{SIGNALS} signals {dict(ends)}, changes {dict(rules.done)}, {kills} kills: {orders} orders "
        f"booked, {exits} orders that close and none crossed zero; {time.monotonic() - began:.0f} s (seed {seed})"
    )
    assert kills > 0


def close_all(product: Sparky, store: Store, who: Person) -> None:
    for strategy_id in who.strategies:
        for symbol in SYMBOLS:
            who.send(product, strategy_id, symbol=symbol, action="close")


def dust_of(connection: psycopg.Connection[Any]) -> dict[str, Decimal]:
    return dict(connection.execute("select symbol, quantity from outside_holdings").fetchall())


def funding_is_booked(connection: psycopg.Connection[Any], account: Account) -> bool:
    """Every payment is divided to its last digit, among positions and the person's own dust, and the trades have what
    positions had."""
    paid = {
        f"FUNDING_FEE:{each.income_id}::USDT": each.amount for each in account.incomes if each.kind == "FUNDING_FEE"
    }
    query = "select income_id, position_id, amount_usd from funding_payments where not is_paper"
    of_positions, divided = ZERO, dict[str, Decimal]()
    for income_id, position_id, usd in connection.execute(query).fetchall():
        divided[income_id] = divided.get(income_id, ZERO) + usd
        of_positions += usd if position_id.int else ZERO
    (in_trades,) = connection.execute("select coalesce(sum(funding_usd), 0) from trades").fetchone() or (None,)
    return divided == paid and in_trades == of_positions
