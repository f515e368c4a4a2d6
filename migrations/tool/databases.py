"""Temporary databases: with all migrations applied, or with the source's functions in place of theirs."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from engine.platform.errors import SparkyError
from engine.store.schema.migrate import migrate, read_migrations
from engine.store.transport.postgres import Connection
from migrations.tool.catalogue import Function, read_functions, read_names
from migrations.tool.source import MigrationToolError, Statement

# As on Supabase, where a function without grants of its own may be called by these roles.
_GRANT_EXECUTE_TO_ROLES: Final = (
    "alter default privileges in schema public grant execute on functions to anon, authenticated, service_role"
)
_NAME_IN_BODY: Final = re.compile(r"\bpublic\.(\w+)")
_numbers: Final = itertools.count(1)


@contextmanager
def create_database(server: str, template: str | None = None) -> Iterator[str]:
    """The DSN of a new database, empty or a copy of the one at `template`; it is dropped at the end of the block."""
    name = f"migration_{os.getpid()}_{next(_numbers)}"
    copied = str(conninfo_to_dict(template)["dbname"]) if template else "template0"
    with connect(server) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(copied)
            )
        )
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(dsn, autocommit=True)
    with connection:
        yield connection


def apply_migrations(dsn: str, folder: Path) -> None:
    """Raises MigrationToolError if one fails."""
    try:
        with connect(dsn) as connection:
            connection.execute(read_migrations(folder)[0].text.encode())  # makes the roles that the next line needs
            connection.execute(_GRANT_EXECUTE_TO_ROLES)
        migrate(dsn, folder)
    except (SparkyError, psycopg.Error) as error:
        raise MigrationToolError(str(error)) from None


def apply_source(dsn: str, source: tuple[Statement, ...]) -> dict[str, Statement]:
    """Replaces all functions by those of the source; returns the statement that creates each, by its identity.

    Raises MigrationToolError, which names file and line.
    """
    with connect(dsn) as connection, connection.transaction():
        for identity in read_functions(connection):
            connection.execute(f"drop function if exists {identity} cascade".encode())
        connection.execute("set local check_function_bodies = off")  # a function may call one that comes later
        created = _create(connection, source)
        connection.execute("set local check_function_bodies = on")
        for statement in created.values():
            _run(connection, statement)
        _check_names(read_names(connection), created.values())
        _check_rights(read_functions(connection), created)
    return created


def _create(connection: Connection, source: tuple[Statement, ...]) -> dict[str, Statement]:
    created: dict[str, Statement] = {}
    for statement in source:
        _run(connection, statement)
        if statement.function is None:
            continue
        new = read_functions(connection).keys() - created.keys()
        if not new:
            first = next(earlier for earlier in created.values() if earlier.function == statement.function)
            raise statement.build_error(f"public.{statement.function} is there already, in {first.file}:{first.line}")
        created[new.pop()] = statement
    return created


def _run(connection: Connection, statement: Statement) -> None:
    try:
        connection.execute(statement.text.encode())
    except psycopg.Error as error:
        position = int(error.diag.statement_position or 1) - 1
        raise statement.build_error(str(error.diag.message_primary), position) from None


def _check_names(existing_names: frozenset[str], statements: Iterable[Statement]) -> None:
    """Checks names in bodies, because PostgreSQL checks those of SQL functions only. Ours are all schema-qualified."""
    for statement in statements:
        for mention in _NAME_IN_BODY.finditer(statement.without_comments):
            if mention[1] not in existing_names:
                raise statement.build_error(f"there is no table, type or function public.{mention[1]}", mention.start())


def _check_rights(functions: dict[str, Function], created: dict[str, Statement]) -> None:
    for identity, statement in created.items():
        if functions[identity].callers & {"public", "anon"}:
            raise statement.build_error(
                f"everybody may call public.{statement.function}: revoke execute on it from public, anon, authenticated"
            )
