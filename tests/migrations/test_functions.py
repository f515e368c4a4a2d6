"""The functions of a migrated database are those of migrations/functions/, neither more nor others."""

from pathlib import Path

from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.schema.migrate import read_migrations
from migrations.tool.make_migration import compare

MIGRATIONS = Path(__file__).parents[2] / "migrations"
LONGEST = 300
HINT = "migrations and migrations/functions/ differ: `make migration NAME=...` writes what was changed there"


def test_all_migrations_together_give_exactly_the_source_of_the_functions(postgres_home: Path) -> None:
    assert compare(build_dsn(postgres_home, "postgres"), MIGRATIONS) == (), HINT


def test_the_source_is_no_migration_and_none_of_its_files_is_long() -> None:
    files = sorted((MIGRATIONS / "functions").glob("*.sql"))

    assert not {file.name for file in files} & {migration.name for migration in read_migrations()}
    assert [file.name for file in files if len(file.read_text().splitlines()) > LONGEST] == []
