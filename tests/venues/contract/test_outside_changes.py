"""What happens at a venue without us, at every venue: found in the account's record, and in the books at its price."""

from decimal import Decimal
from typing import Any

import pytest
import requests

from engine.venues.account_record import ForcedExitCause
from engine.venues.orders import build_client_order_id
from tests.venues.conftest import Floor
from tests.venues.contract.conftest import STOP as STOP_ID
from tests.venues.contract.conftest import Bench, wanted

STOP: dict[str, Any] = {"stop_loss_percent": 2}
BOTH: dict[str, Any] = {"stop_loss_percent": 2, "take_profit_percent": 4}


def happen(url: str, **event: Any) -> None:
    """What the account's owner or the venue does; see `simulator.control.account_control`."""
    requests.post(f"{url}/_control/account", json=event, timeout=30).raise_for_status()


def settled(floor: Floor) -> list[str | None]:
    """Exit reasons after one look at the account. What is booked is what its record says, to the last digit."""
    floor.server.reconciliation.run()
    (account,) = floor.exchange._accounts.values()
    gained = sum((income.amount for income in account.incomes if income.kind != "TRANSFER"), Decimal(0))
    assert sum((trade.pnl_usd or Decimal(0) for trade in floor.store.list_trades()), Decimal(0)) == gained
    assert floor.net() == floor.booked() == 0
    assert account.open_orders() == []
    return [trade.exit_reason for trade in floor.store.list_trades()]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"close": "BTCUSDT"}, "closed_at_venue"),
        ({"liquidate": "BTCUSDT"}, "liquidated"),
        ({"liquidate": "BTCUSDT", "pieces": 3}, "liquidated"),
        ({"liquidate": "BTCUSDT", "keeps_orders": True}, "liquidated"),
        ({"adl": "BTCUSDT"}, "adl"),
    ],
    ids=["hand", "liquidation", "in pieces", "orders are left", "adl"],
)
def test_a_position_that_ends_without_us_is_booked_and_its_orders_are_cancelled(
    floor: Floor, event: dict[str, Any], reason: str
) -> None:
    floor.send("a", **BOTH)
    floor.direct(jump_percent=-1)
    happen(floor.venue_url, **event)
    assert set(settled(floor)) == {reason}
    assert floor.send(action="close")["action"] == "skipped"


def test_a_close_of_what_is_gone_books_what_happened(floor: Floor) -> None:
    floor.send("a", **BOTH)
    happen(floor.venue_url, liquidate="BTCUSDT")
    assert floor.send(action="close")["status"] == 200
    assert settled(floor) == ["liquidated"]


def test_a_stop_that_fired_is_no_hand_at_the_venue_whoever_looks_first(floor: Floor) -> None:
    floor.send("a", **BOTH)
    floor.direct(jump_percent=-5)
    floor.server.reconciliation.run()
    floor.server.protection_watchdog.run()
    assert settled(floor) == ["stop_loss"]
    floor.check_books()


def test_an_account_in_hedge_mode_is_found_out_before_its_first_entry(floor: Floor) -> None:
    floor.arrange(hedge_mode=True)
    told = floor.send("a", **STOP)
    assert told["success"] is False
    assert "hedge mode" in str(told)
    assert floor.net() == 0


def test_the_record_tells_trades_forced_orders_and_income(long: Bench) -> None:
    happen(long.url, liquidate="BTCUSDT")
    bought, sold = long.venue.fetch_trades("BTCUSDT", since_ms=0)
    assert (bought.signed_quantity, sold.signed_quantity) == (Decimal("0.01"), Decimal("-0.01"))
    assert bought.fee_usd == Decimal("0.01") * Decimal("28001.4") * Decimal("0.0004")
    (forced,) = long.venue.fetch_forced_orders("BTCUSDT", 0)
    assert (forced.cause, forced.order_id, forced.price) == (ForcedExitCause.LIQUIDATED, sold.order_id, sold.price)
    kinds = [row.kind for row in long.venue.fetch_income("BTCUSDT", 0)]
    assert sorted(kinds) == ["COMMISSION", "COMMISSION", "INSURANCE_CLEAR", "REALIZED_PNL"]
    assert long.venue.find_client_order_id("BTCUSDT", bought.order_id) == build_client_order_id("entry")
    assert (long.venue.find_client_order_id("BTCUSDT", sold.order_id) or "").startswith("autoclose")
    assert long.venue.find_client_order_id("BTCUSDT", "999") is None


def test_the_trade_of_a_stop_is_known_by_the_stops_own_client_id(long: Bench) -> None:
    long.venue.place_protection(wanted())
    long.direct(jump_percent=-5)
    sold = long.venue.fetch_trades("BTCUSDT", since_ms=0)[-1]
    assert sold.order_id == long.number_of(STOP_ID)
    assert long.venue.find_client_order_id("BTCUSDT", sold.order_id) == STOP_ID
    happen(long.url, trade={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01"})
    by_hand = long.venue.fetch_trades("BTCUSDT", since_ms=0)[-1]
    assert not (long.venue.find_client_order_id("BTCUSDT", by_hand.order_id) or "").startswith("s")
