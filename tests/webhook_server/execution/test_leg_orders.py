"""One order is brought to a known end and never sent twice; what the books could not hold is never sent."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import (
    OrderOutcomeUnknown,
    OrderRejected,
    OutsidePriceBand,
    StrategyFault,
    VenueUnavailable,
)
from engine.platform.errors import CredentialsError
from engine.risk.exit_quantities import MAX_PARTS
from engine.venues.orders import OrderRequest, OrderResult, OrderStatus
from tests.webhook_server.legs import StepClock
from tests.webhook_server.market import LiveAccount, Market
from webhook_server.clock import SystemClock
from webhook_server.execution.leg_orders import (
    ORDER_NOT_MADE,
    LegOrders,
    OrderNotMade,
    combine_orders,
    find_order,
    find_orders,
    place_order,
    send_orders,
    to_retryable,
)


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


BUY = OrderRequest(client_order_id="so-1", symbol="BTCUSDT", is_buy=True, quantity=Decimal(1))


def build_result(
    name: str = "so-1",
    quantity: str | Decimal = "1",
    price: str | Decimal = "25000",
    status: OrderStatus = OrderStatus.FILLED,
    at_ms: int = 1,
) -> OrderResult:
    """An order that paid 0.04 % of 25,000 USD."""
    return OrderResult(
        order_id=f"venue-{name}",
        client_order_id=name,
        status=status,
        price=Decimal(price),
        quantity=Decimal(quantity),
        fee_usd=Decimal(10),
        at_ms=at_ms,
    )


class SlowAccount(LiveAccount):
    """Answers an order with `sent`, and questions for it with `told`, one after the other; the last one stays."""

    def __init__(self, sent: OrderResult | Exception, *told: OrderResult | Exception | None) -> None:
        super().__init__(Market())
        self.sent, self.told, self.asked, self.placed = sent, list(told), 0, 0

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        assert order == BUY
        self.placed += 1
        if isinstance(self.sent, Exception):
            raise self.sent
        return self.sent

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        assert (symbol, client_order_id) == (BUY.symbol, BUY.client_order_id)
        self.asked += 1
        answer = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


OPEN_YET = build_result(quantity="0", status=OrderStatus.OPEN)
ENDED_WITHOUT_FILL = build_result(quantity="0", status=OrderStatus.REJECTED)


def test_a_filled_order_is_not_asked_about() -> None:
    account, clock = SlowAccount(build_result(), None), StepClock()
    assert place_order(account, BUY, clock) == build_result()
    assert (account.placed, account.asked, clock.slept) == (1, 0, [])


@pytest.mark.parametrize("sent", [OPEN_YET, OrderOutcomeUnknown("timed out")], ids=["open", "answer lost"])
def test_an_order_without_an_end_is_asked_about_until_it_has_one(sent: OrderResult | Exception) -> None:
    account, clock = SlowAccount(sent, None, OPEN_YET, build_result()), StepClock()
    assert place_order(account, BUY, clock) == build_result()
    assert (account.placed, account.asked) == (1, 3)


@pytest.mark.parametrize("sent", [OPEN_YET, OrderOutcomeUnknown("timed out")], ids=["open", "answer lost"])
@pytest.mark.parametrize("told", [None, OPEN_YET], ids=["not known", "open"])
def test_an_order_that_gets_no_end_in_three_seconds_is_unknown_and_not_refused(
    sent: OrderResult | Exception, told: OrderResult | None
) -> None:
    account, clock = SlowAccount(sent, told), StepClock()
    with pytest.raises(OrderOutcomeUnknown, match="no known end yet"):
        place_order(account, BUY, clock)
    assert account.placed == 1
    assert 2 < sum(clock.slept) <= 3


@pytest.mark.parametrize(
    "told", [ENDED_WITHOUT_FILL, build_result(quantity="0")], ids=["rejected", "filled with nothing"]
)
def test_an_order_that_was_taken_and_ended_without_a_fill_is_refused(told: OrderResult) -> None:
    with pytest.raises(OrderRejected, match="venue-so-1"):
        place_order(SlowAccount(OPEN_YET, told), BUY, StepClock())


@pytest.mark.parametrize(
    "error", [OrderRejected("no margin"), VenueUnavailable("no connection"), StrategyFault("gone")]
)
def test_an_order_that_was_surely_not_made_is_told_as_that(error: Exception) -> None:
    account = SlowAccount(error, None)
    with pytest.raises(type(error)) as raised:
        place_order(account, BUY, StepClock())
    assert raised.value is error
    assert account.asked == 0


@pytest.mark.parametrize("error", [VenueUnavailable("no connection"), CredentialsError("key revoked")])
def test_a_question_for_an_order_that_fails_before_anything_is_sent_is_told_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)):
        find_order(SlowAccount(OPEN_YET, error), BUY.symbol, BUY.client_order_id, StepClock())


def test_an_order_that_the_venue_does_not_know_was_not_made() -> None:
    assert find_order(SlowAccount(OPEN_YET, None), BUY.symbol, BUY.client_order_id, StepClock()) is None


def test_a_found_order_that_is_open_is_waited_for() -> None:
    account = SlowAccount(OPEN_YET, OPEN_YET, OPEN_YET, build_result())
    assert find_order(account, BUY.symbol, BUY.client_order_id, StepClock()) == build_result()


def find_among(*known: OrderResult) -> Callable[[str], OrderResult | None]:
    """Finds orders of a leg by their name; raises as `find_order` does for one that ended without a fill."""

    def find(name: str) -> OrderResult | None:
        order = next((each for each in known if each.client_order_id == name), None)
        if order is not None and order.status is OrderStatus.REJECTED:
            raise OrderRejected("it ended without a fill")
        return order

    return find


def test_parts_that_an_earlier_attempt_sent_are_found_in_their_order_until_one_is_missing() -> None:
    parts = [build_result(name) for name in ("c", "c1", "c2", "c4")]
    found = find_orders(find_among(*parts), "c")
    assert [each.client_order_id for each in found.orders] == ["c", "c1", "c2"]
    assert (found.is_finished, found.quantity) == (False, Decimal(3))


def test_as_many_parts_as_can_be_sent_are_found() -> None:
    def find(name: str) -> OrderResult:
        return build_result(name)

    assert len(find_orders(find, "c").orders) >= MAX_PARTS


def test_a_part_that_ended_without_a_fill_ends_its_leg() -> None:
    refused = build_result("c1", status=OrderStatus.REJECTED)
    found = find_orders(find_among(build_result("c"), refused, build_result("c2")), "c")
    assert ([each.client_order_id for each in found.orders], found.is_finished) == (["c"], True)


def test_a_leg_whose_first_order_ended_without_a_fill_is_told_as_refused() -> None:
    with pytest.raises(OrderRejected):
        find_orders(find_among(build_result("c", status=OrderStatus.REJECTED)), "c")


def test_parts_are_sent_under_the_names_that_follow_those_before() -> None:
    sent: list[tuple[str, Decimal]] = []

    def place(name: str, quantity: Decimal) -> OrderResult:
        sent.append((name, quantity))
        return build_result(name, quantity)

    before = LegOrders((build_result("c"), build_result("c1")))
    made = send_orders(place, "c", [Decimal(5), Decimal(6)], before)
    assert sent == [("c2", Decimal(5)), ("c3", Decimal(6))]
    assert (made.orders[:2], made.quantity, made.failure) == (before.orders, Decimal(13), None)


def test_no_more_parts_are_sent_than_are_found_again() -> None:
    def place(name: str, quantity: Decimal) -> OrderResult:
        return build_result(name, quantity)

    before = LegOrders(tuple(build_result(str(number)) for number in range(MAX_PARTS - 1)))
    assert len(send_orders(place, "c", [Decimal(1)] * 5, before).orders) == MAX_PARTS


@pytest.mark.parametrize(
    "failure",
    [OrderRejected("no"), VenueUnavailable("no connection"), StrategyFault("gone"), CredentialsError("key revoked")],
)
def test_the_first_part_that_is_not_made_ends_the_sending_and_what_was_made_is_kept(failure: OrderNotMade) -> None:
    assert isinstance(failure, ORDER_NOT_MADE)
    names: list[str] = []

    def place(name: str, quantity: Decimal) -> OrderResult:
        names.append(name)
        if len(names) == 2:
            raise failure
        return build_result(name, quantity)

    made = send_orders(place, "c", [Decimal(3)] * 3, LegOrders())
    assert (names, made.quantity, made.failure) == (["c", "c1"], Decimal(3), failure)


def test_a_part_of_which_nothing_is_known_is_never_taken_for_not_made() -> None:
    def place(name: str, quantity: Decimal) -> OrderResult:
        raise OrderOutcomeUnknown(f"{name} {quantity}")

    with pytest.raises(OrderOutcomeUnknown):
        send_orders(place, "c", [Decimal(3)], LegOrders())


QUANTITIES = st.decimals("0.001", "1000", places=3)
PRICES = st.decimals("0.01", "100000", places=2)


@given(parts=st.lists(st.tuples(QUANTITIES, PRICES), min_size=1, max_size=MAX_PARTS))
def test_orders_as_one_lose_no_quantity_no_fee_and_no_value(parts: list[tuple[Decimal, Decimal]]) -> None:
    orders = [build_result(f"c{number}", *part, at_ms=number) for number, part in enumerate(parts)]
    one = combine_orders(orders)
    assert one.quantity == sum(quantity for quantity, _ in parts)
    assert one.fee_usd == 10 * len(parts)
    assert (one.client_order_id, one.order_id, one.at_ms) == ("c0", "venue-c0", len(parts) - 1)
    assert min(price for _, price in parts) <= one.price <= max(price for _, price in parts)
    assert abs(one.quantity * one.price - sum(quantity * price for quantity, price in parts)) < Decimal("1E-12")


def test_a_price_beyond_the_venues_band_is_waited_for_and_other_refusals_stand() -> None:
    refusal = OrderRejected("no margin")
    assert to_retryable(refusal) is refusal
    assert isinstance(to_retryable(OutsidePriceBand("too far from the mark price")), VenueUnavailable)
