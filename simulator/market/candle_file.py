"""Reads a CSV of one-minute candles; an error is one sentence that names the file, the line and the fault."""

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.domain.market import Candle
from engine.platform.errors import ConfigurationError
from simulator.market.candles import MINUTE_MS, FileSeries

HEADER: Final = ["open_time_ms", "open", "high", "low", "close", "volume"]
MIN_CANDLES: Final = 101  # 100 candles of history and one to trade on


class LineError(Exception):
    """What is wrong with one line."""


def parse_symbol(path: Path) -> str:
    """The symbol that the file's name begins with, as in ``BTCUSDT-1m-2023-03.csv``. Raises ConfigurationError for
    others."""
    match = re.match(r"([A-Z0-9]{2,20}(?:USDT|USDC|USD))(?:[^A-Z0-9].*)?$", path.stem)
    if match is None:
        raise ConfigurationError(
            f"{path}: the file's name must begin with its symbol, as in BTCUSDT-1m-2023-03.csv, to say what it holds."
        )
    return match[1]


def read_candles(path: Path) -> FileSeries:
    """One-minute candles, `open_time_ms,open,high,low,close,volume`, oldest first, without a gap, at least 101.

    Raises ConfigurationError naming file, line and fault.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse_series(path, csv.reader(file))
    except OSError as error:
        raise ConfigurationError(f"{path}: the candles cannot be read: {error.strerror}.") from error


def _parse_series(path: Path, rows: Any) -> FileSeries:  # csv has no public name for the type of its reader
    candles: list[Candle] = []
    decimals = 0
    try:
        _check_header(next(rows, []))
        for row in rows:
            candles.append(_parse_candle(row, candles[-1] if candles else None))
            decimals = max(decimals, *(len(text.partition(".")[2]) for text in row[1:5]))
        _check_length(len(candles))
    except LineError as fault:
        raise ConfigurationError(f"{path}, line {max(rows.line_num, 1)}: {fault}.") from fault
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}, line {rows.line_num + 1}: this is no CSV text.") from error
    return FileSeries(candles, decimals)


def _check_length(length: int) -> None:
    if length < MIN_CANDLES:
        raise LineError(f"the file ends after {length} candles; at least {MIN_CANDLES} are needed")


def _check_header(row: list[str]) -> None:
    if row != HEADER:
        raise LineError(f"the header must be {','.join(HEADER)}")


def _parse_candle(row: list[str], before: Candle | None) -> Candle:
    if len(row) != len(HEADER):
        raise LineError(f"{len(row)} fields where {len(HEADER)} are needed")
    try:
        candle = Candle(int(row[0]), *(float(text) for text in row[1:]))
    except ValueError:
        raise LineError(f"not a number: {_find_non_number(row)!r}") from None
    for fault in _find_faults(candle):
        raise LineError(fault)
    if before is not None:
        _check_step(candle.open_time_ms - before.open_time_ms)
    return candle


def _find_non_number(row: list[str]) -> str:
    for index, text in enumerate(row):
        try:
            (int if index == 0 else float)(text)
        except ValueError:
            return text[:40]
    return ""


def _find_faults(candle: Candle) -> Iterator[str]:
    if not all(math.isfinite(value) for value in candle):
        yield "a value is not finite"
    if min(candle[1:5]) <= 0:
        yield "a price is not positive"
    if candle.volume < 0:
        yield "the volume is negative"
    if candle.high < candle.low:
        yield f"the high {candle.high} is below the low {candle.low}"
    if candle.high < max(candle.open, candle.close) or candle.low > min(candle.open, candle.close):
        yield "open or close lies outside of high and low"
    if candle.open_time_ms < 0 or candle.open_time_ms % MINUTE_MS:
        yield f"open_time_ms {candle.open_time_ms} is not on a full minute"


def _check_step(step_ms: int) -> None:
    if step_ms <= 0:
        raise LineError("the candle is not later than the one before it (out of order or repeated)")
    if step_ms != MINUTE_MS:
        raise LineError(f"a gap: the candle opens {step_ms} ms after the one before it, not {MINUTE_MS}")
