"""How commands answer: a table for people, JSON for programs, the same rows in both."""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import MAX_PREC, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple

import typer
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, OverflowMethod, RenderResult
from rich.table import Table
from rich.text import Text

from cli.column_widths import Need, cut, fitted
from cli.streams import encoding_of_answers
from engine.domain.decimals import digits
from engine.platform.plain_text import many_lines, one_line
from engine.platform.text_encoding import UTF8, showable

UNBOUNDED: Final = 400
_YEAR: Final = re.compile(r"^\d{4}-")
_GAP: Final = 2
_OVERFLOW: Final[dict[bool, OverflowMethod]] = {True: "fold", False: "ellipsis"}
LONGEST_CELL: Final = 200  # in a column that does not wrap
LONGEST_WRAPPED: Final = 1_000
LONGEST_SENTENCE: Final = 4_000
LONGEST_TEXT: Final = 1_000_000
SEVERAL_LINES: Final = frozenset({"custom_prompt", "paused_traceback", "raw_answer", "answer", "notes"})

Cell = Callable[[dict[str, Any]], object]
_LEAST, _SHORT = 8, 10  # digits of prices
_AVERAGES: Final = Context(prec=15, rounding=ROUND_HALF_EVEN)


class Column(NamedTuple):
    """A column of a table: its header and the field (or function) that fills it.

    Numbers and times are never cut. `goes` says in which order columns are left out of a narrow terminal, 0 for never.
    """

    header: str
    value: str | Cell
    is_number: bool = False
    wraps: bool = False
    is_time: bool = False
    goes: int = 0

    def text(self, row: dict[str, Any], encoding: str) -> str:
        """What fills the cell, as a stream of that `encoding` shows it."""
        said = shown(self.value(row) if callable(self.value) else row.get(self.value))
        return one_line(showable(said, encoding), LONGEST_WRAPPED if self.wraps else LONGEST_CELL)


def say(sentence: str, *, err: bool = False) -> None:
    """Prints one line for people; whatever words of others it repeats, it stays one line and commands no terminal."""
    typer.echo(one_line(sentence, LONGEST_SENTENCE), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """As `say`, for text of several lines, whose single values must be one line each before they come into it."""
    typer.echo(many_lines(text, LONGEST_TEXT), err=err)


class Hanging(NamedTuple):
    """Words, `depth` columns in, of which every further line is indented by two more, so that none of them can pass
    for a line of its own."""

    words: Text
    depth: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first, *rest = self.words.wrap(console, max(1, options.max_width - self.depth - _GAP)) or [Text()]
        yield Text(" " * self.depth).append_text(first)
        for line in rest:
            yield Text(" " * (self.depth + _GAP)).append_text(line)


def say_hanging(lines: Sequence[str], *, err: bool = False) -> None:
    """Prints lines of our own making, each of which may begin with spaces, as a stream of the answers shows them."""
    console, encoding = screen(err=err), encoding_of_answers()
    for line in lines:
        words = line.lstrip(" ")
        safe = one_line(showable(words, encoding), LONGEST_SENTENCE)
        console.print(Hanging(Text(safe), len(line) - len(words)))


def plain(row: object) -> Any:
    """`row` as JSON data; decimals become strings, so that no digit is lost, and so do floats that JSON lacks."""
    if isinstance(row, BaseModel):
        return _told(row.model_dump(mode="json"), row.model_dump())
    if isinstance(row, (list, tuple)):
        return [plain(item) for item in row]
    return json.loads(json.dumps(row, default=str))


def _told(data: Any, value: Any) -> Any:
    """`data` as pydantic tells `value`, with decimals in plain digits and nothing that JSON lacks."""
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, dict):
        return {key: _told(told, inner) for (key, told), inner in zip(data.items(), value.values(), strict=True)}
    if isinstance(data, list):
        return [_told(told, inner) for told, inner in zip(data, value, strict=True)]
    return data


def answer(rows: Iterable[object], columns: Sequence[Column], *, as_json: bool, empty: str) -> None:
    """Prints `rows` as a JSON array, or as a table, or as the sentence `empty`."""
    data = [plain(row) for row in rows]
    if as_json:
        print_json(data)
    elif data:
        console = screen()
        console.print(table(data, columns, console.width, encoding_of_answers()))
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


def screen(*, err: bool = False) -> Console:
    """Where tables go: as wide as the terminal, and as wide as it takes when a program reads."""
    console = _console(err=err)
    return console if console.is_terminal else _console(UNBOUNDED, err=err)


def _console(width: int | None = None, *, err: bool = False) -> Console:
    """Text stays what it is: no markup, no names of emoji, no colours by what it looks like."""
    return Console(width=width, markup=False, emoji=False, highlight=False, stderr=err)


def print_json(data: object) -> None:
    """All the data, in ASCII: what a program reads loses nothing, and a terminal has nothing to obey."""
    typer.echo(json.dumps(data, indent=2, default=str))


class _Filled(NamedTuple):
    """A column with the texts of its cells."""

    column: Column
    cells: list[str]

    @property
    def need(self) -> Need:
        widest = max(cell_len(text) for text in (self.column.header, *self.cells))
        return Need(widest, self.column.is_number or self.column.is_time, self.column.wraps)

    def without_year(self) -> "_Filled":
        return self._replace(cells=[_YEAR.sub("", cell) for cell in self.cells]) if self.column.is_time else self


def table(
    data: Sequence[dict[str, Any]], columns: Sequence[Column], width: int = UNBOUNDED, encoding: str = UTF8
) -> Table:
    """The rows under the columns' headers, which are ours, in `width` columns of the terminal.

    No cell is read as markup. Where times and numbers do not fit as a whole, the year is left out, then columns are.
    """
    filled = _fitting([_Filled(column, [column.text(row, encoding) for row in data]) for column in columns], width)
    needs = [each.need for each in filled]
    gap = _GAP if sum(need.widest for need in needs) + _GAP * (len(needs) - 1) <= width else 1
    widths = fitted(needs, width - gap * (len(needs) - 1))
    grid = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for (column, _), most in zip(filled, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        grid.add_column(
            column.header, justify=justify, no_wrap=not column.wraps, width=most, overflow=_OVERFLOW[column.wraps]
        )
    for cells in zip(*(each.cells for each in filled), strict=True):
        shrunk = zip(filled, cells, widths, strict=True)
        grid.add_row(*(Text(cell if each.column.wraps else cut(cell, most)) for each, cell, most in shrunk))
    return grid


def _fitting(filled: list[_Filled], width: int) -> list[_Filled]:
    """The columns that fit beside each other; what goes first is what helps least at a glance."""
    if _least(filled) > width:
        filled = [each.without_year() for each in filled]
    for leaving in sorted((each for each in filled if each.column.goes), key=lambda each: each.column.goes):
        if _least(filled) <= width:
            break
        filled = [each for each in filled if each is not leaving]
    return filled


def _least(filled: Sequence[_Filled]) -> int:
    return sum(each.need.least for each in filled) + len(filled) - 1


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


def figure(field: str) -> Cell:
    """A quantity, or a price that was paid, in all its digits."""
    return lambda row: None if row.get(field) is None else digits(Decimal(str(row[field])))


def price(field: str, other: str = "") -> Cell:
    """A price that may be an average, to 15 digits; JSON has all of them. With an `other` price of the same symbol, one
    of more than ten digits to two more places than that has, and to eight digits at least."""
    return lambda row: _price(number(row.get(field)), number(row.get(other)))


def _price(value: Decimal | None, other: Decimal | None) -> str | None:
    if value is None or other is None or not (value.is_finite() and other.is_finite()):
        return None if value is None else average(value)
    if len(value.normalize().as_tuple().digits) <= _SHORT:
        return digits(value)
    places = max(2 - min(0, int(other.normalize().as_tuple().exponent)), _LEAST - 1 - value.adjusted())
    return average(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, Context(prec=MAX_PREC)))


def number(told: object) -> Decimal | None:
    """A figure of a row; None for none."""
    return None if told is None else Decimal(str(told))


def average(value: Decimal) -> str:
    """A price that may be an average, to 15 digits."""
    return digits(_AVERAGES.plus(value)) if value.is_finite() else str(value)


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
