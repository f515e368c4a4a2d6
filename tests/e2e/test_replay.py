"""Candles through the real product, as many as a test can wait for, checked against the file and their own fills.

The candles are seeded ones by default. ``REPLAY_CANDLES=FILE`` replays a file of one's own to its end.
"""

import csv
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from engine.domain.market import Candle
from engine.platform.settings.settings import Settings
from engine.store.embedded import command_database
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.e2e.conftest import SparkyMaker
from tests.support.factories.bookkeeping import Book
from tests.support.factories.candle_files import write_walk
from tests.support.factories.indicators import independent
from tests.support.processes.sparky import PATIENCE_S, Sparky

CENT = Decimal("0.01")
FEE_RATE = Decimal("0.0004")
CAPITAL = Decimal(10_000)
WARM_UP_CANDLES = 100
MINUTE_MS = 60_000
DAYS = 6  # a minute and a half, of which strategies may need a minute to start on a crowded machine


@dataclass
class Run:
    """What a finished run left in its database."""

    candles: list[Candle]
    markets: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    fills: list[dict[str, Any]]
    trades: list[dict[str, Any]]
    positions: list[dict[str, Any]]
    overview: list[Any]


@pytest.fixture(scope="module")
def candles_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("REPLAY_CANDLES")
    if named:
        return Path(named).resolve()
    return write_walk(tmp_path_factory.mktemp("candles") / "BTCUSDT-1m-seeded.csv", DAYS * 1_440)


@pytest.fixture
def run(sparky_at: SparkyMaker, candles_file: Path) -> Run:
    sparky = sparky_at(SPARKY_PAPER_FEE_PERCENT=str(FEE_RATE * 100), SPARKY_MARK_INTERVAL_S="1")
    candles = read(candles_file)
    sparky.start("--candles", str(candles_file), "--speed", "6000")
    patience_s = (candles[-1].open_time_ms - candles[0].open_time_ms) / 6_000_000 + PATIENCE_S
    sparky.wait_for(lambda: has_reached_the_end(sparky, candles[-1]), "the end of the file", patience_s)
    assert sparky.press_ctrl_c() == 0
    with command_database.open_database(Settings(sparky_home=sparky.home)) as dsn:
        return finished(dsn, candles)


def has_reached_the_end(sparky: Sparky, last: Candle) -> bool:
    with sparky.store() as store:
        newest = store.get_decision_trace(store.list_decisions(limit=1)[0].id)
    assert newest is not None
    assert newest.decision.market is not None
    return bool(newest.decision.market["symbols"][0]["as_of_ms"] >= last.open_time_ms)


def finished(dsn: str, candles: list[Candle]) -> Run:
    with psycopg.connect(dsn, row_factory=dict_row) as connection, Store(PostgresRpc(SecretStr(dsn))) as store:
        answers = connection.execute(
            "select strategy_id, answer from webhook_requests where status = 'booked' order by processed_at"
        )
        markets = connection.execute("select market from ai_trade_log where market is not null order by created_at")
        return Run(
            candles=candles,
            markets=[symbol for row in markets for symbol in row["market"]["symbols"]],
            answers=list(answers),
            fills=list(connection.execute("select price, market_time_ms from fills")),
            trades=list(connection.execute("select * from trades order by exit_time, id")),
            positions=list(connection.execute("select * from positions")),
            overview=list(store.list_strategy_overviews()),
        )


def read(path: Path) -> list[Candle]:
    with path.open() as file:
        return [
            Candle(int(row["open_time_ms"]), *(float(row[k]) for k in ("open", "high", "low", "close", "volume")))
            for row in csv.DictReader(file)
        ]


def legs(answer: dict[str, Any]) -> Iterator[tuple[str, Decimal, Decimal, str]]:
    """(action, quantity, price, side) of each fill in an answer; the exit of a reversal comes first."""
    if "closed" in answer:
        yield from legs(answer["closed"] | {"action": "closed"})
    if answer["action"] in ("opened", "closed"):
        quantity, price = Decimal(str(answer["quantity"])), Decimal(str(answer["fill_price"]))
        yield answer["action"], quantity, price, answer["side"]


def replayed(answers: list[dict[str, Any]]) -> dict[Any, Book]:
    books: dict[Any, Book] = defaultdict(Book)
    for row in answers:
        for action, quantity, price, side in legs(row["answer"]):
            book = books[row["strategy_id"]]
            if action == "opened":
                book.open(1 if side == "LONG" else -1, quantity, price, quantity * price * FEE_RATE)
            else:
                book.close(quantity, price, quantity * price * FEE_RATE)
    return books


def test_a_replay_agrees_with_the_file_and_with_its_own_fills(run: Run) -> None:
    check_indicators(run)
    check_prices(run)
    check_ledger(run)


def check_indicators(run: Run) -> None:
    """What was recorded with each decision is what the file says up to that candle."""
    at = {candle.open_time_ms: index for index, candle in enumerate(run.candles)}
    assert len(run.markets) > 50
    for market in run.markets:
        end = at[int(market["candles"][-1][0])] + 1
        seen = run.candles[max(0, end - WARM_UP_CANDLES) : end]
        assert [tuple(row) for row in market["candles"]] == [tuple(candle) for candle in seen[-10:]]
        expected = {k: v for k, v in independent(seen).model_dump().items() if v is not None}
        assert market["indicators"] == pytest.approx(expected, rel=1e-7, abs=1e-7)


def check_prices(run: Run) -> None:
    """Every fill lies within the candle of its moment, but for spread and slippage."""
    at = {candle.open_time_ms: candle for candle in run.candles}
    assert len(run.fills) > 20
    for fill in run.fills:
        open_time_ms = fill["market_time_ms"] // MINUTE_MS * MINUTE_MS
        candle = at[min(open_time_ms, run.candles[-1].open_time_ms)]  # time stands still at the end of the file
        assert candle.low * 0.999 <= float(fill["price"]) <= candle.high * 1.001


def check_ledger(run: Run) -> None:
    """Positions, trades, fees and profit are to the cent those of a replay of the fills."""
    books = replayed(run.answers)
    assert sum(len(book.trades) for book in books.values()) == len(run.trades) > 10
    booked: dict[Any, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for trade in run.trades:
        booked[trade["strategy_id"]].append((trade["fees_usd"], trade["pnl_usd"]))
    for strategy_id, book in books.items():
        assert cents(booked[strategy_id]) == cents(book.trades)
    held = {row["strategy_id"]: row for row in run.positions}
    assert set(held) == {key for key, book in books.items() if book.quantity}
    for strategy_id, row in held.items():
        book = books[strategy_id]
        assert row["quantity"] * (1 if row["side"] == "LONG" else -1) == book.quantity
        assert row["entry_price"].quantize(CENT) == book.entry.quantize(CENT)
        assert row["fees_usd"].quantize(CENT) == book.entry_fees.quantize(CENT)
    for row in run.overview:
        profit = sum((profit for _, profit in books[row.id].trades), Decimal(0))
        assert row.realized_pnl_usd.quantize(CENT) == profit.quantize(CENT)
        assert row.equity_usd.quantize(CENT) == (CAPITAL + profit + row.unrealized_pnl_usd).quantize(CENT)


def cents(trades: list[tuple[Decimal, Decimal]]) -> list[tuple[Decimal, Decimal]]:
    return sorted((fees.quantize(CENT), profit.quantize(CENT)) for fees, profit in trades)
