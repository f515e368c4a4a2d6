"""`make migration` on a copy of our migrations: what it writes gives the source, and what it cannot write it says."""

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.schema.migrate import migrate, read_migrations
from migrations.tool.make_migration import compare, make_migration
from migrations.tool.source import MigrationToolError
from tests.migrations.tool.conftest import Copy

NOW = datetime(2030, 4, 5, 6, 7, 8, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FILE = "20300405060708_a_change.sql"
BODY = "-- Half of it.\ncreate or replace function public.half(p_value numeric) returns numeric\nlanguage sql immutable set search_path = '' as $$\n  select p_value / 2\n$$;\n"  # noqa: E501 - as it stands in a file
RIGHTS = "revoke execute on function public.half from public, anon, authenticated;\ngrant execute on function public.half to service_role;\n"  # noqa: E501 - as it stands in a file


class Tool:
    """`make migration` on the tests' server."""

    def __init__(self, copy: Copy, home: Path) -> None:
        self.copy = copy
        self.server = build_dsn(home, "postgres")

    def make(self, name: str = "a_change", now: datetime = NOW) -> str | None:
        path = make_migration(name, self.server, self.copy.folder, now)
        assert path is None or path.parent == self.copy.folder
        return None if path is None else path.read_text()

    def differences(self) -> tuple[str, ...]:
        return compare(self.server, self.copy.folder)

    def refusal(self) -> str:
        """Why nothing was written."""
        before = sorted(self.copy.folder.glob("*.sql"))
        with pytest.raises(MigrationToolError) as caught:
            self.make()
        assert sorted(self.copy.folder.glob("*.sql")) == before
        return str(caught.value)


@pytest.fixture
def tool(copy: Copy, postgres_home: Path) -> Tool:
    return Tool(copy, postgres_home)


def test_nothing_is_written_when_nothing_was_changed(tool: Tool) -> None:
    tool.copy.replace("01_values.sql", "-- The number, or null", "-- Any number, or null")

    assert tool.make() is None
    assert [migration.name for migration in read_migrations(tool.copy.folder)][-1] != FILE


def test_a_changed_body_is_written_with_its_comment_and_no_rights(tool: Tool) -> None:
    tool.copy.replace("01_values.sql", "when 'SELL' then 'SHORT'", "when 'SELL' then 'SHORT' when 'S' then 'SHORT'")
    (wrong,) = tool.differences()
    assert wrong == "public.position_side(text) has another text"

    text = tool.make()

    assert text is not None
    assert text.startswith("-- A change: functions as migrations/functions/ has them.\n")
    assert text.count("create or replace function") == 1
    assert "-- Rows of the original system say BUY and SELL" in text
    assert "revoke" not in text
    assert "drop" not in text
    assert tool.differences() == ()
    assert tool.make("another_change") is None


def test_a_new_function_is_written_with_its_rights(tool: Tool) -> None:
    tool.copy.add("99_new.sql", BODY + RIGHTS)

    text = tool.make()

    assert text is not None
    assert BODY.strip() in text
    assert "revoke execute on function\n  public.half(numeric)\n  from public, anon, authenticated;" in text
    assert "grant execute on function\n  public.half(numeric)\n  to service_role;" in text
    assert tool.differences() == ()


def test_functions_may_call_those_that_come_later(tool: Tool) -> None:
    calling = BODY.replace("half", "quarter").replace("p_value / 2\n", "public.half(p_value) / 2\n")
    tool.copy.add("98_new.sql", calling + RIGHTS.replace("half", "quarter"))
    tool.copy.add("99_new.sql", BODY + RIGHTS)

    assert tool.make() is not None
    assert tool.differences() == ()


def test_another_signature_is_another_function_and_the_old_one_goes(tool: Tool) -> None:
    tool.copy.replace(
        "10_marking.sql", "p_limit integer default 1000", "p_limit integer default 1000, p_last text default ''"
    )

    text = tool.make()

    assert text is not None
    old = "public.equity_series(uuid,boolean,timestamp with time zone,integer)"
    assert text.rindex(f"drop function if exists {old};") > text.index(
        "create or replace function public.equity_series("
    )
    assert "to service_role" in text
    assert tool.differences() == ()


def test_a_function_that_is_gone_is_dropped(tool: Tool) -> None:
    text = tool.copy.file("11_margin.sql").read_text()
    start = text.index("-- Those of all people.")
    end = text.index("$$;", start) + len("$$;\n")
    tool.copy.file("11_margin.sql").write_text((text[:start] + text[end:]).replace("public.paper_margins,", ""))

    written = tool.make()

    assert written is not None
    assert "drop function if exists public.paper_margins();" in written
    assert "create or replace" not in written
    assert tool.differences() == ()


def test_the_trigger_of_a_function_with_a_new_name_goes_with_it(tool: Tool, empty_database_url: str) -> None:
    for line in ("function public.check_notes()", "public.check_notes,", "public.check_notes\n"):
        if line in tool.copy.file("02_strategies.sql").read_text():
            tool.copy.replace("02_strategies.sql", line, line.replace("check_notes", "limit_notes"))

    text = tool.make()

    assert text is not None
    assert text.index("execute function public.limit_notes()") < text.index(
        "drop function if exists public.check_notes()"
    )
    migrate(empty_database_url, tool.copy.folder)
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute(
            "select tgfoid::regproc::text from pg_trigger where tgname = 'check_notes'"
        ).fetchall()
    assert found == [("limit_notes",)]


def test_rights_and_comments_alone_are_written_too(tool: Tool) -> None:
    tool.copy.add("99_new.sql", "grant execute on function public.health to authenticated;\n")
    tool.copy.add("99_new.sql", "comment on function public.health() is 'it''s well';\n")

    text = tool.make()

    assert text is not None
    assert "grant execute on function\n  public.health()\n  to authenticated, service_role;" in text
    assert "comment on function public.health() is 'it''s well';" in text
    assert "create or replace" not in text
    assert tool.differences() == ()


def test_an_index_is_made_again_with_its_function(tool: Tool) -> None:
    tool.copy.replace(
        "01_values.sql",
        "returns bigint\nlanguage sql immutable set search_path = '' as $$\n",
        "returns bigint\nlanguage sql immutable set search_path = '' as $$\n  -- The same.\n",
    )

    assert "reindex index public.fills_exits_idx;" in str(tool.make())


def test_the_number_is_later_than_the_last_even_where_the_clock_is_not(tool: Tool) -> None:
    last = [migration.name for migration in read_migrations(tool.copy.folder)][-1]
    tool.copy.add("99_new.sql", BODY + RIGHTS)

    tool.make(now=LONG_AGO)

    names = [migration.name for migration in read_migrations(tool.copy.folder)]
    assert names[-1] == f"{int(last[:14]) + 1}_a_change.sql"


@pytest.mark.parametrize("name", ["", "Big", "two words", "a__b", "a-b", "../a", "1a", "_a", "a" * 61, "ä"])
def test_a_name_is_words_in_small_letters(tool: Tool, name: str) -> None:
    with pytest.raises(MigrationToolError, match="NAME must be words in small letters"):
        tool.make(name)


def test_a_name_is_given_once(tool: Tool) -> None:
    with pytest.raises(MigrationToolError, match="There is already a migration called exact_numbers"):
        tool.make("exact_numbers")


def test_broken_sql_is_told_with_its_file_and_line(tool: Tool) -> None:
    tool.copy.add("99_new.sql", "\n" + BODY.replace("select p_value / 2", "selec p_value / 2") + RIGHTS)

    assert tool.refusal() == '99_new.sql:5: syntax error at or near "selec".'


def test_broken_plpgsql_is_told_with_its_file_and_line(tool: Tool) -> None:
    text = "create or replace function public.half() returns int language plpgsql as $$\nbegin\n  retrun 1;\nend\n$$;\n"
    tool.copy.add("99_new.sql", text + RIGHTS)

    assert tool.refusal().startswith("99_new.sql:3: ")


@pytest.mark.parametrize("language", ["sql", "plpgsql"])
def test_a_table_that_does_not_exist_is_told_with_its_file_and_line(tool: Tool, language: str) -> None:
    body = {"sql": "select count(*)\n  from public.nothing", "plpgsql": "begin\n  delete from public.nothing;\nend"}[
        language
    ]
    head = f"create or replace function public.half() returns bigint\nlanguage {language} as $$ -- public.nobody\n"
    tool.copy.add("99_new.sql", f"{head}{body}\n$$;\n{RIGHTS}")

    assert tool.refusal() in (
        '99_new.sql:4: relation "public.nothing" does not exist.',
        "99_new.sql:4: there is no table, type or function public.nothing.",
    )


def test_a_function_that_is_gone_and_still_called_is_told_where_it_is_called(tool: Tool) -> None:
    tool.copy.replace("08_booking.sql", "function public.lock_book(", "function public.lock_books(")
    tool.copy.replace("08_booking.sql", "public.book_fill, public.lock_book,", "public.book_fill, public.lock_books,")

    assert tool.refusal().endswith("there is no table, type or function public.lock_book.")


def test_a_quote_that_does_not_end_is_told_with_its_file_and_line(tool: Tool) -> None:
    tool.copy.add("99_new.sql", "comment on function public.health() is 'x\n;\n")

    assert tool.refusal().startswith("99_new.sql:1: unterminated quoted string")


def test_a_function_is_defined_once(tool: Tool) -> None:
    tool.copy.add("98_new.sql", "\n" + BODY + RIGHTS)
    tool.copy.add("99_new.sql", BODY)

    assert tool.refusal() == "99_new.sql:2: public.half is there already, in 98_new.sql:3."


def test_a_function_that_everybody_may_call_is_refused(tool: Tool) -> None:
    tool.copy.add("99_new.sql", BODY)

    assert tool.refusal().startswith("99_new.sql:2: everybody may call public.half")


def test_what_is_no_function_is_refused(tool: Tool) -> None:
    tool.copy.add("99_new.sql", "alter table public.fills add column extra text;\n")

    assert tool.refusal().startswith("99_new.sql:1: only `create or replace function")


@pytest.mark.parametrize(("old", "new"), [("p_value", "p_number"), ("returns numeric", "returns double precision")])
def test_a_function_that_postgres_cannot_replace_is_refused_with_a_way_out(tool: Tool, old: str, new: str) -> None:
    text = tool.copy.file("01_values.sql").read_text()
    function = text[text.index("function public.finite_or_null") :].partition("$$;")[0]
    tool.copy.replace("01_values.sql", function, function.replace(old, new))

    refusal = tool.refusal()

    assert refusal.startswith(
        "public.finite_or_null(numeric) has another result, other names of parameters or fewer defaults"
    )
    assert "give it another name" in refusal


def test_what_a_function_that_goes_is_used_by_is_told(tool: Tool) -> None:
    text = tool.copy.file("01_values.sql").read_text()
    tool.copy.file("01_values.sql").write_text(text.replace("public.market_ms", "public.venue_ms"))
    for file in tool.copy.folder.glob("functions/*.sql"):
        file.write_text(file.read_text().replace("public.market_ms(", "public.venue_ms("))

    assert "is used by index" in tool.refusal()
