"""Migrations run once each, whoever runs them, and add to what is there."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest

from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.store.cycles import DecisionRecord
from engine.store.schema.migrate import get_migration_status, migrate, read_migrations
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from engine.store.webhook_rows import BookedFill, Fill
from tests.support.factories.signals import new_signal

OLD_USER = UUID("11111111-1111-1111-1111-111111111111")
OLD_STRATEGY = UUID("22222222-2222-2222-2222-222222222222")
ORIGINAL = Path(__file__).parent / "original_system.sql"
FIRST_SCHEMA_END = "20260102"
TABLES = ("ai_strategies", "ai_trade_log", "bot_credentials", "positions", "trades", "trade_settings_exchange")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations that a test may change."""
    for migration in read_migrations():
        (tmp_path / migration.name).write_text(migration.text)
    return tmp_path


def _tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")}


def test_names_are_those_of_the_supabase_cli() -> None:
    names = [migration.name for migration in read_migrations()]

    assert names == sorted(names)
    assert all(name[:14].isdigit() and name[14] == "_" and name.endswith(".sql") for name in names)


def test_migrating_again_applies_nothing(empty_database_url: str) -> None:
    everything = tuple(migration.name for migration in read_migrations())
    assert get_migration_status(empty_database_url).pending == everything

    assert migrate(empty_database_url) == everything

    assert migrate(empty_database_url) == ()
    assert get_migration_status(empty_database_url).applied == everything
    assert get_migration_status(empty_database_url).pending == ()


def test_many_who_migrate_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    barrier = Barrier(4)

    def run(_: int) -> tuple[str, ...]:
        barrier.wait(30)
        return migrate(empty_database_url)

    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(run, range(4)))

    assert sorted(name for names in applied for name in names) == [migration.name for migration in read_migrations()]


def test_every_migration_may_run_on_top_of_itself(database_url: str) -> None:
    """`supabase db push` may have applied them already, without our record of it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("drop table sparky_migrations")

    assert migrate(database_url) == tuple(migration.name for migration in read_migrations())


def test_an_edited_migration_is_named_and_nothing_is_applied(empty_database_url: str, folder: Path) -> None:
    migrate(empty_database_url, folder)
    edited = read_migrations()[3].name
    with (folder / edited).open("a") as file:
        file.write("\n-- another thought\n")
    (folder / "20990101000000_new.sql").write_text("create table newer (id int);")

    with pytest.raises(
        ConfigurationError, match=f"Migration {edited} was edited after it ran here, so nothing was applied"
    ):
        migrate(empty_database_url, folder)

    assert "newer" not in _tables(empty_database_url)
    assert get_migration_status(empty_database_url, folder).edited == (edited,)


def test_a_migration_that_fails_is_rolled_back_and_the_ones_before_it_stay(
    empty_database_url: str, folder: Path
) -> None:
    (folder / "20990101000000_good.sql").write_text("create table good (id int);")
    (folder / "20990101000001_bad.sql").write_text("create table half (id int); select 1 / 0;")

    with pytest.raises(
        ConfigurationError, match=r"20990101000001_bad\.sql failed and was rolled back: division by zero"
    ):
        migrate(empty_database_url, folder)

    assert "good" in _tables(empty_database_url)
    assert "half" not in _tables(empty_database_url)
    assert get_migration_status(empty_database_url, folder).pending == ("20990101000001_bad.sql",)


def test_a_database_that_is_down_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"^database: .*No such file") as caught:
        migrate(f"postgresql://postgres@/sparky?host={tmp_path}")

    assert "\n" not in str(caught.value)


def test_the_originals_tables_are_extended_and_their_rows_kept(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(ORIGINAL.read_bytes())
        before = _contents(connection)

        migrate(empty_database_url)

        after = _contents(connection)
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert old.items() <= new.items()


def test_the_original_rows_are_understood(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(ORIGINAL.read_bytes())
    migrate(empty_database_url)

    with Store(PostgresRpc(empty_database_url, keep=True)) as store:
        (position,) = store.list_open_positions()
        assert (position.side, position.is_paper, position.quantity) == (Side.LONG, False, Decimal("0.01"))
        context = store.get_strategy_context(OLD_STRATEGY)
        assert context is not None
        assert context.equity_usd == Decimal("10100.25")
        assert store.list_webhook_secrets(OLD_USER)[0].get_secret_value() == "old-secret"
        assert store.list_unfinished_requests() == ()
        settings = store.get_portfolio(OLD_USER, "aster", None, is_paper=False).settings
        assert settings is not None
        assert settings.max_position_size_usd == Decimal(600)

        assert _close(store).pnl_usd == Decimal("9.9")
        context = store.get_strategy_context(OLD_STRATEGY)
        assert context is not None
        assert context.equity_usd == Decimal("10110.15")


def test_an_exchange_of_the_original_is_the_same_in_any_spelling(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(ORIGINAL.read_bytes())
        connection.execute("update positions set exchange = 'Aster'")
        connection.execute("update trades set exchange = 'ASTER', exit_time = now() + interval '1 hour'")
        connection.execute("update trade_settings_exchange set exchange = 'aSter', max_daily_loss_usd = 100")
        migrate(empty_database_url)
        connection.execute("update ai_strategies set exchange = 'Aster'")

    with Store(PostgresRpc(empty_database_url, keep=True)) as store:
        (position,) = store.list_open_positions(exchange="aster")
        assert position.exchange == "aster"
        assert [account.exchange for account in store.list_live_accounts()] == ["aster"]
        assert store.mark_positions("aster", "BTCUSDT", Decimal(20000)) == 1
        assert store.report_reconciliation(OLD_USER, "aster", {"BTCUSDT": Decimal("0.01")}) == ()
        portfolio = store.get_portfolio(OLD_USER, "aster", OLD_STRATEGY, is_paper=False)
        assert portfolio.realized_pnl_today_usd == Decimal("100.25")
        assert (portfolio.open_position_count, len(portfolio.open_positions)) == (1, 1)
        assert portfolio.strategy is not None
        assert portfolio.strategy.exchange == "aster"
        _close(store)
        assert store.list_open_positions() == ()


def test_an_original_row_without_a_drawdown_limit_enters_nothing(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(ORIGINAL.read_bytes())
        connection.execute("update ai_strategies set max_drawdown_percent = null")
    migrate(empty_database_url)
    size = Decimal(100)
    record = DecisionRecord(action=Action.LONG, symbol="BTCUSDT", size_usd=size, confidence=0.7)
    decision_id = uuid4()
    signal = new_signal(OLD_USER, OLD_STRATEGY, decision_id, size_usd=size)

    with Store(PostgresRpc(empty_database_url, keep=True)) as store:
        recorded = store.record_decision(decision_id, OLD_STRATEGY, record, signal)

    assert recorded.signal_id is None
    assert recorded.suppressed is not None


def test_two_strategies_may_hold_one_symbol_where_the_original_allowed_one(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(ORIGINAL.read_bytes())
        connection.execute("create unique index old_habit on positions (symbol, user_id)")
        migrate(empty_database_url)

        connection.execute(
            "insert into positions (user_id, exchange, symbol, side, entry_price, quantity) "
            "values (%s, 'aster', 'BTCUSDT', 'SHORT', 1, 1)",
            [OLD_USER],
        )


def test_every_function_stands_once_in_a_migration_and_in_one_place_of_the_first_schema() -> None:
    """What is released is never edited: a later migration creates a function again, and the last text is in force."""
    created = {
        migration.name: re.findall(r"create or replace function (public\.\w+)", migration.text)
        for migration in read_migrations()
    }
    first = Counter(name for file, names in created.items() if file < FIRST_SCHEMA_END for name in names)

    assert len(first) > 50
    assert [name for name, number in first.items() if number > 1] == []
    assert [file for file, names in created.items() if len(set(names)) < len(names)] == []


def test_no_migration_takes_a_table_a_column_or_a_row_away() -> None:
    everything = "".join(migration.text for migration in read_migrations())
    outside_functions = re.sub(r"create or replace function .*?\n\$\$;", "", everything, flags=re.DOTALL)

    assert re.findall(r"\b(drop table|drop column|alter column|truncate|delete from)\b", outside_functions) == []


def test_migrations_are_packaged() -> None:
    assert files("migrations").is_dir()
    assert len(read_migrations()) >= 10


def _close(store: Store) -> BookedFill:
    store.begin_execution(None, "r1", OLD_USER, OLD_STRATEGY, "aster", "BTCUSDT", "CLOSE", "f", {}, is_paper=False)
    fill = Fill.model_validate(
        {
            "kind": "close",
            "exchange": "aster",
            "symbol": "BTCUSDT",
            "side": "LONG",
            "quantity": "0.01",
            "price": "21000.5",
            "fee_usd": "0.1",
            "is_paper": False,
            "strategy_id": OLD_STRATEGY,
        }
    )
    return store.book_fill("r1", OLD_USER, fill, 200, {})


def _contents(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for table in TABLES:
        query = f"select to_jsonb(t) from public.{table} t order by id"  # noqa: S608 - our own tables
        rows = connection.execute(query.encode()).fetchall()
        found[table] = [row[0] for row in rows if isinstance(row[0], dict)]
    return found
