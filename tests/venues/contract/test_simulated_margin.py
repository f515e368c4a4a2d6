"""The simulated venues are as strict about margin as the real ones, and liquidate when that is switched on."""

from decimal import Decimal
from typing import Any

import ccxt
import httpx
import pytest

from tests.venues.contract.conftest import Bench

SYMBOL = "BTC/USDT:USDT"


def client(bench: Bench) -> Any:
    """ccxt's own, so that the venue is seen as it is."""
    exchange: Any = bench.venue._exchange
    exchange.load_markets()
    return exchange


def arrange(bench: Bench, address: str = "settings", **wishes: Any) -> None:
    httpx.post(f"{bench.url}/_control/{address}", json=wishes, timeout=30).raise_for_status()


def calculate_liquidation_price(bench: Bench) -> Decimal:
    (row,) = client(bench).fetch_positions([SYMBOL])
    return Decimal(str(row["liquidationPrice"]))


def test_a_margin_type_is_set_once_and_not_while_something_is_held(bench: Bench) -> None:
    trader = client(bench)
    trader.set_margin_mode("isolated", SYMBOL)
    with pytest.raises(ccxt.NoChange, match="-4046"):
        trader.set_margin_mode("isolated", SYMBOL)
    bench.buy()
    with pytest.raises(ccxt.BaseError, match="-4048"):
        trader.set_margin_mode("cross", SYMBOL)
    trader.set_leverage(25, SYMBOL)
    with pytest.raises(ccxt.BaseError, match="-4161"):
        trader.set_leverage(10, SYMBOL)


def test_an_isolated_position_shows_its_margin_and_the_price_at_which_that_is_used_up(bench: Bench) -> None:
    trader = client(bench)
    trader.set_margin_mode("isolated", SYMBOL)
    trader.set_leverage(20, SYMBOL)
    bench.buy()
    at = calculate_liquidation_price(bench)
    entry, rate = Decimal("28001.4"), Decimal("0.004")
    assert abs(at - entry * (1 - Decimal(1) / 20) / (1 - rate)) < Decimal("0.1")
    ask = f"fapiPrivateGet{'V3' if trader.id == 'aster' else ''}LeverageBracket"
    (told,) = getattr(trader, ask)({"symbol": "BTCUSDT"})
    assert Decimal(str(told["brackets"][0]["maintMarginRatio"])) == rate


def test_a_cross_position_has_the_whole_balance_before_it_is_liquidated(bench: Bench) -> None:
    arrange(bench, balance="30")
    client(bench).set_leverage(20, SYMBOL)
    bench.buy()
    at = calculate_liquidation_price(bench)
    assert Decimal(25_050) < at < Decimal(25_200)  # (280 - 30) / 0.01 and what must be kept of it


@pytest.mark.parametrize(("margin", "left"), [("isolated", "0"), ("cross", "0.01")])
def test_the_venue_liquidates_what_has_no_margin_left(bench: Bench, margin: str, left: str) -> None:
    trader = client(bench)
    if margin == "isolated":
        trader.set_margin_mode(margin, SYMBOL)
    trader.set_leverage(20, SYMBOL)
    bench.buy()
    arrange(bench, liquidates=True)
    bench.direct(jump_percent=-12)
    bench.direct(jump_percent=14)
    assert bench.net() == Decimal(left)
    assert bool(bench.venue.fetch_forced_orders("BTCUSDT", 0)) is (left == "0")


def test_a_cross_account_is_liquidated_when_all_of_it_is_used_up(bench: Bench) -> None:
    arrange(bench, balance="30", liquidates=True)
    client(bench).set_leverage(20, SYMBOL)
    bench.buy()
    bench.direct(jump_percent=-12)
    assert bench.net() == 0


def test_a_change_of_the_margin_type_can_go_wrong_in_three_ways(bench: Bench) -> None:
    trader = client(bench)
    arrange(bench, "margin", ignored=True)
    trader.set_margin_mode("isolated", SYMBOL)
    trader.set_margin_mode("isolated", SYMBOL)  # no -4046, since nothing was changed
    arrange(bench, "margin", ignored=False, sets_leverage=50)
    trader.set_margin_mode("isolated", SYMBOL)
    assert trader.fetch_leverages([SYMBOL], {"symbol": "BTCUSDT"})[SYMBOL]["longLeverage"] == 50
    arrange(bench, "margin", shown_only_held=True)
    assert trader.fetch_leverages([SYMBOL], {"symbol": "BTCUSDT"}) == {}
