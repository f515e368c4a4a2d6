"""At which price, and when, positions end in a symbol that is gone: by the record where that is only about them."""

from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.venues.conftest import Floor
from tests.venues.instruments import change, reload
from webhook_server.reconciliation.delisting import MAX_SETTLEMENT_CHECKS

MARK = Decimal(28_000)
SETTLED_AT = "27000"


def happen(floor: Floor, **wishes: Any) -> None:
    """What happens to the account, or how its record behaves; see `simulator.control.account_control`."""
    requests.post(f"{floor.venue_url}/_control/account", json=wishes, timeout=30).raise_for_status()


def remove(floor: Floor, how: str = "REALIZED_PNL", price: str = SETTLED_AT) -> None:
    change(floor, is_read=False, remove=how, price=price)


def look_patiently(floor: Floor) -> list[Any]:
    """Differences of all looks within which a record is waited for."""
    return [each for _ in range(MAX_SETTLEMENT_CHECKS) for each in floor.server.reconciliation.run()]


def prices(floor: Floor) -> list[Decimal | None]:
    return [each.exit_price for each in floor.store.list_trades()]


@pytest.mark.parametrize(("how", "price"), [("REALIZED_PNL", MARK), ("trades", Decimal(SETTLED_AT))])
def test_what_a_hand_held_beside_it_makes_no_price_of_the_settlement(floor: Floor, how: str, price: Decimal) -> None:
    floor.send("a")
    floor.server.mark_to_market.run_once()
    happen(floor, trade={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.1"})
    floor.server.reconciliation.run()
    remove(floor, how)
    look_patiently(floor)
    assert prices(floor) == [price]
    assert floor.booked() == 0


def test_dust_beside_it_makes_no_price_of_the_settlement(floor: Floor) -> None:
    floor.send("a", size=250)
    change(floor, step="0.005")
    floor.send("x", action="close")
    floor.send("b", size=600)
    floor.server.mark_to_market.run_once()
    remove(floor)
    reload(floor)  # the exit has had the list read a moment ago
    assert floor.server.reconciliation.run() == ()
    assert prices(floor)[0] == MARK
    assert floor.booked() == 0


@pytest.mark.parametrize("short_usd", [340, 305])
def test_opposite_positions_end_at_the_last_price_known(floor: Floor, short_usd: int) -> None:
    """Of their sum, which the venue settled, nothing tells what each has earned; there may be no sum."""
    long, short = floor.strategy(), floor.strategy()
    floor.send(strategy_id=long)
    floor.direct(jump_percent=20)
    floor.send(strategy_id=short, action="sell", size=short_usd)
    floor.server.mark_to_market.run_once()
    remove(floor, price="33000")
    reload(floor)
    assert floor.server.reconciliation.run() == ()
    assert prices(floor) == [Decimal(33_600)] * 2


def test_positions_of_one_side_that_alone_were_the_account_end_at_its_price(floor: Floor) -> None:
    floor.send(strategy_id=floor.strategy())
    floor.direct(jump_percent=20)
    floor.send(strategy_id=floor.strategy())
    remove(floor)
    assert floor.server.reconciliation.run() == ()
    assert prices(floor) == [Decimal(SETTLED_AT)] * 2


def test_another_strategy_that_left_before_makes_no_price_of_the_settlement(floor: Floor) -> None:
    """The account's entry is the average of both still, and the books' is that of the one."""
    other = floor.strategy()
    floor.send(strategy_id=floor.strategy())
    floor.direct(jump_percent=20)
    floor.send(strategy_id=other, size=600)
    floor.send(strategy_id=other, action="close")
    floor.server.mark_to_market.run_once()
    remove(floor)
    assert floor.server.reconciliation.run() == ()
    assert prices(floor)[0] == Decimal(33_600)


@pytest.mark.parametrize("how", ["trades", "REALIZED_PNL"])
def test_a_settlement_that_is_shown_late_is_waited_for(floor: Floor, how: str) -> None:
    floor.send("a", stop_loss_percent=2)
    happen(floor, record_lag_s=3_600)
    remove(floor, how)
    for _ in range(MAX_SETTLEMENT_CHECKS - 1):
        assert floor.server.reconciliation.run() == ()
    told = floor.send("x", action="close")
    assert (told["status"], "settle" in told["error"]) == (503, True)
    assert floor.store.list_trades() == ()
    happen(floor, record_lag_s=0)
    assert floor.server.reconciliation.run() == ()
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("settled", Decimal(SETTLED_AT))


def test_a_settlement_that_is_never_shown_ends_at_the_last_price(floor: Floor) -> None:
    floor.send("a", stop_loss_percent=2)
    floor.server.mark_to_market.run_once()
    remove(floor, "nothing")
    assert look_patiently(floor) == []
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("delisted", MARK)


def test_what_became_a_position_in_another_symbol_is_not_booked_as_ended(floor: Floor) -> None:
    floor.send("a", stop_loss_percent=2)
    change(floor, list={"symbol": "1000BTCUSDT", "like": "BTCUSDT"}, is_read=False)
    remove(floor, "nothing", price="28000")
    happen(floor, trade={"symbol": "1000BTCUSDT", "side": "BUY", "quantity": "0.009"})
    for _ in range(MAX_SETTLEMENT_CHECKS + 1):
        found = {each.symbol: each for each in floor.server.reconciliation.run()}
        assert "1000BTCUSDT" in (found["BTCUSDT"].reason or "")
    assert floor.store.list_trades() == ()
    assert floor.booked() == Decimal("0.009")
    told = floor.send("x", action="close")
    assert (told["success"], "1000BTCUSDT" in told["error"]) == (False, True)
