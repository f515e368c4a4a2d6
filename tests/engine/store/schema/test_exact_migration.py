"""Columns of the books become exact in a database that has rows, and views over them."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from engine.platform.errors import ConfigurationError
from engine.store.schema.migrate import migrate, read_migrations

EXACT = "20261127000700_exact_numbers.sql"
USER = "11111111-1111-1111-1111-111111111111"
TABLES = ["positions", "trades", "fills", "strategy_ledger", "equity_points", "reconciliation_differences"]

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def before(empty_database_url: str, tmp_path: Path) -> Iterator[Connection]:
    """A database of the release before, with one position."""
    for migration in read_migrations():
        if migration.name < EXACT:
            (tmp_path / migration.name).write_text(migration.text)
    migrate(empty_database_url, tmp_path)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("insert into auth.users (id, email) values (%s, 'a@example.org')", [USER])
        _hold(connection, "BTCUSDT", "1.25")
        yield connection


def _hold(connection: Connection, symbol: str, price: str) -> None:
    connection.execute(
        "insert into positions (user_id, exchange, symbol, side, entry_price, quantity, cost_usd) "
        "values (%s, 'aster', %s, 'LONG', %s, 8, 10)",
        [USER, symbol, price],
    )


def _rounding(connection: Connection) -> list[tuple[object, ...]]:
    """Columns of the books that still round."""
    return connection.execute(
        "select table_name, column_name from information_schema.columns "
        "where table_schema = 'public' and table_name = any (%s) "
        "and data_type = 'numeric' and numeric_scale is not null",
        [TABLES],
    ).fetchall()


def test_no_column_of_the_books_rounds_and_rows_stay_what_they_were(
    empty_database_url: str, before: Connection
) -> None:
    later = "'{funding_usd,margin_mode,liquidation_price,watched_until_ms}'::text[]"  # columns of later migrations
    told = f"select to_jsonb(p) - {later} from positions p"  # noqa: S608 - the test's own text
    rows = before.execute(told).fetchall()
    files = before.execute("select pg_relation_filenode('positions'), pg_relation_filenode('trades')").fetchone()
    assert _rounding(before) != []

    migrate(empty_database_url)

    assert _rounding(before) == []
    assert before.execute(told).fetchall() == rows
    _hold(before, "TINYUSDT", "0.000000000007")
    (kept,) = before.execute("select entry_price from positions where symbol = 'TINYUSDT'").fetchone() or (None,)
    assert kept == Decimal("0.000000000007")
    now = before.execute("select pg_relation_filenode('positions'), pg_relation_filenode('trades')").fetchone()
    assert now == files, "a table was written anew"


def test_rows_that_are_no_numbers_stop_nothing(empty_database_url: str, before: Connection) -> None:
    _hold(before, "ODDUSDT", "NaN")

    migrate(empty_database_url)

    before.execute("update positions set notes = 'looked at'")
    assert before.execute("select count(*) from positions where notes is not null").fetchone() == (2,)


def test_views_over_the_books_are_there_afterwards_as_they_were(empty_database_url: str, before: Connection) -> None:
    before.execute("create view held with (security_invoker = true) as select symbol, entry_price from positions")
    before.execute("create view twice as select symbol, entry_price * 2 as doubled from held")
    before.execute("create view others as select id from auth.users")
    before.execute("comment on view held is 'what is held'")
    before.execute(
        "grant select on held to authenticated; grant select, update on twice to service_role with grant option"
    )
    shown = (
        "select relname, reloptions, obj_description(oid), relowner, pg_get_viewdef(oid), "
        "array(select g::text from aclexplode(coalesce(relacl, acldefault('r', relowner))) g order by 1) "
        "from pg_class where relkind = 'v' and relnamespace = 'public'::regnamespace order by relname"
    )
    views = before.execute(shown).fetchall()

    migrate(empty_database_url)

    assert before.execute(shown).fetchall() == views
    _hold(before, "TINYUSDT", "0.000000000007")
    assert before.execute("select doubled from twice where symbol = 'TINYUSDT'").fetchone() == (
        Decimal("0.000000000014"),
    )


def test_what_cannot_be_made_again_is_named_and_nothing_is_changed(empty_database_url: str, before: Connection) -> None:
    before.execute("create materialized view monthly as select sum(pnl_usd) from trades")

    with pytest.raises(
        ConfigurationError, match=r"materialized view monthly uses .*drop it, migrate, and make it again"
    ):
        migrate(empty_database_url)

    assert _rounding(before) != []
    before.execute("drop materialized view monthly")
    migrate(empty_database_url)
    assert _rounding(before) == []
