"""Statements run as the database's owner, who sees what no service of ours may."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

Sql = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def as_owner(database_url: str) -> Iterator[Sql]:
    """Runs one statement with its values at a time; its rows back, if there are any."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

        yield run
