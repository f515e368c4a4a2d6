"""An account that pays commissions in a coin: the books earn what its own record says, at the coin's prices."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import requests

from simulator.market.market import Market
from simulator.venue.commissions import DOLLAR
from simulator.venue.trading_account import Account
from simulator.venue.venue import SimulatedVenue
from tests.support.servers.simulated import VENUES, Simulated
from tests.venues.conftest import Floor
from tests.venues.contract.test_fees_in_a_coin import coin_market

STOP: dict[str, Any] = {"stop_loss_percent": 2}
CENT = Decimal("0.01")
LISTED = ["USDT", "USDC"]


@pytest.fixture(params=LISTED)
def make_exchange(request: pytest.FixtureRequest) -> Callable[..., SimulatedVenue]:
    def made(markets: dict[str, Market], *rest: Any, **more: Any) -> SimulatedVenue:
        return SimulatedVenue({**markets, f"BNB{request.param}": coin_market()}, *rest, **more)

    return made


@pytest.fixture(params=sorted(VENUES))
def simulated(request: pytest.FixtureRequest) -> Simulated:
    return VENUES[request.param]


@pytest.fixture
def coin(floor: Floor) -> Floor:
    """The account pays its commissions in BNB."""
    floor.account.fetch_positions()
    happen(floor, fee_coin="BNB")
    return floor


def happen(floor: Floor, **event: Any) -> None:
    """What happens to the account beside its API; two seconds of the market pass."""
    requests.post(f"{floor.venue_url}/_control/account", json=event, timeout=30).raise_for_status()
    floor.hands.now += 2


def look(floor: Floor) -> list[str | None]:
    floor.sql("update fills set created_at = now() - interval '1 minute'")
    return [each.reason for each in floor.server.reconciliation.run()]


def there(floor: Floor) -> Account:
    (account,) = floor.exchange._accounts.values()
    return account


def earned(floor: Floor) -> Decimal:
    """What the account's own record of income says, in dollars when they were paid."""
    rows = [row for row in there(floor).incomes if row.kind != "TRANSFER"]
    prices = (1 if row.asset == DOLLAR else floor.exchange.get_coin_price(row.asset, row.at_ms) for row in rows)
    return sum((row.amount * price for row, price in zip(rows, prices, strict=True)), Decimal(0))


def check_books(floor: Floor, *reasons: str) -> None:
    trades = floor.store.list_trades()
    assert sorted(trade.exit_reason or "" for trade in trades) == sorted(reasons)
    assert floor.booked() == floor.net() == 0
    assert {row.asset for row in there(floor).incomes if row.kind == "COMMISSION"} >= {"BNB"}
    assert abs(sum((trade.pnl_usd or Decimal(0) for trade in trades), Decimal(0)) - earned(floor)) < CENT / 2


def test_an_entry_and_its_exit_cost_what_they_cost(coin: Floor) -> None:
    coin.send("a", size=8_000)
    coin.hands.now += 25
    told = coin.send(action="close")
    assert told["success"]
    assert abs(Decimal(str(told["fee_usd"])) - there(coin).fills[-1].commission * _price(coin)) < CENT / 2
    check_books(coin, "signal")


def _price(floor: Floor) -> Decimal:
    return floor.exchange.get_coin_price("BNB", there(floor).fills[-1].at_ms)


def test_an_order_that_ran_out_of_the_coin_costs_what_each_of_its_trades_cost(coin: Floor) -> None:
    happen(coin, trades_per_order=4)
    happen(coin, fee_coin="BNB", fee_coin_left="0.003")
    coin.send("a", size=8_000)
    coin.send(action="close")
    assert {row.asset for row in there(coin).incomes if row.kind == "COMMISSION"} == {"BNB", "USDT"}
    check_books(coin, "signal")


def test_a_stop_that_fired_costs_what_it_cost(coin: Floor) -> None:
    coin.send("a", size=8_000, **STOP)
    coin.direct(symbol="BTCUSDT", jump_percent=-5)
    coin.account.fetch_positions()
    coin.hands.now += 125
    coin.server.protection_watchdog.run()
    check_books(coin, "stop_loss")


def test_what_a_hand_closed_costs_what_it_cost(coin: Floor) -> None:
    coin.send("a", size=8_000)
    happen(coin, close="BTCUSDT")
    coin.hands.now += 125
    assert look(coin) == []
    check_books(coin, "closed_at_venue")


@pytest.mark.parametrize("manners", [{}, {"trades_hidden": True}], ids=["plain", "trades hidden"])
def test_a_liquidation_costs_its_commission_and_what_else_it_cost(coin: Floor, manners: dict[str, Any]) -> None:
    coin.send("a", size=8_000)
    happen(coin, **manners)
    happen(coin, liquidate="BTCUSDT", pieces=2)
    coin.hands.now += 125
    assert look(coin) == []
    check_books(coin, "liquidated")


def test_a_coin_whose_price_cannot_be_had_keeps_nothing_from_being_booked(coin: Floor) -> None:
    coin.misbehave({"kind": "status", "status": 503, "path": "/klines", "times": None})
    coin.send("a", **STOP)
    happen(coin, close="BTCUSDT")
    assert look(coin) == []
    (trade,) = coin.store.list_trades()
    assert (trade.exit_reason, coin.booked()) == ("closed_at_venue", Decimal(0))
    paid = coin.sql("select fee_usd from fills")
    assert all(fee > 0 for (fee,) in paid)
