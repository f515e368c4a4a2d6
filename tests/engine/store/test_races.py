"""What two who work on the same books at the same moment may not do to each other."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import psycopg
import pytest

from engine.store.store import Store
from tests.support.clients.sql import Sql

from .conftest import Desk

Connection = psycopg.Connection[tuple[object, ...]]
Answer = TypeVar("Answer")


@pytest.fixture
def slow(database_url: str) -> Iterator[Connection]:
    """Somebody whose transaction stays open until the test commits it."""
    with psycopg.connect(database_url) as connection:
        yield connection


def _begun(work: Callable[[], Answer], sql: Sql, pool: ThreadPoolExecutor) -> Future[Answer]:
    """`work` on a thread of its own, which now waits for a lock."""
    future = pool.submit(work)
    deadline = time.monotonic() + 60
    while not sql("select pid from pg_locks where not granted"):
        assert not future.done(), future.result()
        assert time.monotonic() < deadline
    return future


def _close(connection: Connection, desk: Desk, strategy_id: UUID, price: str) -> None:
    desk.begin("a close", strategy_id)
    fill = {
        "kind": "close",
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "quantity": 1,
        "price": price,
        "fee_usd": 0,
        "leverage": 1,
        "is_paper": True,
        "strategy_id": str(strategy_id),
    }
    connection.execute("select public.book_fill('a close', %s, %s, 200, '{}')", [desk.user_id, json.dumps(fill)])


def test_a_profit_is_not_counted_twice_while_it_is_being_realised(
    desk: Desk, store: Store, slow: Connection, sql: Sql
) -> None:
    strategy = desk.strategy(capital_usd=1000)
    desk.fill("open", "100", strategy_id=strategy.id)
    desk.fill("open", "100", strategy_id=strategy.id, symbol="ETHUSDT")
    store.mark_positions("aster", "BTCUSDT", Decimal(200))
    with ThreadPoolExecutor(1) as pool:
        _close(slow, desk, strategy.id, "200")
        marked = _begun(lambda: store.mark_positions("aster", "ETHUSDT", Decimal(110)), sql, pool)
        slow.commit()
        assert marked.result(60) == 1

    context = store.get_strategy_context(strategy.id)

    assert context is not None
    assert (context.equity_usd, context.peak_equity_usd) == (Decimal(1110), Decimal(1110))
    assert context.drawdown_percent == 0


def test_who_takes_the_lease_over_finds_what_was_being_submitted(
    desk: Desk, store: Store, slow: Connection, sql: Sql
) -> None:
    def take_over() -> list[str]:
        store.release_webhook_lease("first")
        assert store.hold_webhook_lease("second", 60)
        return [row.status for row in store.list_unfinished_requests()]

    assert store.hold_webhook_lease("first", 600)
    desk.begin("r1")
    with ThreadPoolExecutor(1) as pool:
        assert slow.execute("select public.submit_request('first', 'r1', %s)", [desk.user_id]).fetchone() == (True,)
        found = _begun(take_over, sql, pool)
        slow.commit()
        assert found.result(60) == ["submitted"]

    assert not store.mark_request_submitted("first", "r1", desk.user_id)
