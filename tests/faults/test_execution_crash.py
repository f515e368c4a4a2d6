"""Whatever is killed whenever: every signal has one end and at most one effect, and the books equal the venue's record.

A whole `sparky up`: live strategies (real V3 signatures to the simulated Aster) and paper ones side by side. While
signals are recorded, the processes they pass through are killed at random moments, and the venue loses answers to
orders that it accepted. FAULT_SEED chooses the moments, FAULT_SIGNALS how many signals.
"""

import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest
import requests
from eth_account import Account as Key
from pydantic import SecretStr

from engine.exchanges.ccxt_venue import CcxtVenue
from engine.store.embedded import dsn
from engine.store.engine_rows import DecisionRecord, NewSignal
from engine.store.people_rows import NewStrategy
from engine.store.seed import new_webhook_secret
from engine.store.store import Store
from engine.types import Action, SignalAction, StrategyStatus
from tests.support.sparky import Sparky

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
VICTIMS = ("webhook", "dispatcher", "webhook", "dispatcher", "sim-aster")
LOST_ANSWERS: tuple[dict[str, object], ...] = (
    {"kind": "status", "status": 503, "path": "/order", "method": "POST", "accept": True},
    {"kind": "reset", "path": "/order", "method": "POST", "accept": True},
    {"kind": "reset", "path": "/order", "method": "POST"},
)
SEED = int(os.environ.get("FAULT_SEED", "5"))
SIGNALS = int(os.environ.get("FAULT_SIGNALS", "500"))
EVERY_S = 0.06
SETTLED_S = 240.0
PRIVATE_KEY = f"{0xC0FFEE:064x}"


@pytest.fixture
def product() -> Iterator[Sparky]:
    root = Path(tempfile.mkdtemp(prefix="sparky-flt-", dir="/tmp"))
    made = Sparky(root / "home", SPARKY_SIM_SPEED="1", SPARKY_MARK_INTERVAL_S="1")
    try:
        made.start("--no-demo")
        made.wait_for(lambda: named(made, "roster"), "Sparky being up")
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


def named(sparky: Sparky, name: str) -> psutil.Process | None:
    for process in sparky.family():
        try:
            if " ".join(process.cmdline()).strip() == f"sparky: {name}":
                return process
        except psutil.Error:
            continue
    return None


class Killer:
    """Kills one of the victims now and then, and has the venue lose answers."""

    def __init__(self, sparky: Sparky, moments: random.Random) -> None:
        self._sparky = sparky
        self._moments = moments
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._moments.uniform(0.5, 2.5)):
            name = self._moments.choice(VICTIMS)
            victim = named(self._sparky, name)
            if victim is not None:
                victim.kill()
                self.killed[name] += 1
            self._lose_answers(self._moments.choice(LOST_ANSWERS))

    def _lose_answers(self, fault: dict[str, object]) -> None:
        url = f"http://127.0.0.1:{self._sparky.environ['SPARKY_SIM_ASTER_PORT']}/_control/faults"
        try:
            requests.post(url, json=[fault], timeout=5)
            self.killed["answers"] += 1
        except requests.RequestException:
            return  # it has just been killed


def people(store: Store) -> tuple[UUID, list[UUID]]:
    """One person with an account at the venue and a webhook secret; 4 live strategies and 3 paper ones."""
    user = store.ensure_user("trader@example.org")
    store.set_webhook_secret(user, new_webhook_secret())
    address = Key.from_key(PRIVATE_KEY).address
    store.put_credentials(
        user,
        "aster",
        {
            "private_key": SecretStr(PRIVATE_KEY),
            "user_address": SecretStr(address),
            "signer_address": SecretStr(address),
        },
    )
    made = [
        store.create_strategy(
            NewStrategy(
                user_id=user,
                name=f"s{number}",
                status=StrategyStatus.RUNNING,
                is_paper_trading=number >= 4,
                cadence_seconds=86_400,
                max_drawdown_percent=90,
            )
        )
        for number in range(7)
    ]
    return user, [row.id for row in made]


def record(store: Store, strategy_id: UUID, dice: random.Random) -> None:
    """One decision with its signal, now and then recorded twice as by a strategy that lost the answer."""
    action = dice.choice((SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE))
    symbol = dice.choice(SYMBOLS)
    stop = dice.choice((None, 20.0)) if action is not SignalAction.CLOSE else None
    signal = NewSignal(
        action=action,
        symbol=symbol,
        exchange="aster",
        size_usd=Decimal(100),
        confidence=0.9,
        stop_loss_percent=stop,
        ttl_s=120,
    )
    decided = DecisionRecord(action=Action.LONG, symbol=symbol, size_usd=Decimal(100), confidence=0.9)
    decision_id = uuid4()
    for _ in range(dice.choice((1, 1, 1, 2))):
        store.record_decision(decision_id, strategy_id, decided, signal)


def test_every_signal_ends_once_and_the_books_equal_the_venues_record(
    product: Sparky, measured: Callable[[str], None]
) -> None:
    dice = random.Random(SEED)
    began = time.monotonic()
    with product.store() as store:
        _, strategies = people(store)
        with Killer(product, random.Random(SEED + 1)) as killer:
            for _ in range(SIGNALS):
                record(store, dice.choice(strategies), dice)
                time.sleep(EVERY_S)
        product.wait_for(lambda: all_settled(store), "every signal and request having ended", SETTLED_S)
        check_signals(store, SIGNALS)
        live = check_books(product, store, least=SIGNALS // 4)
        ends = Counter(row.status for row in store.signals(limit=10_000))
    measured(
        f"{SIGNALS} signals, killed {dict(killer.killed)}: {dict(ends)}, {live} live fills in the books as in the "
        f"venue's record, "
        f"{time.monotonic() - began:.0f} s (seed {SEED})"
    )


def all_settled(store: Store) -> bool:
    return store.outbox_pending() == 0 and not store.unfinished_requests()


def check_signals(store: Store, count: int) -> None:
    """There are `count`, and each has one end, with a trace of every attempt."""
    rows = store.signals(limit=10_000)
    assert len(rows) == count
    for row in rows:
        history = store.signal(row.id)
        assert history is not None
        assert row.status in {"delivered", "refused", "expired", "dead"}, row
        ends = [each for each in history.history if each.outcome != "retry"]
        assert len(ends) == 1, history
        assert {each.attempt for each in history.history} >= set(range(1, row.attempts + 1)), history


def check_books(product: Sparky, store: Store, least: int) -> int:
    """Every fill at the venue is in the books once, to the last digit, and nothing else is; so are stops. How many."""
    url = f"http://127.0.0.1:{product.environ['SPARKY_SIM_ASTER_PORT']}"
    (account,) = store.live_accounts()
    credentials = store.venue_credentials(account.user_id, "aster")
    assert credentials is not None
    venue = CcxtVenue("aster", credentials, url)
    try:
        with psycopg.connect(dsn(product.home)) as connection:
            orders = booked_orders(connection)
            assert orders == venue_orders(venue)
            unbooked = "select request_id, status from webhook_requests where status not in (%s, %s, %s, %s)"
            assert connection.execute(unbooked, ["booked", "refused", "failed", "skipped"]).fetchall() == []
            check_quantities(connection)
        held = [position for position in store.open_positions() if not position.is_paper]
        nets: Counter[str] = Counter()
        for position in held:
            nets[position.symbol] += position.quantity if position.side == "LONG" else -position.quantity  # type: ignore[assignment] # Decimals add up
        there = {position.symbol: position.net for position in venue.positions()}
        assert {symbol: net for symbol, net in nets.items() if net} == there
        stops = {position.stop_loss_client_order_id for position in held} - {None}
        assert {order.client_order_id for order in venue.orders_open()} == stops
        assert len(orders) > least
        return len(orders)
    finally:
        venue.close()


def booked_orders(connection: psycopg.Connection[Any]) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """By the venue's order id: quantity, price, fee. Raises when one was booked twice."""
    rows = connection.execute("select order_id, quantity, price, fee_usd from fills where not is_paper").fetchall()
    orders = {row[0]: (row[1], row[2], row[3]) for row in rows}
    assert len(orders) == len(rows), "an order was booked twice"
    return orders


def venue_orders(venue: CcxtVenue) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    orders: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
    for symbol in SYMBOLS:
        for fill in venue._exchange.fetch_my_trades(f"{symbol[:-4]}/USDT:USDT", None, 1_000):
            told = fill["info"]
            fee = Decimal(str(told["commission"])).quantize(Decimal("1e-8"))
            orders[str(fill["order"])] = (Decimal(told["qty"]), Decimal(told["price"]), fee)
    return orders


def check_quantities(connection: psycopg.Connection[Any]) -> None:
    """What is held is what was bought less what was sold, in every book."""
    wrong = connection.execute("""
      with flows as (
        select strategy_id, symbol, is_paper,
          sum(quantity * case when (side = 'LONG') = (kind = 'open') then 1 else -1 end) as net
        from fills group by strategy_id, symbol, is_paper
      ), held as (
        select strategy_id, symbol, is_paper, quantity * case side when 'LONG' then 1 else -1 end as net from positions
      )
      select * from flows full join held using (strategy_id, symbol, is_paper)
      where coalesce(flows.net, 0) <> coalesce(held.net, 0)""").fetchall()
    assert wrong == []
