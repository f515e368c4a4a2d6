"""Signals at instruments that change, at every venue: from the strategy's row to the order and the books."""

from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.venues.conftest import Floor

FOREIGN = "币安人生USDT"


def change(floor: Floor, symbol: str | None = "BTCUSDT", **wish: Any) -> None:
    """What the venue lists from now on; see `simulator.control.instrument_control`."""
    told = requests.post(f"{floor.venue_url}/_control/instruments", json={"symbol": symbol, **wish}, timeout=30)
    assert told.status_code == 200, told.text


@pytest.mark.parametrize("is_paper", [False, True], ids=["live", "paper"])
def test_a_name_beyond_ascii_is_traded_from_the_strategy_to_the_books(floor: Floor, *, is_paper: bool) -> None:
    change(floor, None, list={"symbol": FOREIGN, "like": "BTCUSDT"})
    strategy = floor.strategy(target_assets=[FOREIGN], is_paper_trading=is_paper)
    given = {"symbol": FOREIGN, "strategy_id": strategy, "stop_loss_percent": 2}
    told = floor.send("a", **given)
    assert (told["status"], told["action"], told["paper"]) == (200, "opened", is_paper), told
    (held,) = floor.store.list_open_positions()
    assert (held.symbol, held.quantity) == (FOREIGN, Decimal("0.009"))
    assert len(floor.account.fetch_open_orders(FOREIGN)) == (0 if is_paper else 1)
    floor.server.protection_watchdog.run()
    closed = floor.send("b", **given, action="close")
    assert closed["action"] == "closed", closed
    assert floor.store.list_open_positions() == ()
    assert floor.account.fetch_open_orders(FOREIGN) == ()


def test_a_symbol_that_is_not_traded_is_closed_and_not_opened_live_and_on_paper(floor: Floor) -> None:
    paper = floor.strategy(is_paper_trading=True)
    for more in ({}, {"strategy_id": paper}):
        assert floor.send(**more)["action"] == "opened"
    change(floor, status="SETTLING")
    told = [floor.send(**more) for more in ({}, {"strategy_id": paper})]
    assert [each["action"] for each in told] == ["rejected"] * 2
    assert told[0]["reason"] == told[1]["reason"]
    for more in ({}, {"strategy_id": paper}):
        assert floor.send(**more, action="close")["action"] == "closed"
    assert floor.store.list_open_positions() == ()


def test_a_step_that_grew_neither_strands_an_exit_nor_an_entry(floor: Floor) -> None:
    floor.send("a", size=420)  # 0.014
    change(floor, step="0.01")
    told = floor.send("b", size=420)
    assert (told["action"], Decimal(str(told["quantity"]))) == ("opened", Decimal("0.01"))
    assert floor.booked() == floor.net()
