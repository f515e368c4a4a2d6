"""What the books could not hold is never sent."""

from decimal import Decimal

import pytest

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.platform.errors import CredentialsError
from engine.venues.orders import OrderRequest, OrderResult
from tests.webhook_server.market import LiveAccount, Market
from webhook_server.clock import SystemClock
from webhook_server.execution.leg_orders import place_order


@pytest.mark.parametrize("quantity", ["1E+20", "1E-21", "1." + "1" * 45])
def test_a_quantity_that_the_books_cannot_hold_is_refused_before_it_is_sent(quantity: str) -> None:
    account = LiveAccount(Market())
    order = OrderRequest(client_order_id="so-1", symbol="BTCUSDT", is_buy=True, quantity=Decimal(quantity))
    with pytest.raises(OrderRejected, match="books"):
        place_order(account, order, SystemClock())
    assert account.requests == []


def test_an_exit_of_any_quantity_is_sent() -> None:
    account = LiveAccount(Market())
    quantity = Decimal("1." + "1" * 45)
    order = OrderRequest(client_order_id="sc-1", symbol="BTCUSDT", is_buy=False, quantity=quantity, leverage=None)
    assert place_order(account, order, SystemClock()).quantity == quantity


@pytest.mark.parametrize("quantity", ["1000000000000", "1E+14", "0.000000001", "12345678901234567.000000000123"])
def test_quantities_of_cheap_and_of_dear_coins_are_sent(quantity: str) -> None:
    account = LiveAccount(Market())
    order = OrderRequest(client_order_id="so-1", symbol="BTCUSDT", is_buy=True, quantity=Decimal(quantity))
    assert place_order(account, order, SystemClock()).quantity == Decimal(quantity)


@pytest.mark.parametrize("answer", [CredentialsError("key revoked"), StrategyFault("it lists no such symbol")])
def test_an_order_whose_answer_is_lost_is_unknown_though_the_venue_refuses_to_tell_of_it(answer: Exception) -> None:
    class Refusing(LiveAccount):
        def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol
            raise answer

    account = Refusing(Market())
    account.mood = "lost"
    order = OrderRequest(client_order_id="so-1", symbol="BTCUSDT", is_buy=True, quantity=Decimal(1))
    with pytest.raises(OrderOutcomeUnknown, match="was sent"):
        place_order(account, order, SystemClock())
    assert len(account.orders) == 1
