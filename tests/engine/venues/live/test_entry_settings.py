"""Leverage as other venues of ccxt tell it: believed only when it is read back, and not for ever."""

from dataclasses import dataclass, field
from typing import Any

import ccxt
import pytest

from engine.domain.errors import OrderRejected
from engine.venues.live.entry_settings import CACHE_TTL_S, LeverageControl

MARKET = {"symbol": "BTC/USDT:USDT", "id": "BTCUSDT"}


@dataclass
class Exchange:
    """The part of a ccxt client that leverage needs, for a venue that caps at `most`."""

    has: dict[str, bool]
    most: int = 125
    id: str = "elsewhere"
    leverage: int = 20
    both_sides: bool = True
    set_to: list[int] = field(default_factory=list)

    def set_leverage(self, leverage: int, symbol: str) -> Any:
        assert symbol == MARKET["symbol"]
        self.set_to.append(leverage)
        if leverage == self.leverage:
            raise ccxt.NoChange("no need to change leverage")
        self.leverage = min(leverage, self.most)
        return {"leverage": str(self.leverage)} if not self.has else None

    def fetch_leverage(self, _: str) -> Any:
        other = self.leverage if self.both_sides else self.leverage + 1
        return {"longLeverage": self.leverage, "shortLeverage": other}

    def fetch_leverages(self, symbols: list[str]) -> Any:
        return {symbol: self.fetch_leverage(symbol) for symbol in symbols}


@pytest.mark.parametrize("has", [{"fetchLeverage": True}, {"fetchLeverages": True}, {}])
def test_leverage_is_set_and_read_back_in_the_way_the_venue_has(has: dict[str, bool]) -> None:
    exchange = Exchange(has)
    LeverageControl(exchange).ensure_leverage(MARKET, 7)
    assert exchange.leverage == 7


@pytest.mark.parametrize("has", [{"fetchLeverage": True}, {"fetchLeverages": True}, {}])
def test_a_silent_cap_is_refused(has: dict[str, bool]) -> None:
    with pytest.raises(OrderRejected, match="leverage 50 was asked for and 10 is set"):
        LeverageControl(Exchange(has, most=10)).ensure_leverage(MARKET, 50)


@pytest.mark.parametrize("has", [{"fetchLeverage": True}, {"fetchLeverages": True}, {}])
def test_a_venue_that_has_nothing_to_change_is_content(has: dict[str, bool]) -> None:
    exchange = Exchange(has, leverage=7)
    LeverageControl(exchange).ensure_leverage(MARKET, 7)
    assert (exchange.leverage, exchange.set_to) == (7, [7])


def test_a_venue_that_tells_nothing_is_not_believed() -> None:
    class Silent(Exchange):
        def set_leverage(self, leverage: int, symbol: str) -> Any:
            super().set_leverage(leverage, symbol)

    with pytest.raises(OrderRejected, match="cannot be read back"):
        LeverageControl(Silent({})).ensure_leverage(MARKET, 7)


def test_two_sides_with_two_leverages_are_none() -> None:
    with pytest.raises(OrderRejected, match="cannot be read back"):
        LeverageControl(Exchange({"fetchLeverage": True}, both_sides=False)).ensure_leverage(MARKET, 7)


def test_what_was_read_back_is_remembered_for_a_while_and_what_was_refused_is_not() -> None:
    now = 0.0
    exchange = Exchange({"fetchLeverage": True}, most=10)
    leverage = LeverageControl(exchange, lambda: now)
    leverage.ensure_leverage(MARKET, 7)
    leverage.ensure_leverage(MARKET, 7)
    assert exchange.set_to == [7]
    now = CACHE_TTL_S
    leverage.ensure_leverage(MARKET, 7)
    assert exchange.set_to == [7, 7]
    for _ in range(2):
        with pytest.raises(OrderRejected):
            leverage.ensure_leverage(MARKET, 50)
    leverage.ensure_leverage(MARKET, 7)
    assert exchange.set_to == [7, 7, 50, 50, 7]
