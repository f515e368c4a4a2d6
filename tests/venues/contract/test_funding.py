"""Funding at every venue, live and on paper: in the books to the last digit, once, whatever the venue's manners."""

from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.venues.conftest import Floor

ZERO = Decimal(0)
FIRST_S = 61  # one second after the first full hour of the market
PAPER: dict[str, Any] = {"environment": "paper"}


def schedule(floor: Floor, **wish: Any) -> None:
    """When funding is due; see `simulator.control.funding_control`."""
    requests.post(f"{floor.venue_url}/_control/funding", json=wish, timeout=30).raise_for_status()


def happen(floor: Floor, **event: Any) -> None:
    """What the account's owner or the venue does; see `simulator.control.account_control`."""
    requests.post(f"{floor.venue_url}/_control/account", json=event, timeout=30).raise_for_status()


def rounds(floor: Floor, count: int = 1) -> None:
    """What the server does beside signals, so many times."""
    for _ in range(count):
        for keeper in floor.server.job_runners:
            for job in keeper._jobs:
                job.run(lambda: True)


def hourly(floor: Floor, rate: str = "0.001", **more: Any) -> None:
    schedule(floor, symbol="BTCUSDT", rate=rate, interval_h=1, **more)


def paid(floor: Floor) -> Decimal:
    """What the venue has paid to the account, or taken from it."""
    incomes = [row for each in floor.exchange.list_users() for row in floor.exchange.get_account(each).incomes]
    return sum((row.amount for row in incomes if row.kind == "FUNDING_FEE"), ZERO)


def gained(floor: Floor) -> Decimal:
    (user,) = floor.exchange.list_users()
    return sum((row.amount for row in floor.exchange.get_account(user).incomes if row.kind != "TRANSFER"), ZERO)


def booked(floor: Floor) -> Decimal:
    """The funding in the books, of what is held and of what has ended."""
    (row,) = floor.sql(
        "select (select coalesce(sum(funding_usd), 0) from positions)"
        " + (select coalesce(sum(funding_usd), 0) from trades)"
    )
    return Decimal(row[0])


def earned(floor: Floor) -> Decimal:
    return sum((trade.pnl_usd or ZERO for trade in floor.store.list_trades()), ZERO)


def test_funding_of_a_live_position_is_in_its_books_and_in_its_trade(floor: Floor) -> None:
    hourly(floor)
    strategy = floor.strategy()
    floor.send(strategy_id=strategy)
    rounds(floor)
    floor.hands.now += FIRST_S
    rounds(floor, 2)
    (position,) = floor.store.list_open_positions()
    assert position.funding_usd == paid(floor) == Decimal("-0.252")
    assert position.unrealized_pnl_usd is not None
    price = position.current_price or ZERO
    worth = position.quantity * (price - position.entry_price)
    assert position.unrealized_pnl_usd == worth - position.fees_usd + position.funding_usd
    told = floor.send(strategy_id=strategy, action="close")
    (trade,) = floor.store.list_trades()
    assert trade.pnl_usd == earned(floor) == gained(floor)
    assert told["pnl"]["usd"] == float(round(trade.pnl_usd, 2))
    assert floor.sql("select realized_pnl_usd from strategy_ledger") == [(trade.pnl_usd,)]


def test_funding_on_paper_is_the_history_of_the_venue(floor: Floor) -> None:
    hourly(floor, "-0.0003")
    floor.send(**PAPER)
    rounds(floor)
    floor.hands.now += FIRST_S
    rounds(floor, 2)
    floor.hands.now += 3_600
    rounds(floor, 2)
    (position,) = floor.store.list_open_positions()
    assert position.funding_usd == position.quantity * Decimal("0.0003") * (28_000 + 33_600)


def test_a_partial_close_takes_its_share_and_the_rest_is_the_whole_less_that(floor: Floor) -> None:
    hourly(floor)
    floor.send(size=560)
    floor.hands.now += FIRST_S
    rounds(floor)
    floor.send(action="close", sell_percentage=30)
    floor.hands.now += 3_600
    rounds(floor)
    floor.send(action="close")
    assert booked(floor) == paid(floor)
    assert earned(floor) == gained(floor)


def test_two_strategies_share_what_the_account_paid_for_its_net(floor: Floor) -> None:
    hourly(floor)
    long, short = floor.strategy(), floor.strategy()
    floor.send(strategy_id=long, size=560)
    floor.send(strategy_id=short, action="sell")
    floor.hands.now += FIRST_S
    rounds(floor, 2)
    shares = {str(each.strategy_id): each.funding_usd for each in floor.store.list_open_positions()}
    assert shares == {long: Decimal("-0.532"), short: Decimal("0.28")}
    assert booked(floor) == paid(floor)


def test_a_stop_that_fired_unseen_just_before_a_payment_bears_no_part_of_it(floor: Floor) -> None:
    hourly(floor)
    a, b = floor.strategy(), floor.strategy()
    floor.send(strategy_id=a, stop_loss_percent=1)
    floor.send(strategy_id=b)
    floor.hands.now += 55
    floor.direct(jump_percent=-2)
    floor.hands.now += 10
    floor.server.funding.run()  # before the look that finds the stop
    floor.server.protection_watchdog.run()
    rounds(floor)
    (held,) = floor.store.list_open_positions()
    (ended,) = floor.store.list_trades()
    assert (str(held.strategy_id), ended.exit_reason, ended.funding_usd) == (b, "stop_loss", ZERO)
    assert held.funding_usd == booked(floor) == paid(floor) != 0


def test_a_payment_that_is_shown_after_its_position_has_ended_is_added_to_its_trade(floor: Floor) -> None:
    hourly(floor)
    happen(floor, income_lag_s=300)
    strategy = floor.strategy()
    floor.send(strategy_id=strategy)
    rounds(floor)
    floor.hands.now += FIRST_S
    rounds(floor)
    floor.send(strategy_id=strategy, action="close")
    rounds(floor)
    assert booked(floor) == 0
    floor.hands.now += 300
    rounds(floor, 2)
    (trade,) = floor.store.list_trades()
    assert booked(floor) == paid(floor) == Decimal("-0.252")
    assert trade.pnl_usd == gained(floor)
    assert floor.sql("select realized_pnl_usd from strategy_ledger") == [(trade.pnl_usd,)]
    assert floor.sql("select pnl_usd from fills where kind = 'close'") == [(trade.pnl_usd,)]


@pytest.mark.parametrize(
    "manners",
    [
        {"rows_twice": True},
        {"small_letters": True},
        {"late_s": 7},
        {"rate_hidden": True},
        {"next_hidden": True},
        {"asset": "BNFCR"},
        {"asset": "USDC"},
    ],
    ids=lambda manners: next(iter(manners)),
)
def test_rude_manners_change_nothing_of_what_is_booked(floor: Floor, manners: dict[str, Any]) -> None:
    hourly(floor)
    schedule(floor, **manners)
    floor.send()
    rounds(floor)
    floor.hands.now += FIRST_S
    floor.send(action="close")  # seconds before some of these payments
    floor.hands.now += 10
    rounds(floor, 2)
    (trade,) = floor.store.list_trades()
    assert booked(floor) == paid(floor) == Decimal("-0.252")
    assert trade.pnl_usd == gained(floor)


def test_several_payments_of_one_hour_are_all_booked(floor: Floor) -> None:
    hourly(floor)
    floor.send()
    floor.hands.now += FIRST_S
    happen(floor, funding={"symbol": "BTCUSDT", "rate": "0.0005"})
    happen(floor, funding={"symbol": "BTCUSDT", "rate": "-0.0002"})
    rounds(floor)
    assert booked(floor) == paid(floor) == Decimal("-0.252") * Decimal("1.3")


def test_a_history_without_prices_is_paid_at_the_price_of_its_minute(floor: Floor) -> None:
    hourly(floor)
    schedule(floor, mark_hidden=True)
    floor.send(**PAPER)
    rounds(floor)
    floor.hands.now += FIRST_S + 3_600
    rounds(floor, 2)
    (position,) = floor.store.list_open_positions()
    assert position.funding_usd == position.quantity * Decimal("-0.001") * (28_000 + 33_600)


def test_paper_pays_for_what_was_held_at_each_moment_after_a_day_without_a_server(floor: Floor) -> None:
    hourly(floor)
    a, b = floor.strategy(is_paper_trading=True), floor.strategy(is_paper_trading=True)
    floor.send(strategy_id=a, size=560, **PAPER)
    floor.send(strategy_id=b, action="sell", **PAPER)
    floor.hands.now += FIRST_S
    let_the_price_be_old(floor)
    floor.send(strategy_id=a, action="close", sell_percentage=40, **PAPER)
    floor.send(strategy_id=b, action="close", **PAPER)
    floor.hands.now += 3_600
    floor.start_anew()
    rounds(floor, 3)
    (held,) = floor.store.list_open_positions()
    ended = {str(each.strategy_id): each.funding_usd for each in floor.store.list_trades()}
    first, second = Decimal("-0.001") * 28_000, Decimal("-0.001") * 33_600
    assert ended[b] == Decimal("-0.010") * first
    assert ended[a] + held.funding_usd == Decimal("0.019") * first + held.quantity * second


def let_the_price_be_old(floor: Floor) -> None:
    """The price that signals share for a tenth of a second is of a moment before the market's time was moved."""
    assert floor.venues is not None
    quotes = floor.venues.quotes(floor.simulated.name)
    while quotes.fetch_quote("BTCUSDT").at_ms < floor.exchange.clock.now_ms():
        pass
