"""What all legs share: a venue that is opened when it is needed, orders that are found again, and fills."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from engine.domain.positions import Side
from engine.platform.errors import ConfigurationError, CredentialsError
from engine.venues.venue import Venue
from tests.support.factories.entry_values import position
from tests.webhook_server.legs import ScriptedAccount, build_legs, build_paper, build_trade, hold_live
from tests.webhook_server.market import LiveAccount, Market
from webhook_server.execution.execution_context import CLOSE, OPEN, RequestEnded, TradeContext
from webhook_server.execution.results import Invalid


def test_a_venue_that_opens_late_holds_up_no_other_request() -> None:
    market, gate, asked = Market(), threading.Event(), threading.Event()

    def open_late() -> Venue:
        asked.set()
        assert gate.wait(30)
        return LiveAccount(market)

    held = position(quantity=Decimal("0.02"))
    slow = build_legs(replace(build_trade(LiveAccount(market)), open_venue=open_late), market)
    quick = build_legs(build_trade(build_paper(market), held, is_paper=True, action="CLOSE"), market)
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(lambda: slow.venue)
        assert asked.wait(30)
        try:
            assert threads.submit(quick.close, held).result(5).quantity == held.quantity
        finally:
            gate.set()
        assert isinstance(late.result(30), LiveAccount)


def test_legs_open_no_venue_until_one_is_needed() -> None:
    opened = []

    def open_venue() -> Venue:
        opened.append(1)
        return LiveAccount(Market())

    market = Market()
    trade = replace(build_trade(LiveAccount(market)), open_venue=open_venue)
    legs = build_legs(trade, market)
    assert legs.find_sent(OPEN) is None  # there was no earlier attempt
    assert legs.find_cost_breach(Decimal(1_000)) is None
    assert opened == []
    assert isinstance(legs.venue, LiveAccount)
    assert opened == [1]


@pytest.mark.parametrize(
    ("error", "has_hint"),
    [(ConfigurationError("No exchange is called 'nowhere'."), False), (CredentialsError("no credentials"), True)],
)
def test_a_venue_that_the_sender_must_mend_refuses_the_request(error: Exception, *, has_hint: bool) -> None:
    def refuse() -> Venue:
        raise error

    market = Market()
    legs = build_legs(replace(build_trade(LiveAccount(market)), open_venue=refuse), market)
    with pytest.raises(RequestEnded) as ended:
        _ = legs.venue
    result = ended.value.result
    assert ended.value.state == "refused"
    assert isinstance(result, Invalid)
    assert (result.field_name, result.message, result.hint is not None) == ("exchange", str(error), has_hint)


@pytest.mark.parametrize(
    ("is_paper", "is_resumed", "is_found"),
    [
        (False, True, True),
        (False, False, False),
        (True, True, False),
    ],
)
def test_an_order_is_looked_for_only_where_an_earlier_attempt_may_have_sent_it(
    *, is_paper: bool, is_resumed: bool, is_found: bool
) -> None:
    market = Market()
    account = LiveAccount(market)
    trade = build_trade(account, is_paper=is_paper, is_resumed=is_resumed)
    first = build_legs(replace(trade, is_paper=False, request=replace(trade.request, is_resumed=False)), market)
    first.open(Decimal(1_000))
    assert build_legs(trade, market).was_sent(OPEN) is is_found


def test_an_order_that_ended_without_a_fill_was_not_sent() -> None:
    market = Market()
    account = ScriptedAccount(market)
    legs = build_legs(build_trade(account, is_resumed=True), market)
    account.refuse_later(legs.trade.client_order_id(OPEN))
    assert not legs.was_sent(OPEN)


def test_a_protective_order_that_filled_has_fired_and_is_the_exit_of_its_side() -> None:
    market = Market()
    account = LiveAccount(market)
    held = hold_live(account, "0.039", side=Side.SHORT, leverage=3)
    legs = build_legs(build_trade(account, held, action="SELL"), market)
    assert not legs.has_fired()
    account.trigger(held.stop_loss_client_order_id or "")
    assert legs.has_fired()
    fired = legs.protection.cancel_existing(held)
    assert fired is not None
    fill = legs.fill_from_trigger(held, fired)
    assert (fill.kind, fill.side, fill.exit_reason, fill.leverage) == ("close", Side.SHORT, "stop_loss", 3)


def test_what_nothing_is_held_of_has_not_fired() -> None:
    market = Market()
    assert not build_legs(build_trade(LiveAccount(market)), market).has_fired()


def test_a_fill_has_the_side_and_the_reason_of_its_leg() -> None:
    market = Market()
    account = LiveAccount(market)
    held = hold_live(account, "0.039", side=Side.SHORT)
    trade: TradeContext = build_trade(account, held, action="BUY")
    legs = build_legs(trade, market)
    closed, (opened, _) = legs.close(held), legs.open(Decimal(500))
    assert (closed.kind, closed.side, closed.exit_reason) == ("close", Side.SHORT, "signal")
    assert (opened.kind, opened.side, opened.exit_reason) == ("open", Side.LONG, None)
    assert [closed.client_order_id, opened.client_order_id] == [trade.client_order_id(leg) for leg in (CLOSE, OPEN)]
