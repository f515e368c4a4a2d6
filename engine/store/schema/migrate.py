"""Applies migrations: forward only, each once; may be repeated and run concurrently."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import psycopg

from engine.platform.errors import ConfigurationError
from engine.store.schema.rights import describe_missing_rights
from engine.store.transport.postgres import Connection, build_transaction_settings, connect, translate_error

_ADVISORY_LOCK_KEY: Final = 0x53504152  # the same for every process that migrates
_MIN_TRANSACTION_TIMEOUT_VERSION: Final = 170_000
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
    """Names in order; `edited` are those whose text has changed since they ran."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    edited: tuple[str, ...]


def migrate(dsn: str, folder: Traversable | None = None) -> tuple[str, ...]:
    """Applies what is pending, each file in one transaction; returns the names applied now.

    Raises ConfigurationError, having applied nothing, if a file was edited after it ran or the login lacks a right (the
    sentence holds the statements that an administrator must run), and if a file fails; UpstreamUnavailable if the
    database cannot be reached.
    """
    migrations = read_migrations(folder)
    with connect(dsn, timeout_s=_MIGRATION_TIMEOUT_S) as connection:
        try:
            pending = _prepare_pending(connection, migrations)
            return tuple(migration.name for migration in pending if _apply(connection, migration))
        except psycopg.Error as error:
            raise translate_error(error) from None


def get_migration_status(dsn: str, folder: Traversable | None = None) -> MigrationStatus:
    """What has been applied and what has not; changes nothing."""
    with connect(dsn) as connection:
        try:
            applied = _fetch_applied(connection)
        except psycopg.Error as error:
            raise translate_error(error) from None
    return _build_status(read_migrations(folder), applied)


def read_migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """The `*.sql` files of `folder` (the package's own by default) in the order of their names."""
    paths = [path for path in (folder or files("migrations")).iterdir() if path.name.endswith(".sql")]
    return tuple(Migration(path.name, path.read_text("utf-8")) for path in sorted(paths, key=lambda path: path.name))


def _prepare_pending(connection: Connection, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    """The pending migrations, after checking the login's rights and creating the table of migrations.

    Raises ConfigurationError.
    """
    with _exclusive_transaction(connection):
        missing = describe_missing_rights(connection)
        if missing is not None and not _is_current(connection, migrations):
            raise ConfigurationError(missing)
        status = _build_status(migrations, _fetch_applied(connection))
        _refuse_edited(status)
        if status.pending:
            _create_migrations_table(connection)
    return tuple(migration for migration in migrations if migration.name in status.pending)


def _is_current(connection: Connection, migrations: tuple[Migration, ...]) -> bool:
    """Whether nothing is pending, for a login that may only read the table of migrations."""
    query = "select has_table_privilege(to_regclass('public.sparky_migrations'), 'select')"
    (may_read,) = connection.execute(query).fetchone() or (False,)
    return bool(may_read) and not _build_status(migrations, _fetch_applied(connection)).pending


@contextmanager
def _exclusive_transaction(connection: Connection) -> Iterator[None]:
    """A transaction under the advisory lock of migrations, which leaves nothing behind on a pooled connection.

    It overrides timeouts and search path of server, database and role.
    """
    settings = "set local lock_timeout = 0; set local idle_in_transaction_session_timeout = 0; "
    settings += "set local search_path = public; "
    if connection.info.server_version >= _MIN_TRANSACTION_TIMEOUT_VERSION:
        settings += "set local transaction_timeout = 0; "
    begin = b"begin; " + build_transaction_settings(connection, _MIGRATION_TIMEOUT_S) + settings.encode()
    try:
        connection.execute(begin + f"select pg_advisory_xact_lock({_ADVISORY_LOCK_KEY})".encode())
        yield
    except BaseException:
        with suppress(psycopg.Error):
            connection.rollback()
        raise
    connection.commit()


def _create_migrations_table(connection: Connection) -> None:
    (has_public,) = connection.execute("select to_regnamespace('public') is not null").fetchone() or (False,)
    if not has_public:
        connection.execute("create schema public")
    connection.execute("""
        create table if not exists public.sparky_migrations (
          name text primary key, checksum text not null, applied_at timestamptz not null default clock_timestamp()
        )""")
    connection.execute("alter table public.sparky_migrations enable row level security")


def _fetch_applied(connection: Connection) -> dict[str, str]:
    (exists,) = connection.execute("select to_regclass('public.sparky_migrations') is not null").fetchone() or (False,)
    return dict(connection.execute("select name, checksum from public.sparky_migrations").fetchall()) if exists else {}


def _build_status(migrations: tuple[Migration, ...], applied: dict[str, str]) -> MigrationStatus:
    return MigrationStatus(
        applied=tuple(sorted(applied)),
        pending=tuple(m.name for m in migrations if m.name not in applied),
        edited=tuple(m.name for m in migrations if applied.get(m.name, m.checksum) != m.checksum),
    )


def _refuse_edited(status: MigrationStatus) -> None:
    if status.edited:
        raise ConfigurationError(
            f"Migration {status.edited[0]} was edited after it ran here, so nothing was applied: "
            "restore its text and put the change into a new migration."
        )


def _apply(connection: Connection, migration: Migration) -> bool:
    """False if another process has applied it meanwhile. Raises ConfigurationError, having rolled back, if it fails."""
    try:
        with _exclusive_transaction(connection):
            if migration.name in _fetch_applied(connection):
                return False
            # No parameters: the whole file is one simple query, as psql would send it.
            connection.execute(migration.text.encode())
            connection.execute(
                "insert into public.sparky_migrations (name, checksum) values (%s, %s)",
                [migration.name, migration.checksum],
            )
    except (psycopg.errors.OperationalError, psycopg.errors.InterfaceError):
        raise
    except psycopg.Error as error:
        raise ConfigurationError(
            f"Migration {migration.name} failed and was rolled back: {error.diag.message_primary}."
        ) from None
    return True
