"""Accounts outlive the simulator: in a file that is true after any end, also after a kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account as Signer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from engine.domain.positions import Side
from engine.platform.errors import UpstreamUnavailable
from engine.platform.values import Frozen
from engine.venues.account_record import AccountTrade, ForcedOrder, Income
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, OrderStatus, Protection
from simulator.venue.account_file import AccountFile
from simulator.venue.trading_account import Account, Order
from tests.support.processes.directories import short_directory
from tests.support.servers.ports import free_port

PROGRAM = """
import sys, time
from pathlib import Path
from engine.platform.settings.settings import Settings
from simulator.service import make_aster
settings = Settings(sparky_home=Path(sys.argv[1]), sparky_sim_aster_port=int(sys.argv[2]))
service = make_aster(settings, "")
service.start()
print("up", flush=True)
time.sleep(600)
"""


class Keys(Frozen):
    api_key: None = None
    api_secret: None = None
    user_address: None = None
    private_key: SecretStr = SecretStr(f"{7:064x}")
    signer_address: str = str(Signer.from_key(f"{7:064x}").address)


class Process:
    """The simulator in a process of its own, which a test may kill."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self._home = home
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", PROGRAM, str(self._home), str(self.port)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        self._running = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert self._running.stdout is not None
        assert self._running.stdout.readline() == b"up\n"

    def kill(self) -> None:
        if self._running is not None:
            self._running.send_signal(signal.SIGKILL)
            self._running.wait(30)
            if self._running.stdout is not None:
                self._running.stdout.close()
            self._running = None


@pytest.fixture
def process() -> Iterator[Process]:
    with short_directory() as home:
        process = Process(home)
        yield process
        process.kill()


def happens(port: int, **wish: object) -> None:
    httpx.post(f"http://127.0.0.1:{port}/_control/account", json=wish, timeout=30).raise_for_status()


def record_of(
    venue: CcxtVenue, since_ms: int
) -> tuple[tuple[AccountTrade, ...], tuple[ForcedOrder, ...], tuple[Income, ...]]:
    symbol = "ETHUSDT"
    return (
        venue.fetch_trades(symbol, since_ms=since_ms),
        venue.fetch_forced_orders(symbol, since_ms),
        venue.fetch_income(symbol, since_ms),
    )


def test_a_position_its_protection_and_its_record_survive_a_kill_of_the_venue(process: Process) -> None:
    process.start()
    venue = CcxtVenue("aster", Keys(), f"http://127.0.0.1:{process.port}", limiter=RequestWeightLimiter())
    entry = venue.place_market_order(
        OrderRequest(client_order_id="entry", symbol="ETHUSDT", is_buy=True, quantity=Decimal("0.5"), leverage=7)
    )
    stop_price = (entry.price / 2).quantize(Decimal(1))
    protection = Protection(
        signal_id="1", symbol="ETHUSDT", side=Side.LONG, quantity=Decimal("0.5"), stop_loss_price=stop_price
    )
    venue.place_protection(protection)
    happens(process.port, funding={"symbol": "ETHUSDT", "rate": "0.0001"})
    happens(process.port, liquidate="ETHUSDT", quantity="0.1", pieces=2, keeps_orders=True)
    happens(process.port, adl="ETHUSDT", quantity="0.1")
    before = venue.fetch_positions(), venue.fetch_balance().wallet_usd, venue.fetch_open_orders("ETHUSDT")
    record = record_of(venue, entry.at_ms)
    process.kill()
    with pytest.raises(UpstreamUnavailable):
        venue.fetch_balance()
    process.start()
    after = venue.fetch_positions(), venue.fetch_balance().wallet_usd, venue.fetch_open_orders("ETHUSDT")
    assert [position.net for position in after[0]] == [Decimal("0.3")]
    assert record_of(venue, entry.at_ms) == record
    assert [len(rows) for rows in record] == [4, 2, 9]
    assert sum((row.amount for row in record[2]), Decimal(10_000)) == before[1]
    assert after[0][0].entry_price == before[0][0].entry_price == entry.price
    assert after[0][0].leverage == 7
    assert after[1:] == before[1:]
    assert venue.find_order("ETHUSDT", "entry") == entry
    second = venue.place_market_order(
        OrderRequest(client_order_id="exit", symbol="ETHUSDT", is_buy=False, quantity=Decimal("0.3"), reduce_only=True)
    )
    assert second.status is OrderStatus.FILLED
    assert int(second.order_id) > int(after[2][0].order_id) > int(entry.order_id)
    venue.close()


def order(number: int, *, is_buy: bool, quantity: int, **more: Any) -> Order:
    given: dict[str, Any] = {
        "order_id": number,
        "client_order_id": str(number),
        "symbol": "X",
        "kind": "MARKET",
        "is_buy": is_buy,
        "quantity": Decimal(quantity),
        "reduce_only": False,
        "close_position": False,
        "price": Decimal(0),
        "stop_price": Decimal(0),
        "created_ms": 1,
        "updated_ms": 1,
    }
    return Order(**(given | more))


steps = st.lists(st.tuples(st.booleans(), st.integers(1, 50), st.integers(5, 2_000), st.booleans()), max_size=20)


@given(steps)
def test_what_is_read_is_what_was_written_in_whatever_steps(
    tmp_path_factory: pytest.TempPathFactory, trades: list[tuple[bool, int, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("book") / "accounts.jsonl"
    book = AccountFile(path, "series")
    assert book.read() == {}
    account = Account(balance=Decimal(10**9))
    for number, (is_buy, quantity, price, is_written) in enumerate(trades, 1):
        account.accept(order(number, is_buy=is_buy, quantity=quantity), Decimal(price), Decimal(price))
        if is_written:
            book.write("u", account)
            account.unsaved_orders.clear()
    book.write("u", account)
    account.unsaved_orders.clear()
    assert AccountFile(path, "series").read() == {"u": account}
    assert AccountFile(path, "series").read() == {"u": account}
    assert AccountFile(path, "another series").read() == {}
    assert AccountFile(path, "series").read() == {}


def test_a_book_from_before_incomes_were_kept_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "accounts.jsonl"
    holding = {"amount": "0.5", "entry_price": "10", "leverage": 7, "margin_type": "cross"}
    line = {"user": "u", "balance": "90", "checked_ms": 1, "holdings": {"X": holding}, "orders": {}, "fills": []}
    path.write_text(json.dumps({"series": "series"}) + "\n" + json.dumps(line) + "\n")
    account = AccountFile(path, "series").read()["u"]
    assert (account.balance, account.incomes, account.get_holding("X").changed_ms) == (Decimal(90), [], 0)


@pytest.mark.parametrize("rest", [b'{"user": "u", "bal', b"\xff\xfe", b"nonsense\n"])
def test_a_line_that_was_never_finished_ends_the_book(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "accounts.jsonl"
    book = AccountFile(path, "series")
    book.read()
    account = Account()
    account.accept(order(1, is_buy=True, quantity=1), Decimal(10), Decimal(10))
    book.write("u", account)
    account.unsaved_orders.clear()
    path.write_bytes(path.read_bytes() + rest)
    assert AccountFile(path, "series").read() == {"u": account}
    assert json.loads(path.read_text().splitlines()[-1])["user"] == "u"


def test_a_disk_that_refuses_does_not_stop_the_venue(tmp_path: Path) -> None:
    book = AccountFile(tmp_path / "nowhere" / "accounts.jsonl", "series")
    assert book.read() == {}
    book.write("u", Account())


def test_a_thousand_changes_take_as_long_at_the_end_as_at_the_start(tmp_path: Path) -> None:
    """Each line holds what changed, not what was: the file grows evenly."""
    path = tmp_path / "accounts.jsonl"
    book = AccountFile(path, "series")
    book.read()
    account = Account(balance=Decimal(10**9))
    sizes = []
    for number in range(1, 1_001):
        account.accept(order(number, is_buy=bool(number % 2), quantity=1), Decimal(10), Decimal(10))
        book.write("u", account)
        account.unsaved_orders.clear()
        sizes.append(path.stat().st_size)
    assert sizes[-1] - sizes[-101] < 1.5 * (sizes[100] - sizes[0])
    assert len(book.read()["u"].fills) == 1_000
