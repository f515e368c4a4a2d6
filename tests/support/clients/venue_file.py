"""The simulated venue's accounts as its own file has them, read without asking the venue, which would change them."""

import json
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

from simulator.venue.account_file import _apply_line
from simulator.venue.trading_account import Account, Fill


class VenueFile:
    """Reads on from where it was read before; a file that was written anew is read from its beginning."""

    def __init__(self, home: Path) -> None:
        self._path = home / "simulated-accounts.jsonl"
        self._accounts: dict[str, Account] = defaultdict(Account)
        self._inode = 0
        self._offset = 0

    def accounts(self) -> dict[str, Account]:
        """By user, as far as they are written; an empty one for anybody else."""
        with self._path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:
                self._inode, self._accounts = inode, defaultdict(Account)
                self._offset = len(file.readline())  # the name of the series
            file.seek(self._offset)
            written = file.read()
        whole = written[: written.rfind(b"\n") + 1]
        self._offset += len(whole)
        for text in whole.splitlines():
            line = json.loads(text)
            _apply_line(self._accounts[line["user"]], line)
        return self._accounts


def change(fill: Fill) -> Decimal:
    """What a fill did to the net position."""
    return fill.quantity if fill.order.is_buy else -fill.quantity


def net_of(account: Account, symbol: str) -> Decimal:
    held = account.holdings.get(symbol)
    return Decimal(0) if held is None else held.amount
