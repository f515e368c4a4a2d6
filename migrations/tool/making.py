"""Writes a numbered migration from the functions' source, after trying it in a copy of the database."""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from engine.store.schema.migrate import read_migrations
from migrations.tool.catalogue import Function, dependants_of, functions_of
from migrations.tool.databases import apply_migrations, apply_source, connect, database
from migrations.tool.source import CannotWrite, read_source
from migrations.tool.writing import differences, write_migration

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST_NAME: Final = 60


def compare(server: str, migrations: Path) -> tuple[str, ...]:
    """Each function in which all migrations together differ from the source. Raises CannotWrite if either is broken."""
    source = read_source(migrations / "functions")
    with database(server) as migrated:
        apply_migrations(migrated, migrations)
        with connect(migrated) as connection:
            before = functions_of(connection)
        with database(server, migrated) as wanted:
            apply_source(wanted, source)
            with connect(wanted) as connection:
                return differences(before, functions_of(connection))


def make_migration(name: str, server: str, migrations: Path, now: datetime) -> Path | None:
    """Writes what changed in `migrations`/functions into a new file of `migrations`; None when nothing did.

    `server` is the DSN of a server that may make databases; `now` is UTC. Raises CannotWrite, having written nothing.
    """
    path = _path(name, migrations, now)
    source = read_source(migrations / "functions")
    with database(server) as migrated:
        apply_migrations(migrated, migrations)
        with connect(migrated) as connection:
            before, dependants = functions_of(connection), dependants_of(connection)
        with database(server, migrated) as wanted:
            created = apply_source(wanted, source)
            with connect(wanted) as connection:
                after = functions_of(connection)
        if before == after:
            return None
        text = write_migration(name.replace("_", " ").capitalize(), before, after, created, dependants)
        with database(server, migrated) as tried:
            _try(tried, text, after, migrations)
    path.write_text(text, "utf-8")
    return path


def _path(name: str, migrations: Path, now: datetime) -> Path:
    """The migration's path: numbered by time as the Supabase CLI does, and after all others. Raises CannotWrite."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise CannotWrite(
            f"NAME must be words in small letters with _ between them, such as exact_numbers, not {name!r}."
        )
    files = [migration.name for migration in read_migrations(migrations)]
    if any(file[15:] == f"{name}.sql" for file in files):
        raise CannotWrite(f"There is already a migration called {name}: give this one a name of its own.")
    number = max(int(now.strftime("%Y%m%d%H%M%S")), *(int(file[:14]) + 1 for file in files))
    return migrations / f"{number}_{name}.sql"


def _try(dsn: str, text: str, after: dict[str, Function], migrations: Path) -> None:
    """Runs the migration, then once more, then all of them: `sparky migrate` does that after `supabase db push`."""
    everything = [migration.text for migration in read_migrations(migrations)]
    with connect(dsn) as connection:
        for texts, when in (([text], ""), ([text], " once more"), ([*everything, text], " after all others once more")):
            try:
                for each in texts:
                    connection.execute(each.encode())
            except psycopg.Error as error:
                reason = error.diag.message_primary
                raise CannotWrite(f"The migration would fail when it ran{when}: {reason}.") from None
            wrong = differences(functions_of(connection), after)
            if wrong:
                raise CannotWrite(f"The migration would not do when it ran{when}: {wrong[0]}.")
