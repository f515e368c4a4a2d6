"""Keeps the accounts of the simulated venue on disk, so that positions outlive its process.

A file of JSON lines: first the name of the series that is traded (another series starts without accounts), then one
line per change, written before the request is answered. When read, later lines win; reading ends at a line that a
killed process left incomplete.
"""

import json
from dataclasses import asdict, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import structlog

from engine.platform import atomic_file
from simulator.venue.trading_account import Account, Fill, Holding, Income, Order

log: Final = structlog.get_logger()
PERSISTED: Final = (Order, Holding, Fill, Income)
DECIMAL_FIELDS: Final = frozenset(field.name for kind in PERSISTED for field in fields(kind) if field.type is Decimal)


class AccountFile:
    """One file. A write that fails is logged only, because the venue can go on without it."""

    def __init__(self, path: Path, series: str) -> None:
        self._path = path
        self._series = series
        self._written_counts: dict[str, tuple[int, int]] = {}  # fills and incomes on file, per user

    def read(self) -> dict[str, Account]:
        """All accounts of this series, by user; compacts the file to one line per account."""
        accounts: dict[str, Account] = {}
        for line in self._read_lines():
            _apply_line(accounts.setdefault(line["user"], Account()), line)
        try:
            self._rewrite(accounts)
        except OSError as error:
            log.warning("accounts_not_written", path=str(self._path), error=str(error))
        return accounts

    def write(self, user: str, account: Account) -> None:
        """Appends what has changed since the last call; `read` must have been called before."""
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(self._build_line(user, account, account.unsaved_orders).encode())
        except OSError as error:
            log.warning("accounts_not_written", path=str(self._path), error=str(error))

    def _read_lines(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        try:
            head, *rest = self._path.read_bytes().splitlines()
            if json.loads(head) != {"series": self._series}:
                return []
            lines.extend(json.loads(text) for text in rest)
        except (OSError, ValueError):
            return lines  # no file, or the end of what can be read
        return lines

    def _rewrite(self, accounts: dict[str, Account]) -> None:
        self._written_counts.clear()
        head = json.dumps({"series": self._series}) + "\n"
        lines = [self._build_line(user, account, list(account.orders.values())) for user, account in accounts.items()]
        atomic_file.write_atomic(self._path, head + "".join(lines))

    def _build_line(self, user: str, account: Account, orders: list[Order]) -> str:
        fills, incomes = self._written_counts.get(user, (0, 0))
        # Fills and incomes never change, so only new ones are written; orders and holdings are written as they are now.
        self._written_counts[user] = len(account.fills), len(account.incomes)
        line = {
            "user": user,
            "balance": account.balance,
            "checked_ms": account.checked_ms,
            "fee_coin": account.fee_coin,
            "funded_ms": account.funded_ms,
            "fee_coin_left": account.fee_coin_left,
            "holdings": {symbol: asdict(held) for symbol, held in account.holdings.items()},
            "orders": {order.order_id: asdict(order) for order in orders},
            "fills": [_fill_fields(fill) for fill in account.fills[fills:]],
            "incomes": [asdict(income) for income in account.incomes[incomes:]],
        }
        return json.dumps(line, default=str) + "\n"


def _fill_fields(fill: Fill) -> dict[str, Any]:
    values = {field.name: getattr(fill, field.name) for field in fields(Fill)}
    return values | {"order": fill.order.order_id}


def _apply_line(account: Account, line: dict[str, Any]) -> None:
    account.balance, account.checked_ms = Decimal(line["balance"]), line["checked_ms"]
    account.fee_coin, left = line.get("fee_coin"), line.get("fee_coin_left")
    account.fee_coin_left = None if left is None else Decimal(left)
    account.funded_ms = dict(line.get("funded_ms", {}))
    account.holdings = {symbol: Holding(**_parse_decimals(held)) for symbol, held in line["holdings"].items()}
    for order_id, values in line["orders"].items():
        account.orders[int(order_id)] = Order(**_parse_decimals(values))
    for values in line["fills"]:
        account.fills.append(Fill(**_parse_decimals(values) | {"order": account.orders[values["order"]]}))
    # older files have none
    account.incomes.extend(Income(**_parse_decimals(values)) for values in line.get("incomes", ()))


def _parse_decimals(values: dict[str, Any]) -> dict[str, Any]:
    return {name: Decimal(value) if name in DECIMAL_FIELDS else value for name, value in values.items()}
