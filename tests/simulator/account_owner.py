"""One account at the simulated venue as its owner sees it, and what the venue is made to do to it."""

from decimal import Decimal
from typing import Any

import httpx

from tests.support.factories.signing import KEY, USER, signed

Told = dict[str, Any]


class Person:
    """One account as its owner sees it, and what the venue is made to do to it."""

    def __init__(self, url: str, key: str = KEY, user: str = USER) -> None:
        self._url = url
        self._key = key
        self.user = user

    def get(self, path: str, **query: object) -> Any:
        answer = self.ask(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, path: str, **query: object) -> httpx.Response:
        signed_query = signed(query, self._key, user=self.user)
        return httpx.get(f"{self._url}/fapi/v3{path}?{signed_query}", timeout=30)

    def order(self, side: str, quantity: str, kind: str = "MARKET", **more: object) -> Told:
        given = {"symbol": "BTCUSDT", "side": side, "type": kind, "quantity": quantity, **more}
        answer = httpx.post(f"{self._url}/fapi/v3/order", content=signed(given, self._key, user=self.user), timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def control(self, **wish: object) -> httpx.Response:
        return httpx.post(f"{self._url}/_control/account", json=wish, timeout=30)

    def happens(self, **wish: object) -> Told:
        answer = self.control(**wish)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def trades(self, **query: object) -> list[Told]:
        return list(self.get("/userTrades", symbol="BTCUSDT", **query))

    def income(self, **query: object) -> list[Told]:
        return list(self.get("/income", limit=1000, **query))

    def forced(self, **query: object) -> list[Told]:
        return list(self.get("/forceOrders", symbol="BTCUSDT", **query))

    def amount(self) -> Decimal:
        (row,) = self.get("/positionRisk", symbol="BTCUSDT")
        return Decimal(row["positionAmt"])

    def balance(self) -> Decimal:
        return Decimal(self.get("/balance")[0]["balance"])


def market_order(side: str, quantity: str) -> dict[str, str]:
    return {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": quantity}


def sums(rows: list[Told]) -> dict[str, Decimal]:
    kinds = {row["incomeType"] for row in rows}
    return {kind: sum((Decimal(r["income"]) for r in rows if r["incomeType"] == kind), Decimal(0)) for kind in kinds}
