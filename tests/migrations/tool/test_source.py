"""What the files of migrations/functions/ may hold, and how what they may not is told."""

from pathlib import Path

import pytest

from migrations.tool.source import MigrationToolError, read_source

TWO = """-- What this file is about.

-- The first; its body says what is no end: ;
create or replace function public.first(p_text text) returns text
language sql as $$
  select 'it''s; -- no comment' || "a;b" /* nor; this */ from public.t -- one; more
$$;

create or replace function public.second() returns text language plpgsql as $body$
begin
  return $$;$$;
end
$body$;
comment on function public.second() is 'a;b';

revoke execute on function public.first, public.second from public, anon, authenticated;
grant execute on function public.first, public.second to service_role;
"""


def _read(folder: Path, text: str) -> None:
    (folder / "01_area.sql").write_text(text)
    read_source(folder)


def test_statements_end_where_they_end_and_keep_the_comment_above_them(tmp_path: Path) -> None:
    (tmp_path / "01_area.sql").write_text(TWO)

    first, second, comment, revoke, grant = read_source(tmp_path)

    assert (first.function, first.line) == ("first", 4)
    assert first.comment == "-- The first; its body says what is no end: ;\n"
    assert first.text.endswith("-- one; more\n$$;")
    assert (second.function, second.line, second.comment) == ("second", 9, "")
    assert [each.function for each in (comment, revoke, grant)] == [None, None, None]
    assert TWO.splitlines()[grant.line - 1] == grant.text


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("02_b", "01_a"):
        (tmp_path / f"{name}.sql").write_text(f"comment on function public.f{name} is 'x';")

    assert [each.file for each in read_source(tmp_path)] == ["01_a.sql", "02_b.sql"]


@pytest.mark.parametrize(
    "statement",
    [
        "create table public.t (id int);",
        "insert into public.t values (1);",
        "create function public.f() returns int language sql as 'select 1';",
        "create or replace function f() returns int language sql as 'select 1';",
        "create or replace trigger t before insert on public.t for each row execute function public.f();",
        "drop function public.f();",
        "grant select on public.t to anon;",
        "grant execute on all functions in schema public to anon;",
        "do $$ begin perform 1; end $$;",
    ],
)
def test_what_is_no_function_is_refused_with_its_place(tmp_path: Path, statement: str) -> None:
    with pytest.raises(MigrationToolError, match=r"^01_area\.sql:3: only `create or replace function public"):
        _read(tmp_path, f"-- The area.\n\n{statement}\n")


def test_a_statement_without_an_end_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(MigrationToolError, match=r"^01_area\.sql:3: "):
        _read(tmp_path, "-- The area.\n\ncreate or replace function public.f() returns int\n")


def test_a_folder_without_files_is_no_source_without_functions(tmp_path: Path) -> None:
    with pytest.raises(MigrationToolError, match="holds no"):
        read_source(tmp_path)
