"""Output of commands: the same rows as a table for people or as JSON for programs."""

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

from cli.column_widths import ColumnWidth, fit_widths, truncate
from cli.streams import output_encoding
from engine.domain.decimals import format_plain
from engine.platform.plain_text import many_lines, one_line
from engine.platform.text_encoding import UTF8, replace_unshowable

NON_TERMINAL_WIDTH: Final = 400
_YEAR: Final = re.compile(r"^\d{4}-")
_GAP: Final = 2
_OVERFLOW: Final[dict[bool, OverflowMethod]] = {True: "fold", False: "ellipsis"}
MAX_CELL: Final = 200  # in a column that does not wrap
MAX_WRAPPED_CELL: Final = 1_000
MAX_SENTENCE: Final = 4_000
MAX_TEXT: Final = 1_000_000
MULTILINE_FIELDS: Final = frozenset({"custom_prompt", "paused_traceback", "raw_answer", "answer", "notes"})

Cell = Callable[[dict[str, Any]], object]
_MIN_PRICE_DIGITS, _MAX_SHORT_DIGITS = 8, 10  # digits of prices
_AVERAGE_CONTEXT: Final = Context(prec=15, rounding=ROUND_HALF_EVEN)


class Column(NamedTuple):
    """A column of a table: its header and the field (or function) that fills it.

    Numbers and times are never cut. On a narrow terminal columns are left out in the order of `drop_order`; 0: never.
    """

    header: str
    value: str | Cell
    is_number: bool = False
    wraps: bool = False
    is_time: bool = False
    drop_order: int = 0

    def format_cell(self, row: dict[str, Any], encoding: str) -> str:
        """The text of the cell, as a stream of that `encoding` can show it."""
        value_text = format_value(self.value(row) if callable(self.value) else row.get(self.value))
        return one_line(replace_unshowable(value_text, encoding), MAX_WRAPPED_CELL if self.wraps else MAX_CELL)


def say(sentence: str, *, err: bool = False) -> None:
    """Prints one line for people. Line breaks and control characters in it are escaped, because it may repeat input."""
    typer.echo(one_line(sentence, MAX_SENTENCE), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """As `say`, for text of several lines; callers make each inserted value one line (`one_line`) before."""
    typer.echo(many_lines(text, MAX_TEXT), err=err)


class HangingIndent(NamedTuple):
    """Text indented by `depth`; its further lines by two more, so that wrapped text cannot pass for a line of its
    own."""

    words: Text
    depth: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first, *rest = self.words.wrap(console, max(1, options.max_width - self.depth - _GAP)) or [Text()]
        yield Text(" " * self.depth).append_text(first)
        for line in rest:
            yield Text(" " * (self.depth + _GAP)).append_text(line)


def say_indented(lines: Sequence[str], *, err: bool = False) -> None:
    """Prints lines; their leading spaces are the depth of a hanging indent."""
    console, encoding = make_console(err=err), output_encoding()
    for line in lines:
        words = line.lstrip(" ")
        safe = one_line(replace_unshowable(words, encoding), MAX_SENTENCE)
        console.print(HangingIndent(Text(safe), len(line) - len(words)))


def to_json_data(row: object) -> Any:
    """`row` as JSON data. Decimals become strings, so that no digit is lost; so do NaN and infinities, which JSON
    lacks."""
    if isinstance(row, BaseModel):
        return _to_json_value(row.model_dump(mode="json"), row.model_dump())
    if isinstance(row, (list, tuple)):
        return [to_json_data(item) for item in row]
    return json.loads(json.dumps(row, default=str))


def _to_json_value(data: Any, value: Any) -> Any:
    """`data` (pydantic's JSON of `value`) with decimals in plain digits, and NaN and infinities as strings."""
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    if isinstance(data, dict):
        return {
            key: _to_json_value(item, inner) for (key, item), inner in zip(data.items(), value.values(), strict=True)
        }
    if isinstance(data, list):
        return [_to_json_value(item, inner) for item, inner in zip(data, value, strict=True)]
    return data


def print_rows(rows: Iterable[object], columns: Sequence[Column], *, as_json: bool, empty: str) -> None:
    """Prints `rows` as a JSON array, or as a table, or as the sentence `empty`."""
    data = [to_json_data(row) for row in rows]
    if as_json:
        print_json(data)
    elif data:
        console = make_console()
        console.print(build_table(data, columns, console.width, output_encoding()))
    else:
        say(empty)


def print_row(row: object, *, as_json: bool) -> None:
    """Prints one row as a JSON object, or field by field."""
    data = to_json_data(row)
    if as_json:
        print_json(data)
        return
    width = max(len(key) for key in data)
    for key, value in data.items():
        is_nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(x, dict) for x in value))
        text = json.dumps(value, indent=2) if is_nested and value else _format_field(key, value)
        say_lines(f"{key:<{width}}  {text.replace(chr(10), chr(10) + ' ' * (width + 2))}")


def make_console(*, err: bool = False) -> Console:
    """The console for tables: as wide as the terminal, or `NON_TERMINAL_WIDTH`."""
    console = _create_console(err=err)
    return console if console.is_terminal else _create_console(NON_TERMINAL_WIDTH, err=err)


def _create_console(width: int | None = None, *, err: bool = False) -> Console:
    """Without markup, emoji names and highlighting, because rows contain text of others."""
    return Console(width=width, markup=False, emoji=False, highlight=False, stderr=err)


def print_json(data: object) -> None:
    """Prints JSON in ASCII, so that it contains no control characters."""
    typer.echo(json.dumps(data, indent=2, default=str))


class _RenderedColumn(NamedTuple):
    """A column with the texts of its cells."""

    column: Column
    cells: list[str]

    @property
    def width(self) -> ColumnWidth:
        widest = max(cell_len(text) for text in (self.column.header, *self.cells))
        return ColumnWidth(widest, self.column.is_number or self.column.is_time, self.column.wraps)

    def without_year(self) -> "_RenderedColumn":
        return self._replace(cells=[_YEAR.sub("", cell) for cell in self.cells]) if self.column.is_time else self


def build_table(
    data: Sequence[dict[str, Any]], columns: Sequence[Column], width: int = NON_TERMINAL_WIDTH, encoding: str = UTF8
) -> Table:
    """A table of the rows, `width` cells wide.

    Cells are not read as markup. If times and numbers do not fit, the year is left out, then whole columns.
    """
    filled = _drop_columns_to_fit(
        [_RenderedColumn(column, [column.format_cell(row, encoding) for row in data]) for column in columns], width
    )
    needs = [rendered.width for rendered in filled]
    gap = _GAP if sum(need.natural for need in needs) + _GAP * (len(needs) - 1) <= width else 1
    widths = fit_widths(needs, width - gap * (len(needs) - 1))
    grid = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for (column, _), most in zip(filled, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        grid.add_column(
            column.header, justify=justify, no_wrap=not column.wraps, width=most, overflow=_OVERFLOW[column.wraps]
        )
    for cells in zip(*(rendered.cells for rendered in filled), strict=True):
        shrunk = zip(filled, cells, widths, strict=True)
        grid.add_row(
            *(Text(cell if rendered.column.wraps else truncate(cell, most)) for rendered, cell, most in shrunk)
        )
    return grid


def _drop_columns_to_fit(filled: list[_RenderedColumn], width: int) -> list[_RenderedColumn]:
    """The columns that fit, without those of the smallest `drop_order`."""
    if _compute_min_table_width(filled) > width:
        filled = [rendered.without_year() for rendered in filled]
    for leaving in sorted(
        (rendered for rendered in filled if rendered.column.drop_order), key=lambda rendered: rendered.column.drop_order
    ):
        if _compute_min_table_width(filled) <= width:
            break
        filled = [rendered for rendered in filled if rendered is not leaving]
    return filled


def _compute_min_table_width(filled: Sequence[_RenderedColumn]) -> int:
    return sum(rendered.width.minimum for rendered in filled) + len(filled) - 1


def format_value(value: object) -> str:
    """A value for people; ``-`` for None and for what is empty."""
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def _format_field(field: str, value: object) -> str:
    """A value without structure; several lines only in `MULTILINE_FIELDS`."""
    return many_lines(format_value(value)) if field in MULTILINE_FIELDS else one_line(format_value(value), MAX_SENTENCE)


def usd_cell(field: str) -> Cell:
    """Money to the cent, with its sign."""
    return lambda row: None if row.get(field) is None else format_cents(Decimal(str(row[field])))


def format_cents(amount: Decimal, form: str = ",.2f") -> str:
    """An amount to the cent, without a negative zero; NaN and infinities as they are."""
    try:
        return format(amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN) + Decimal(0), form)
    except InvalidOperation:  # infinite, or of more digits than are counted with
        return str(amount)


def decimal_cell(field: str) -> Cell:
    """A quantity, or a price that was paid, in all its digits."""
    return lambda row: None if row.get(field) is None else format_plain(Decimal(str(row[field])))


def price_cell(field: str, other: str = "") -> Cell:
    """A price that may be an average, to 15 digits; JSON has all of them. With the field of an `other` price of the
    same symbol, prices of more than ten digits get two places more than that has, and eight digits at least."""
    return lambda row: _format_price(to_decimal(row.get(field)), to_decimal(row.get(other)))


def _format_price(value: Decimal | None, other: Decimal | None) -> str | None:
    if value is None or other is None or not (value.is_finite() and other.is_finite()):
        return None if value is None else format_average(value)
    if len(value.normalize().as_tuple().digits) <= _MAX_SHORT_DIGITS:
        return format_plain(value)
    places = max(2 - min(0, int(other.normalize().as_tuple().exponent)), _MIN_PRICE_DIGITS - 1 - value.adjusted())
    return format_average(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN, Context(prec=MAX_PREC)))


def to_decimal(value: object) -> Decimal | None:
    """A number of a row; None for None."""
    return None if value is None else Decimal(str(value))


def format_average(value: Decimal) -> str:
    """A price that may be an average, to 15 digits."""
    return format_plain(_AVERAGE_CONTEXT.plus(value)) if value.is_finite() else str(value)


def time_cell(field: str) -> Cell:
    """A time in UTC to the second; the database's text for a time outside Python's range."""

    def cell(row: dict[str, Any]) -> str | None:
        text = row.get(field)
        return None if text is None else format_utc(str(text))

    return cell


def format_utc(text: str) -> str:
    """An ISO 8601 time in UTC to the second; other text unchanged."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return text


def short_id_cell(field: str) -> Cell:
    return lambda row: None if row.get(field) is None else str(row[field])[:8]


def format_duration(seconds: float | None) -> str:
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
