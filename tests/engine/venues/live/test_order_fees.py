"""Average price and fee of a filled order: from its trades, from the order itself, or at the taker's rate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import ccxt
import pytest

from engine.venues.live.order_fees import ASSUMED_TAKER_RATE, calculate_price_and_fee
from engine.venues.market_data.coin_prices import CoinPrices

MARKET: dict[str, Any] = {"symbol": "BTC/USDT:USDT", "contractSize": 1}
ORDER: dict[str, Any] = {"id": "7", "filled": "2", "cost": "200", "average": "99.9", "timestamp": 5}


def trade(price: str, amount: str, cost: str, currency: str = "USDT", order: str = "7") -> dict[str, Any]:
    return {
        "order": order,
        "price": price,
        "amount": amount,
        "timestamp": 5,
        "fee": {"cost": cost, "currency": currency},
    }


@dataclass
class Exchange:
    """A ccxt client with `trades`; None: the question fails, as the one for the rate does without a `rate`."""

    trades: list[dict[str, Any]] | None = None
    rate: str | None = "0.0004"
    id: str = "aster"
    last_response_headers: None = None
    asked: list[str] = field(default_factory=list)

    def fetch_my_trades(self, *_: object) -> list[dict[str, Any]]:
        self.asked.append("trades")
        if self.trades is None:
            raise ccxt.NetworkError("no answer")
        return self.trades

    def fetch_trading_fee(self, _: str) -> dict[str, Any]:
        self.asked.append("rate")
        if self.rate is None:
            raise ccxt.NetworkError("no answer")
        return {"taker": self.rate}


class Coins:
    """BNB is worth 600 dollars, and no other coin has a price."""

    def convert_to_usd(self, asset: str, amount: Decimal, _: int) -> Decimal | None:
        return {"USDT": amount, "BNB": amount * 600}.get(asset)


def price_and_fee(
    exchange: Exchange, order: Mapping[str, Any] = ORDER, market: Mapping[str, Any] = MARKET
) -> tuple[Decimal, Decimal]:
    return calculate_price_and_fee(exchange, order, market, cast("CoinPrices", Coins()))


def test_the_trades_of_the_order_tell_its_average_price_and_the_sum_of_its_fees() -> None:
    trades = [trade("100", "1.5", "0.06"), trade("102", "0.5", "-0.02"), trade("50", "9", "9", order="8")]
    assert price_and_fee(Exchange(trades)) == (Decimal("100.5"), Decimal("0.08"))


@pytest.mark.parametrize(
    "trades",
    [
        None,
        [],
        [trade("100", "1.9", "0.06")],  # some are not shown yet
        [trade("100", "2", "?")],  # not to be read
    ],
)
def test_an_order_whose_trades_are_not_all_shown_has_its_own_price_and_the_takers_rate(
    trades: list[dict[str, Any]] | None,
) -> None:
    assert price_and_fee(Exchange(trades)) == (Decimal(100), Decimal("0.08"))


def test_a_rate_that_is_not_told_is_assumed() -> None:
    assert price_and_fee(Exchange(rate=None)) == (Decimal(100), 200 * ASSUMED_TAKER_RATE)


def test_an_order_that_tells_its_fee_is_asked_nothing_more() -> None:
    exchange = Exchange([trade("1", "2", "9")])
    assert price_and_fee(exchange, ORDER | {"fee": {"cost": "0.05"}}) == (Decimal(100), Decimal("0.05"))
    assert price_and_fee(exchange, ORDER | {"fee": {"cost": "0.0001", "currency": "BNB"}})[1] == Decimal("0.06")
    assert exchange.asked == []


def test_a_fee_in_a_coin_is_its_worth_and_without_a_price_the_rate_of_what_it_was_paid_for() -> None:
    trades = [trade("100", "0.5", "0.0001", "BNB"), trade("100", "1.5", "7", "XYZ")]
    assert price_and_fee(Exchange(trades)) == (Decimal(100), Decimal("0.06") + 150 * Decimal("0.0004"))


def test_contracts_are_counted_in_the_base_asset() -> None:
    order, market = ORDER | {"cost": "20"}, MARKET | {"contractSize": "0.1"}
    assert price_and_fee(Exchange(None), order, market) == (Decimal(100), Decimal("0.008"))


def test_the_average_is_used_last_and_an_order_without_any_price_is_an_error() -> None:
    assert price_and_fee(Exchange(None), ORDER | {"cost": None})[0] == Decimal("99.9")
    with pytest.raises(ValueError, match="no price of a filled order"):
        price_and_fee(Exchange(None), ORDER | {"cost": None, "average": None})
