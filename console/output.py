"""How commands answer: a table for people, JSON for programs, the same rows in both."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple

import typer
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from console.streams import encoding_of_answers
from console.widths import Need, fitted
from engine.plain_text import many_lines, one_line
from engine.showable import showable

UNBOUNDED: Final = 400
_GAP: Final = 2
_OVERFLOW: Final[dict[bool, OverflowMethod]] = {True: "fold", False: "ellipsis"}
LONGEST_CELL: Final = 200  # in a column that does not wrap
LONGEST_WRAPPED: Final = 1_000
LONGEST_SENTENCE: Final = 4_000
LONGEST_TEXT: Final = 1_000_000
SEVERAL_LINES: Final = frozenset({"custom_prompt", "paused_traceback", "raw_answer", "answer", "notes"})

Cell = Callable[[dict[str, Any]], object]


class Column(NamedTuple):
    """A column of a table: its header and the field (or function) that fills it."""

    header: str
    value: str | Cell
    is_number: bool = False
    wraps: bool = False

    def text(self, row: dict[str, Any]) -> Text:
        """What fills the cell, which is never read as markup."""
        said = shown(self.value(row) if callable(self.value) else row.get(self.value))
        return Text(one_line(said, LONGEST_WRAPPED if self.wraps else LONGEST_CELL))


def say(sentence: str, *, err: bool = False) -> None:
    """Prints one line for people; whatever words of others it repeats, it stays one line and commands no terminal."""
    typer.echo(one_line(sentence, LONGEST_SENTENCE), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """As `say`, for text of several lines, whose single values must be one line each before they come into it."""
    typer.echo(many_lines(text, LONGEST_TEXT), err=err)


def plain(row: object) -> Any:
    """`row` as JSON data; decimals become strings, so that no digit is lost, and so do floats that JSON lacks."""
    if isinstance(row, BaseModel):
        return _finite(row.model_dump(mode="json"))
    if isinstance(row, (list, tuple)):
        return [plain(item) for item in row]
    return json.loads(json.dumps(row, default=str))


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return data


def answer(rows: Iterable[object], columns: Sequence[Column], *, as_json: bool, empty: str) -> None:
    """Prints `rows` as a JSON array, or as a table, or as the sentence `empty`."""
    data = [plain(row) for row in rows]
    if as_json:
        print_json(data)
    elif data:
        console = screen()
        console.print(table(showable(data, encoding_of_answers()), columns, console.width))
    else:
        say(empty)


def answer_one(row: object, *, as_json: bool) -> None:
    """Prints one row as a JSON object, or field by field."""
    data = plain(row)
    if as_json:
        print_json(data)
        return
    width = max(len(key) for key in data)
    for key, value in data.items():
        is_nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(x, dict) for x in value))
        text = json.dumps(value, indent=2) if is_nested and value else _words(key, value)
        say_lines(f"{key:<{width}}  {text.replace(chr(10), chr(10) + ' ' * (width + 2))}")


def screen() -> Console:
    """Where tables go: as wide as the terminal, and as wide as it takes when a program reads."""
    console = _console()
    return console if console.is_terminal else _console(UNBOUNDED)


def _console(width: int | None = None) -> Console:
    """Text stays what it is: no markup, no names of emoji, no colours by what it looks like."""
    return Console(width=width, markup=False, emoji=False, highlight=False)


def print_json(data: object) -> None:
    """All the data, in ASCII: what a program reads loses nothing, and a terminal has nothing to obey."""
    typer.echo(json.dumps(data, indent=2, default=str))


def table(data: Sequence[dict[str, Any]], columns: Sequence[Column], width: int = UNBOUNDED) -> Table:
    """The rows under the columns' headers, which are ours, in `width` columns of the terminal."""
    rows = [[column.text(row) for column in columns] for row in data]
    widths, gap = _fitted(rows, columns, width)
    grid = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for column, most in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        grid.add_column(
            column.header, justify=justify, no_wrap=not column.wraps, width=most, overflow=_OVERFLOW[column.wraps]
        )
    for row in rows:
        grid.add_row(*row)
    return grid


def _fitted(rows: Sequence[Sequence[Text]], columns: Sequence[Column], width: int) -> tuple[list[int], int]:
    """The columns' widths and the gap between them, which is narrower where that helps."""
    needs = [
        Need(max(cell_len(column.header), *(cells[at].cell_len for cells in rows)), column.is_number, column.wraps)
        for at, column in enumerate(columns)
    ]
    gap = _GAP if sum(need.widest for need in needs) + _GAP * (len(needs) - 1) <= width else 1
    return fitted(needs, width - gap * (len(needs) - 1)), gap


def shown(value: object) -> str:
    """A value as people read it; nothing is shown as ``-``."""
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def _words(field: str, value: object) -> str:
    """A value without structure; lines of its own it has only where people write or read several."""
    return many_lines(shown(value)) if field in SEVERAL_LINES else one_line(shown(value), LONGEST_SENTENCE)


def usd(field: str) -> Cell:
    """Money to the cent, with its sign."""
    return lambda row: None if row.get(field) is None else cents(Decimal(str(row[field])))


def cents(amount: Decimal, form: str = ",.2f") -> str:
    """An amount to the cent; less than half a cent of loss is no loss. What has no cents is told as it is."""
    try:
        return format(amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN) + Decimal(0), form)
    except InvalidOperation:  # infinite, or of more digits than are counted with
        return str(amount)


def price(field: str) -> Cell:
    """A price or quantity without trailing zeros."""
    return lambda row: None if row.get(field) is None else f"{Decimal(str(row[field])).normalize():f}"


def moment(field: str) -> Cell:
    """A time in UTC to the second; a moment that Python lacks is told in the database's words."""

    def cell(row: dict[str, Any]) -> str | None:
        text = row.get(field)
        return None if text is None else utc(str(text))

    return cell


def utc(text: str) -> str:
    """A moment in ISO 8601 in UTC to the second; what is none is told as it is."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return text


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
