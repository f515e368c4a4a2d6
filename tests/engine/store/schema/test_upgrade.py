"""A home that the release of commit 92d63f9 made and filled is upgraded: its rows stay what they were, and today's
functions work on them. Its migrations are the files up to 20260102, which test_released_migrations.py holds to what
they were."""

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from engine.store.schema.migrate import get_migration_status, migrate, read_migrations
from engine.store.transport.postgres import PostgresRpc
from tests.support.clients.sql import Sql, as_owner

HOME = Path(__file__).parent / "home_of_92d63f9.sql"
FIRST_SCHEMA_END = "20260102"
FIRST, SECOND = (UUID(f"10000000-0000-0000-0000-00000000000{n}") for n in (1, 2))
ON_PAPER, LIVE = (UUID(f"20000000-0000-0000-0000-00000000000{n}") for n in (1, 2))
WAITING, NEVER_CLAIMED = (UUID(f"30000000-0000-0000-0000-00000000000{n}") for n in (4, 5))

Rows = dict[str, list[dict[str, object]]]


def _contents(address: str) -> Rows:
    """All rows of all tables with all their columns, by table."""
    found: Rows = {}
    with psycopg.connect(address) as connection, connection.cursor(row_factory=dict_row) as cursor:
        tables = connection.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('public', 'auth') order by 2"
        ).fetchall()
        for table in tables:
            everything = sql.SQL("select * from {}").format(sql.Identifier(*table))
            found[str(table[1])] = cursor.execute(everything).fetchall()
    return found


@pytest.fixture
def old_home(empty_database_url: str, tmp_path: Path) -> str:
    """A database with the schema and the rows of that release."""
    for migration in read_migrations():
        if migration.name < FIRST_SCHEMA_END:
            (tmp_path / migration.name).write_text(migration.text)
    migrate(empty_database_url, tmp_path)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(HOME.read_bytes())
    return empty_database_url


@pytest.fixture
def upgraded(old_home: str) -> str:
    migrate(old_home)
    return old_home


@pytest.fixture
def rpc(upgraded: str) -> Iterator[PostgresRpc]:
    with closing(PostgresRpc(upgraded, keep=True)) as opened:
        yield opened


@pytest.fixture
def owner(upgraded: str) -> Iterator[Sql]:
    with as_owner(upgraded) as run:
        yield run


def test_every_row_of_every_table_keeps_its_values(old_home: str) -> None:
    before = _contents(old_home)
    assert [table for table, rows in before.items() if not rows] == []
    assert len(before) > 15

    migrate(old_home)

    after = _contents(old_home)
    for table, rows in before.items():
        assert [row for row in rows if not any(row.items() <= each.items() for each in after[table])] == []
        assert table == "sparky_migrations" or len(after[table]) == len(rows)
    assert get_migration_status(old_home).pending == ()


def test_the_strategies_run_on_with_what_they_earned(rpc: PostgresRpc) -> None:
    assert [row["name"] for row in rpc.call("running_strategies")] == ["on paper", "live"]
    context = rpc.call("strategy_context", strategy_id=ON_PAPER)
    assert context["strategy"]["exchange"] == "aster"
    assert context["equity_usd"] > context["strategy"]["capital_usd"]
    assert context["strategy"]["rules"]["max_entry_percent"] == 100
    record = {"action": "HOLD", "symbol": "BTCUSDT"}
    recorded = rpc.call("record_decision", decision_id=uuid4(), strategy_id=LIVE, record=record, payload=None)
    assert (recorded["signal_id"], recorded["suppressed"]) == (None, None)


def test_what_was_held_is_held_and_ends_in_todays_books(rpc: PostgresRpc, owner: Sql) -> None:
    held = {(row["strategy_id"], row["symbol"]): row for row in rpc.call("open_positions")}
    assert held.keys() == {(str(ON_PAPER), "BTCUSDT"), (str(LIVE), "BTCUSDT"), (None, "SOLUSDT")}
    assert held[str(ON_PAPER), "BTCUSDT"]["quantity"] == Decimal("0.04172842")
    assert held[str(LIVE), "BTCUSDT"]["stop_loss_client_order_id"] == "sparky-2"

    gained, fees = Decimal(500) * Decimal("0.5"), Decimal(5 + 5)
    assert _close(rpc, LIVE, "BTCUSDT", "LONG", "0.5", "20500") == gained - fees
    gained, fees = Decimal("9.99") * Decimal("12.25"), Decimal("0.5") + 5
    assert _close(rpc, None, "SOLUSDT", "SHORT", "12.25", "90") == gained - fees
    _close(rpc, ON_PAPER, "BTCUSDT", "LONG", "0.04172842", "20000")

    assert rpc.call("open_positions") == []
    ledgers = "select l.is_paper, l.realized_pnl_usd from strategy_ledger l order by 1"
    traded = "select t.is_paper, sum(t.pnl_usd) from trades t where t.strategy_id is not null group by 1 order by 1"
    assert owner(ledgers) == owner(traded)


def test_signals_that_waited_are_claimed_and_settled(rpc: PostgresRpc, owner: Sql) -> None:
    claimed = rpc.call("claim_signals", owner="new-dispatcher", limit=10, lease_s=60.0)

    assert [(signal["id"], signal["attempts"]) for signal in claimed] == [(str(WAITING), 2), (str(NEVER_CLAIMED), 1)]
    settlements = [{"signal_id": signal["id"], "outcome": "delivered", "status": 200} for signal in claimed]
    settled = rpc.call("settle_signals", owner="new-dispatcher", settlements=settlements)
    assert sorted(settled) == [str(WAITING), str(NEVER_CLAIMED)]
    attempts = owner("select attempt, outcome from signal_attempts where signal_id = %s order by id", WAITING)
    assert attempts == [(1, "retry"), (2, "delivered")]


def test_a_request_of_before_is_answered_as_it_was_and_one_under_way_is_found(rpc: PostgresRpc) -> None:
    began = _begin(rpc, "live", LIVE, "BTCUSDT", "BUY", fingerprint="f4")
    assert (began["state"], began["status"], began["answer"]) == ("done", 200, {"success": True})
    assert _begin(rpc, "live", LIVE, "BTCUSDT", "BUY", fingerprint="another")["state"] == "conflict"
    assert [(row["request_id"], row["user_id"]) for row in rpc.call("unfinished_requests")] == [
        ("unknown", str(SECOND))
    ]


def test_what_guards_a_person_guards_on(rpc: PostgresRpc) -> None:
    own = {"exchange": "binance", "strategy_id": None, "is_paper": True}
    assert rpc.call("portfolio", user_id=SECOND, **own)["killed_by"] == "user"
    assert rpc.call("portfolio", user_id=SECOND, **own)["settings"]["kill_switch"] is True
    assert [switch["reason"] for switch in rpc.call("kill_switches")] == ["on holiday", None]
    differences = [(row["user_id"], row["symbol"], row["at_venue"]) for row in rpc.call("open_differences")]
    assert differences == [(str(SECOND), "BNBUSDT", Decimal("-0.25"))]
    assert rpc.call("user_by_secret_digest", secret_sha256=sha256(b"clear secret").hexdigest()) == str(FIRST)


def _begin(
    rpc: PostgresRpc, request_id: str, strategy: UUID | None, symbol: str, action: str, *, fingerprint: str = "f"
) -> dict[str, Any]:
    began: dict[str, Any] = rpc.call(
        "begin_execution",
        server=None,
        request_id=request_id,
        user_id=FIRST,
        strategy_id=strategy,
        exchange="aster",
        symbol=symbol,
        action=action,
        fingerprint=fingerprint,
        payload={},
        ignore_unsettled=[],
        is_paper=strategy == ON_PAPER,
    )
    return began


def _close(rpc: PostgresRpc, strategy: UUID | None, symbol: str, side: str, quantity: str, price: str) -> object:
    """Books an exit with a fee of 5; its P&L."""
    request_id = f"close-{strategy}-{symbol}"
    assert _begin(rpc, request_id, strategy, symbol, "CLOSE")["state"] == "new"
    fill = {
        "kind": "close",
        "exchange": "aster",
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "price": price,
        "fee_usd": 5,
        "leverage": 1,
        "is_paper": strategy == ON_PAPER,
        "strategy_id": None if strategy is None else str(strategy),
    }
    booked = rpc.call("book_fill", request_id=request_id, user_id=FIRST, fill=fill, status=200, answer={})
    return booked["pnl_usd"]
