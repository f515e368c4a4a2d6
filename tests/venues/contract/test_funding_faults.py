"""Funding that nothing explains, that a server misses or dies over, that others on the account bear; at every venue."""

import itertools
from decimal import Decimal
from typing import Any

import pytest

from tests.venues.conftest import Floor
from tests.venues.contract.test_fees_in_a_coin import coin_market
from tests.venues.contract.test_funding import (
    FIRST_S,
    PAPER,
    booked,
    happen,
    hourly,
    let_the_price_be_old,
    paid,
    rounds,
    schedule,
)
from webhook_server.background.funding import LOOKBACK_S

STEPS = ("list_booked_payments", "get_funding_facts", "book_funding", "set_funding_read_until")


def test_what_nothing_explains_is_counted_once_and_kept(floor: Floor) -> None:
    floor.account.fetch_positions()  # which opens the account
    happen(floor, trade={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.002"})
    floor.send()
    floor.send(action="close")
    floor.hands.now += 2
    happen(floor, funding={"symbol": "BTCUSDT", "rate": "0.001"})
    for _ in range(3):
        floor.server.funding.run()
    assert floor.metric("funding_unexplained_total") == 1
    assert booked(floor) == 0
    assert floor.sql("select sum(amount_usd) from funding_payments") == [(paid(floor),)]


def test_a_payment_while_no_server_ran_is_booked_at_the_start_of_the_next(floor: Floor) -> None:
    hourly(floor)
    floor.send()
    floor.send(**PAPER)
    rounds(floor)
    floor.hands.now += FIRST_S + 3_600
    floor.start_anew()
    rounds(floor)
    live, paper = sorted(floor.store.list_open_positions(), key=lambda each: each.is_paper)
    assert live.funding_usd == paper.funding_usd == paid(floor)
    rounds(floor, 3)
    assert booked(floor) == 2 * paid(floor)


@pytest.mark.parametrize("environment", ["production", "paper"])
@pytest.mark.parametrize("is_looked_at", [False, True])
@pytest.mark.parametrize("enters_later", [False, True])
def test_a_payment_of_what_was_closed_long_before_the_next_server_is_booked(
    floor: Floor, environment: str, *, is_looked_at: bool, enters_later: bool
) -> None:
    floor.exchange.markets["ETHUSDT"] = coin_market()
    hourly(floor)
    floor.send(environment=environment)
    if is_looked_at:
        rounds(floor)
    floor.hands.now += FIRST_S
    let_the_price_be_old(floor)
    floor.send(action="close", environment=environment)
    floor.sql("update fills set created_at = created_at - interval '13 hours'")
    floor.start_anew()
    if enters_later:
        floor.send(environment=environment, symbol="ETHUSDT")
    rounds(floor, 4)
    (trade,) = floor.store.list_trades()
    assert trade.funding_usd == booked(floor) == Decimal("-0.252")


@pytest.mark.parametrize("environment", ["production", "paper"])
def test_what_was_closed_is_looked_at_until_all_its_payments_are_surely_shown(floor: Floor, environment: str) -> None:
    def places() -> int:
        return len(floor.store.list_funding_symbols(LOOKBACK_S))

    hourly(floor)
    floor.send(environment=environment)
    floor.hands.now += FIRST_S
    let_the_price_be_old(floor)
    floor.send(action="close", environment=environment)
    floor.sql("update fills set created_at = created_at - interval '13 hours'")
    rounds(floor, 2)
    assert (booked(floor), places()) == (Decimal("-0.252"), 1)
    floor.sql("update fills set market_time_ms = market_time_ms - 9 * 3600000")  # which is all of it nine hours ago
    floor.start_anew()
    rounds(floor)
    assert (booked(floor), places()) == (Decimal("-0.252"), 0)


def test_what_is_read_begins_with_the_first_entry(floor: Floor) -> None:
    hourly(floor)
    floor.account.fetch_positions()  # which opens the account
    happen(floor, trade={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.002"})
    floor.hands.now += FIRST_S
    happen(floor, close="BTCUSDT")
    floor.hands.now += 3_000
    floor.send()
    rounds(floor, 2)
    assert paid(floor) != 0
    assert floor.sql("select * from funding_payments") == []


def test_what_is_paid_in_a_coin_without_a_price_is_kept_as_such_and_told(floor: Floor) -> None:
    hourly(floor)
    schedule(floor, asset="NOSUCH")
    floor.send()
    floor.hands.now += FIRST_S
    rounds(floor, 3)
    assert floor.metric("funding_unexplained_total") == 1
    ((amount, reason),) = floor.sql("select amount_usd, reason from funding_payments")
    assert (amount, "-0.252 NOSUCH" in reason) == (0, True)


@pytest.mark.parametrize("quote", ["USDT", "USDC"])
def test_what_is_paid_in_a_coin_is_worth_its_price_when_it_was_paid(floor: Floor, quote: str) -> None:
    floor.exchange.markets[f"BNB{quote}"] = coin_market()
    hourly(floor)
    schedule(floor, asset="BNB")
    floor.send()
    floor.hands.now += FIRST_S
    price = floor.exchange.get_coin_price("BNB", floor.exchange.clock.now_ms() - 1_000)
    floor.hands.now += 1_800
    rounds(floor, 3)
    assert booked(floor) == paid(floor) * price != 0
    assert floor.sql("select count(*) from funding_payments where reason is not null") == [(0,)]


def test_a_coin_whose_price_is_not_told_now_is_in_no_other_payments_way(floor: Floor) -> None:
    floor.exchange.markets["BNBUSDT"] = coin_market()
    hourly(floor)
    floor.send()
    floor.hands.now += FIRST_S
    price = floor.exchange.get_coin_price("BNB", floor.exchange.clock.now_ms() - 1_000)
    happen(floor, funding={"symbol": "BTCUSDT", "rate": "0.0005"})
    first_is_a_coin = {"kind": "edit", "path": "/income", "times": None, "replace": {"0.asset": "BNB"}}
    floor.misbehave(first_is_a_coin, {"kind": "status", "status": 503, "path": "/klines", "times": None})
    rounds(floor, 2)
    assert booked(floor) == Decimal("-0.126")
    floor.misbehave(first_is_a_coin)
    let_the_price_be_asked_again(floor)
    rounds(floor)
    assert booked(floor) == Decimal("-0.126") + Decimal("-0.252") * price
    assert floor.sql("select count(*) from funding_payments where reason is not null") == [(0,)]


def let_the_price_be_asked_again(floor: Floor) -> None:
    """As after the minute for which a price that was not told is not asked for."""
    record = floor.account._side_clients.record  # type: ignore[attr-defined] # the account is ccxt's
    record._coin_prices._paused_until.clear()


def test_a_payment_that_paper_is_told_again_milliseconds_later_is_booked_once(floor: Floor) -> None:
    hourly(floor)
    floor.send(**PAPER)
    rounds(floor)
    floor.hands.now += FIRST_S + 5
    rounds(floor, 2)
    ((at_ms, before),) = floor.sql("select at_ms, amount_usd from funding_payments")
    for change_ms in (3, -3):
        edit = {"0.fundingTime": at_ms + change_ms}
        floor.misbehave({"kind": "edit", "path": "/fundingRate", "times": None, "replace": edit})
        floor.start_anew()
        rounds(floor, 2)
        assert floor.sql("select at_ms, amount_usd from funding_payments") == [(at_ms, before)]
    assert booked(floor) == before == Decimal("-0.252")


def test_a_person_bears_what_they_hold_outside_sparky(floor: Floor) -> None:
    happen(floor)
    floor.account.fetch_positions()  # which opens the account
    happen(floor, trade={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.003"})
    floor.sql(
        "insert into outside_holdings (user_id, exchange, symbol, quantity) values (%s, %s, 'BTCUSDT', 0.003)",
        floor.user_id,
        floor.simulated.name,
    )
    hourly(floor)
    floor.hands.now += 2
    floor.send()
    floor.hands.now += FIRST_S
    rounds(floor, 2)
    assert paid(floor) == Decimal("-0.336")
    assert booked(floor) == Decimal("-0.252")
    assert floor.sql("select sum(amount_usd) from funding_payments") == [(paid(floor),)]
    assert floor.metric("funding_unexplained_total") == 0


class Killed(BaseException):
    """What a server feels of a kill: nothing of it goes on."""


def test_a_server_that_dies_at_any_step_of_it_loses_and_doubles_nothing(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.send()
    floor.send(**PAPER)
    for step, is_done in itertools.product(STEPS, (False, True)):
        floor.hands.now += 61  # a minute has one payment
        happen(floor, funding={"symbol": "BTCUSDT", "rate": "0.001"})
        floor.start_anew()
        with monkeypatch.context() as patch:
            patch.setattr(type(floor.store), step, dying(getattr(type(floor.store), step), is_done=is_done))
            with pytest.raises(Killed):
                rounds(floor)
        floor.start_anew()
        rounds(floor, 2)
        assert [each.funding_usd for each in floor.store.list_open_positions()] == [paid(floor)] * 2, step


def dying(do: Any, *, is_done: bool) -> Any:
    """`do`, at which the server dies: after it `is_done`, or before."""

    def die(*given: Any, **named: Any) -> None:
        if is_done:
            do(*given, **named)
        raise Killed

    return die


def test_near_the_limit_of_its_requests_nothing_is_asked(floor: Floor) -> None:
    hourly(floor)
    floor.send()
    rounds(floor)
    floor.hands.now += FIRST_S
    floor.account.fetch_positions()
    floor.exchange.meter.used = 2_200
    floor.account.fetch_positions()  # which tells how much is used
    before = floor.exchange.meter.used
    floor.server.funding.run()
    assert floor.exchange.meter.used == before
    assert booked(floor) == 0
