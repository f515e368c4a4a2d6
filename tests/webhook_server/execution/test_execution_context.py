"""A request's names at the venue, what follows from what is held, and how a request may end early."""

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, VenueUnavailable
from engine.domain.positions import Side
from engine.platform.errors import ConfigurationError, CredentialsError, DatabaseUnavailable, SparkyError
from engine.venues.orders import OrderRequest
from tests.support.factories.entry_values import USER, position
from tests.webhook_server.legs import START_S, build_request, build_trade
from tests.webhook_server.market import LiveAccount, Market
from webhook_server.execution.execution_context import (
    CLOSE,
    OPEN,
    REST,
    UNDO,
    RequestEnded,
    TradeContext,
    end_on_configuration_error,
    keep_request_open,
    parse_server_exit,
)
from webhook_server.execution.results import Invalid
from webhook_server.intake.schemas import REQUEST_ID, ExitTerms

POSITION = UUID("00000000-0000-4000-8000-000000000003")
NAMES = st.from_regex(REQUEST_ID, fullmatch=True)


def build(**fields: object) -> TradeContext:
    """A live trade that holds nothing."""
    return replace(build_trade(LiveAccount(Market())), **fields)  # type: ignore[arg-type]


@given(first=NAMES, second=NAMES, users=st.lists(st.uuids(), min_size=2, max_size=2, unique=True))
def test_orders_of_two_users_two_requests_or_two_legs_never_share_a_name(
    first: str, second: str, users: list[UUID]
) -> None:
    requests = {(user, name) for user in users for name in (first, second)}
    names = [
        replace(trade, request=replace(trade.request, user_id=user, id=name)).client_order_id(leg)
        for trade in (build(),)
        for user, name in requests
        for leg in (CLOSE, REST, OPEN, UNDO, "l", "t", "c1")
    ]
    assert len(set(names)) == len(names)
    for name in names:  # raises for one that no venue takes
        OrderRequest(client_order_id=name, symbol="BTCUSDT", is_buy=True, quantity=Decimal(1))


def test_the_same_request_has_the_same_names_in_every_attempt() -> None:
    first = build()
    again = replace(first, request=replace(first.request, is_resumed=True, started=START_S + 9), held=position())
    assert again.client_order_id(OPEN) == first.client_order_id(OPEN)


def test_released_names_are_of_the_id_alone() -> None:
    mine = build().with_released_names()
    other = replace(mine, request=replace(mine.request, user_id=POSITION))
    assert mine.client_order_id(OPEN) == other.client_order_id(OPEN) != build().client_order_id(OPEN)


def test_what_a_changed_copy_holds_is_seen_anew() -> None:
    """What follows from what is held is kept by each trade, and never by its copy."""
    held = position(is_paper=False, stop_loss_price=Decimal(24_500))
    adding = build(held=held)
    assert (adding.increases_position, adding.wants_protection, adding.side_of(CLOSE)) == (True, True, Side.LONG)
    flat = replace(adding, held=None)
    assert (flat.increases_position, flat.wants_protection) == (False, False)
    turned = replace(adding, request=build_request(action="SELL", stop_loss_percent=2))
    assert (turned.side, turned.increases_position, turned.wants_protection) == (Side.SHORT, False, True)
    assert (turned.side_of(CLOSE), turned.side_of(REST)) == (Side.LONG, Side.LONG)
    assert (turned.side_of(OPEN), turned.side_of(UNDO)) == (Side.SHORT, Side.SHORT)
    resumed = replace(adding, request=build_request(is_resumed=True))
    assert (adding.may_have_been_sent, resumed.may_have_been_sent) == (False, True)


def test_on_paper_nothing_may_have_been_sent_and_no_protective_order_waits() -> None:
    trade = build(request=build_request(is_resumed=True, stop_loss_percent=2), is_paper=True)
    assert not trade.may_have_been_sent
    assert (trade.wants_protection, trade.needs_protective_orders) == (True, False)
    assert replace(trade, is_paper=False).needs_protective_orders


def test_the_servers_own_price_of_an_exit_counts_on_paper_alone() -> None:
    terms = ExitTerms(price=Decimal(24_000), at_ms=1)
    request = build_request(action="CLOSE")
    request = replace(request, signal=request.signal.model_copy(update={"exit_terms": terms}))
    assert build(request=request, is_paper=True).exit_terms == terms
    assert build(request=request).exit_terms is None


@pytest.mark.parametrize(
    ("others", "side", "is_reduction"),
    [
        (frozenset(), Side.LONG, True),
        (frozenset({Side.LONG}), Side.LONG, True),
        (frozenset({Side.SHORT}), Side.LONG, False),
        (frozenset({Side.LONG}), Side.SHORT, False),
    ],
)
def test_an_exit_is_a_reduction_unless_others_hold_the_opposite_side(
    others: frozenset[Side], side: Side, *, is_reduction: bool
) -> None:
    assert build(other_sides=others).can_be_reduce_only(side) is is_reduction


def test_a_plan_that_closes_needs_something_held() -> None:
    with pytest.raises(AssertionError):
        build().require_held()
    held = position()
    assert build(held=held).require_held() is held


@pytest.mark.parametrize(
    ("request_id", "source", "expected"),
    [
        (f"exit/stop_loss/{POSITION}", "stop_loss", ("stop_loss", POSITION)),
        (f"exit/liquidated/{POSITION}/1700000000000", "liquidated", ("liquidated", POSITION)),
        (f"exit/stop_loss/{POSITION}", "take_profit", ("signal", None)),
        (f"exit/stop_loss/{POSITION}", None, ("signal", None)),
        ("exit-stop_loss-1", "stop_loss", ("signal", None)),
        ("btc-1", "tradingview", ("signal", None)),
    ],
)
def test_a_servers_own_exit_is_told_by_its_id_and_its_source_together(
    request_id: str, source: str | None, expected: tuple[str, UUID | None]
) -> None:
    assert parse_server_exit(request_id, source) == expected


def test_no_senders_id_is_that_of_a_servers_own_exit() -> None:
    assert REQUEST_ID.match(f"exit/stop_loss/{POSITION}") is None


def test_a_result_tells_the_time_of_its_own_attempt() -> None:
    request = build_request()
    assert (request.user_id, *request.stamp(START_S + 0.25)) == (USER, "a", 250)


@pytest.mark.parametrize("error", [VenueUnavailable("no connection"), CredentialsError("key revoked")])
def test_once_a_fill_is_booked_what_keeps_us_from_the_venue_leaves_the_request_open(error: Exception) -> None:
    with (
        pytest.raises(OrderOutcomeUnknown, match=f"the exit is booked: .*{error}"),
        keep_request_open("the exit is booked"),
    ):
        raise error


@pytest.mark.parametrize(
    "error",
    [DatabaseUnavailable("no connection"), OrderRejected("refused"), ConfigurationError("unknown"), ValueError("bug")],
)
def test_whatever_else_happens_once_a_fill_is_booked_is_told_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, keep_request_open("the exit is booked"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "has_hint"), [(CredentialsError("key revoked"), True), (ConfigurationError("no such exchange"), False)]
)
def test_what_the_sender_must_mend_ends_the_request_with_the_field(error: SparkyError, *, has_hint: bool) -> None:
    with pytest.raises(RequestEnded) as ended, end_on_configuration_error("aster"):
        raise error
    assert (ended.value.state, ended.value.error) == ("refused", f"aster: {error}")
    assert isinstance(ended.value.result, Invalid)
    assert (ended.value.result.field_name, ended.value.result.hint is not None) == ("exchange", has_hint)


def test_a_venue_that_is_away_ends_no_request() -> None:
    with pytest.raises(VenueUnavailable), end_on_configuration_error("aster"):
        raise VenueUnavailable("no connection")
