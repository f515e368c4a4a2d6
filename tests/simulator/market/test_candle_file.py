"""A candle file that cannot be used says where and why in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.platform.errors import ConfigurationError
from simulator.market.candle_file import parse_symbol, read_candles
from simulator.market.candles import MINUTE_MS

HEADER = "open_time_ms,open,high,low,close,volume"
Write = Callable[..., Path]


def row(index: int) -> str:
    return f"{1_677_628_800_000 + index * MINUTE_MS},100.5,101.25,99,100.75,2.5"


def text(lines: dict[int, str] | None = None, *, header: str = HEADER, length: int = 120) -> str:
    """A good file of `length` candles with some of its lines (numbered as in an editor) replaced."""
    rows = [header, *(row(index) for index in range(length))]
    for number, line in (lines or {}).items():
        rows[number - 1] = line
    return "\n".join(rows) + "\n"


def test_a_good_file_is_read_as_it_is(write_csv: Write) -> None:
    series = read_candles(write_csv(text()))
    assert series.decimals == 2
    assert series.end_ms == series.start_ms + 120 * MINUTE_MS
    assert series.get_candle(series.start_ms + MINUTE_MS)[1:] == (100.5, 101.25, 99.0, 100.75, 2.5)


@pytest.mark.parametrize(
    ("content", "line", "fault"),
    [
        (
            text(header="time,open,high,low,close,volume"),
            1,
            "the header must be open_time_ms,open,high,low,close,volume",
        ),
        ("", 1, "the header must be"),
        (text({5: row(4)}), 5, "a gap: the candle opens 120000 ms after"),
        (text({5: row(2)}), 5, "not later than the one before it"),
        (text({5: row(1)}), 5, "not later than the one before it"),
        (text({7: row(5).replace("100.5", "many")}), 7, "not a number: 'many'"),
        (text({7: row(5).replace("1677", "x677")}), 7, "not a number: 'x677629100000'"),
        (text({7: row(5).replace("100.5", "NaN")}), 7, "a value is not finite"),
        (text({7: row(5).replace("2.5", "inf")}), 7, "a value is not finite"),
        (text({7: row(5).replace("99", "0")}), 7, "a price is not positive"),
        (text({7: row(5).replace("99", "-99")}), 7, "a price is not positive"),
        (text({7: row(5).replace("2.5", "-1")}), 7, "the volume is negative"),
        (text({7: row(5).replace("101.25", "98")}), 7, "the high 98.0 is below the low 99.0"),
        (text({7: row(5).replace("101.25", "100.6")}), 7, "open or close lies outside"),
        (text({2: row(0).replace("800000", "800001")}), 2, "is not on a full minute"),
        (text({9: row(7) + ",1"}), 9, "7 fields where 6 are needed"),
        (text({9: ""}), 9, "0 fields where 6 are needed"),
        (text(length=100), 101, "ends after 100 candles; at least 101 are needed"),
        (HEADER + "\n", 1, "ends after 0 candles"),
    ],
)
def test_a_faulty_file_is_one_sentence_with_file_line_and_fault(
    write_csv: Write, content: str, line: int, fault: str
) -> None:
    path = write_csv(content)
    with pytest.raises(ConfigurationError) as caught:
        read_candles(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert fault in message
    assert "\n" not in message


def test_bytes_that_are_no_text_and_a_missing_file_are_said(tmp_path: Path) -> None:
    binary = tmp_path / "BTCUSDT.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigurationError, match="no CSV text"):
        read_candles(binary)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_candles(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("BTCUSDT-1m-2023-03.csv", "BTCUSDT"), ("ETHUSDC.csv", "ETHUSDC"), ("1000PEPEUSDT_1m.csv", "1000PEPEUSDT")],
)
def test_the_symbol_is_the_beginning_of_the_name(name: str, symbol: str) -> None:
    assert parse_symbol(Path(name)) == symbol


@pytest.mark.parametrize("name", ["candles.csv", "btcusdt-1m.csv", "USDT.csv", "BTCEUR.csv"])
def test_a_name_without_a_symbol_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must begin with its symbol"):
        parse_symbol(Path(name))
