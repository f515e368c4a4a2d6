"""Brings a database to the schema of this version: forward only, once each, safe to repeat and to run twice at once."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from engine.errors import BadConfiguration
from engine.store.postgres import Connection, connect, translated

_LOCK: Final = 0x53504152  # one number for everybody who migrates this database
_MIGRATION_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True)
class Migration:
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class MigrationStatus:
    """Names in order; `edited` are those whose text is another than when they ran."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    edited: tuple[str, ...]


def migrate(dsn: str, folder: Traversable | None = None) -> tuple[str, ...]:
    """Applies what is pending, each file in one transaction; returns the names applied now.

    Raises BadConfiguration, having applied nothing, if a file was edited after it ran, and if a file fails;
    UpstreamUnavailable if the database cannot be reached.
    """
    migrations = read_migrations(folder)
    with connect(dsn, timeout_s=_MIGRATION_TIMEOUT_S) as connection:
        try:
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
            _create_record(connection)
            status = _compare(migrations, _applied(connection))
            _refuse_edited(status)
            for migration in migrations:
                if migration.name in status.pending:
                    _apply(connection, migration)
        except psycopg.Error as error:
            raise translated(error) from None
    return status.pending


def status(dsn: str, folder: Traversable | None = None) -> MigrationStatus:
    """What has been applied and what has not; changes nothing."""
    with connect(dsn) as connection:
        try:
            exists = connection.execute("select to_regclass('public.sparky_migrations') is not null").fetchone()
            applied = _applied(connection) if exists and exists[0] else {}
        except psycopg.Error as error:
            raise translated(error) from None
    return _compare(read_migrations(folder), applied)


def read_migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """The `*.sql` files of `folder` (the package's own by default) in the order of their names."""
    found = [path for path in (folder or files("migrations")).iterdir() if path.name.endswith(".sql")]
    return tuple(Migration(path.name, path.read_text("utf-8")) for path in sorted(found, key=lambda path: path.name))


def _create_record(connection: Connection) -> None:
    connection.execute("""
        create table if not exists public.sparky_migrations (
          name text primary key, checksum text not null, applied_at timestamptz not null default clock_timestamp()
        )""")
    connection.execute("alter table public.sparky_migrations enable row level security")


def _applied(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("select name, checksum from public.sparky_migrations").fetchall())


def _compare(migrations: tuple[Migration, ...], applied: dict[str, str]) -> MigrationStatus:
    return MigrationStatus(
        applied=tuple(sorted(applied)),
        pending=tuple(m.name for m in migrations if m.name not in applied),
        edited=tuple(m.name for m in migrations if applied.get(m.name, m.checksum) != m.checksum),
    )


def _refuse_edited(status: MigrationStatus) -> None:
    if status.edited:
        raise BadConfiguration(
            f"Migration {status.edited[0]} was edited after it ran here, so nothing was applied: "
            "restore its text and put the change into a new migration."
        )


def _apply(connection: Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            # No parameters: the whole file is one simple query, as psql would send it.
            connection.execute(migration.text.encode())
            connection.execute(
                "insert into public.sparky_migrations (name, checksum) values (%s, %s)",
                [migration.name, migration.checksum],
            )
    except (psycopg.errors.OperationalError, psycopg.errors.InterfaceError):
        raise
    except psycopg.Error as error:
        raise BadConfiguration(
            f"Migration {migration.name} failed and was rolled back: {error.diag.message_primary}."
        ) from None
