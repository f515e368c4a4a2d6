"""How commands answer: a table for people, JSON for programs, the same rows in both."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, NamedTuple

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from console.streams import encoding_of_answers
from engine.showable import showable

UNBOUNDED: Final = 400

Cell = Callable[[dict[str, Any]], object]


class Column(NamedTuple):
    """A column of a table: its header and the field (or function) that fills it."""

    header: str
    value: str | Cell
    is_number: bool = False
    wraps: bool = False

    def text(self, row: dict[str, Any]) -> str:
        return shown(self.value(row) if callable(self.value) else row.get(self.value))


def plain(row: object) -> Any:
    """`row` as JSON data; decimals become strings, so that no digit is lost."""
    if isinstance(row, BaseModel):
        return row.model_dump(mode="json")
    if isinstance(row, (list, tuple)):
        return [plain(item) for item in row]
    return json.loads(json.dumps(row, default=str))


def answer(rows: Iterable[object], columns: Sequence[Column], *, as_json: bool, empty: str) -> None:
    """Prints `rows` as a JSON array, or as a table, or as the sentence `empty`."""
    data = [plain(row) for row in rows]
    if as_json:
        print_json(data)
    elif data:
        screen().print(table(showable(data, encoding_of_answers()), columns))
    else:
        typer.echo(empty)


def answer_one(row: object, *, as_json: bool) -> None:
    """Prints one row as a JSON object, or field by field."""
    data = plain(row)
    if as_json:
        print_json(data)
        return
    width = max(len(key) for key in data)
    for key, value in data.items():
        is_nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(x, dict) for x in value))
        text = json.dumps(value, indent=2) if is_nested and value else shown(value)
        typer.echo(f"{key:<{width}}  {text.replace(chr(10), chr(10) + ' ' * (width + 2))}")


def screen() -> Console:
    """Where tables go: as wide as the terminal, and as wide as it takes when a program reads."""
    console = Console()
    return console if console.is_terminal else Console(width=UNBOUNDED)


def print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2, default=str))


def table(data: Iterable[dict[str, Any]], columns: Sequence[Column]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column.header, justify="right" if column.is_number else "left", no_wrap=not column.wraps)
    for row in data:
        grid.add_row(*(column.text(row) for column in columns))
    return grid


def shown(value: object) -> str:
    """A value as people read it; nothing is shown as ``-``."""
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def usd(field: str) -> Cell:
    """Money to the cent, with its sign."""
    return lambda row: None if row.get(field) is None else cents(Decimal(str(row[field])))


def cents(amount: Decimal, form: str = ",.2f") -> str:
    """An amount to the cent; less than half a cent of loss is no loss."""
    return format(amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN) + Decimal(0), form)


def price(field: str) -> Cell:
    """A price or quantity without trailing zeros."""
    return lambda row: None if row.get(field) is None else f"{Decimal(str(row[field])).normalize():f}"


def moment(field: str) -> Cell:
    """A time in UTC to the second."""

    def cell(row: dict[str, Any]) -> str | None:
        text = row.get(field)
        return None if text is None else f"{datetime.fromisoformat(str(text)):%Y-%m-%d %H:%M:%S}"

    return cell


def short_id(field: str) -> Cell:
    return lambda row: None if row.get(field) is None else str(row[field])[:8]


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 4 s, 3 m 20 s, 2 h 5 m, 3 d 4 h."""
    if seconds is None:
        return "-"
    left = max(0, round(seconds))
    days, hours, minutes = left // 86_400, left // 3_600 % 24, left // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {left % 60} s" if minutes else f"{left} s"
