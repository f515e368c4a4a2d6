"""What tests of changing instruments share: what the venue lists is changed, and the server has read it."""

from decimal import Decimal
from typing import Any

import requests

from tests.venues.conftest import Floor


def change(floor: Floor, *, is_read: bool = True, **wishes: Any) -> None:
    """Changes what is listed of BTCUSDT; see `simulator.control.instrument_control`. The server reads it now, or not
    yet."""
    url = f"{floor.venue_url}/_control/instruments"
    requests.post(url, json={"symbol": "BTCUSDT"} | wishes, timeout=30).raise_for_status()
    if is_read:
        reload(floor)


def reload(floor: Floor) -> None:
    """As the hourly reading of the list does."""
    floor.account._exchange.listing._refresh()  # type: ignore[attr-defined]


def at_venue(floor: Floor) -> list[tuple[str, Decimal]]:
    """Client ids and quantities of all fills of the account, oldest first."""
    (account,) = floor.exchange._accounts.values()
    return [(each.order.client_order_id, each.quantity) for each in account.fills]


def orders_sent(floor: Floor) -> int:
    """How many orders the account has ever had."""
    return sum(len(account.orders) for account in floor.exchange._accounts.values())


def trades(floor: Floor) -> list[tuple[str | None, Decimal]]:
    """Exit reasons and quantities of the trades in the books, oldest first."""
    return [(each.exit_reason, each.quantity) for each in reversed(floor.store.list_trades())]


def check_agreement(floor: Floor) -> None:
    """Books, notes and venue agree, and stay so for two rounds of looks."""
    for _ in range(2):
        assert floor.server.reconciliation.run() == ()
        floor.server.protection_watchdog.run()
    assert floor.metric("unprotected_positions") == 0
