"""Writes a numbered migration from the functions' source, after trying it in a copy of the database."""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from engine.store.schema.migrate import read_migrations
from migrations.tool.catalogue import Function, read_dependants, read_functions
from migrations.tool.databases import apply_migrations, apply_source, connect, create_database
from migrations.tool.migration_text import describe_differences, write_migration
from migrations.tool.source import MigrationToolError, read_source

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME_LENGTH: Final = 60


def compare(server: str, migrations: Path) -> tuple[str, ...]:
    """Describes each function in which all migrations together differ from the source; () where they agree.

    `server` is as in `make_migration`. Raises MigrationToolError if migrations or source are invalid.
    """
    source = read_source(migrations / "functions")
    with create_database(server) as migrated:
        apply_migrations(migrated, migrations)
        with connect(migrated) as connection:
            before = read_functions(connection)
        with create_database(server, migrated) as wanted:
            apply_source(wanted, source)
            with connect(wanted) as connection:
                return describe_differences(before, read_functions(connection))


def make_migration(name: str, server: str, migrations: Path, now: datetime) -> Path | None:
    """Writes the changes of `migrations`/functions into a new file of `migrations`; None when there are none.

    `server` is the DSN of a server whose login may create databases; `now` is UTC. Raises MigrationToolError, with
    nothing written.
    """
    path = _build_path(name, migrations, now)
    source = read_source(migrations / "functions")
    with create_database(server) as migrated:
        apply_migrations(migrated, migrations)
        with connect(migrated) as connection:
            before, dependants = read_functions(connection), read_dependants(connection)
        with create_database(server, migrated) as wanted:
            created = apply_source(wanted, source)
            with connect(wanted) as connection:
                after = read_functions(connection)
        if before == after:
            return None
        text = write_migration(name.replace("_", " ").capitalize(), before, after, created, dependants)
        with create_database(server, migrated) as tried:
            _check_migration(tried, text, after, migrations)
    path.write_text(text, "utf-8")
    return path


def _build_path(name: str, migrations: Path, now: datetime) -> Path:
    """The migration's path, numbered by time as the Supabase CLI does, and above all others.

    Raises MigrationToolError for a `name` that is malformed or taken.
    """
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise MigrationToolError(
            f"NAME must be words in small letters with _ between them, such as exact_numbers, not {name!r}."
        )
    files = [migration.name for migration in read_migrations(migrations)]
    if any(file[15:] == f"{name}.sql" for file in files):
        raise MigrationToolError(f"There is already a migration called {name}: give this one a name of its own.")
    number = max(int(now.strftime("%Y%m%d%H%M%S")), *(int(file[:14]) + 1 for file in files))
    return migrations / f"{number}_{name}.sql"


def _check_migration(dsn: str, text: str, after: dict[str, Function], migrations: Path) -> None:
    """Runs the migration, then once more, then all of them again, and compares the functions after each run.

    All again, because `sparky migrate` runs every file on a database that `supabase db push` has migrated. Raises
    MigrationToolError if one run fails or leaves other functions than `after`.
    """
    everything = [migration.text for migration in read_migrations(migrations)]
    with connect(dsn) as connection:
        for texts, when in (([text], ""), ([text], " once more"), ([*everything, text], " after all others once more")):
            try:
                for statements in texts:
                    connection.execute(statements.encode())
            except psycopg.Error as error:
                reason = error.diag.message_primary
                raise MigrationToolError(f"The migration would fail when it ran{when}: {reason}.") from None
            differences = describe_differences(read_functions(connection), after)
            if differences:
                raise MigrationToolError(f"The migration would not do when it ran{when}: {differences[0]}.")
