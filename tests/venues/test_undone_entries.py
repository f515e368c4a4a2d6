"""Entries that the venue will not protect: they count as failures in a row, and their symbol rests."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from simulator.market.market import Market
from simulator.venue.venue import SimulatedVenue
from tests.support.clients.trading import PROTECTIVE
from tests.support.factories.markets import flat_then_rising
from tests.venues.conftest import Floor
from webhook_server.app import WebhookServer

STOP: dict[str, Any] = {"stop_loss_percent": 2}
NOTHING_MORE = {"kind": "status", "status": 401, "path": "/order", "body": '{"code": -2014, "msg": "no key"}'}
NO_UNDO = {"kind": "status", "status": 400, "path": "/order", "method": "POST", "after": 1, "times": 2,
           "body": '{"code": -2010, "msg": "New order is rejected."}'}  # fmt: skip


class TwoSymbols(SimulatedVenue):
    """ETHUSDT is traded as well, at prices of its own that begin where those of BTCUSDT do."""

    def __init__(self, markets: Mapping[str, Market], *given: Any, **named: Any) -> None:
        super().__init__({**markets, "ETHUSDT": Market(flat_then_rising())}, *given, **named)


@pytest.fixture
def make_exchange() -> type[SimulatedVenue]:
    return TwoSymbols


def limit(floor: Floor, **columns: int) -> None:
    floor.sql(
        f"insert into trade_settings_exchange (user_id, exchange, {', '.join(columns)}) "  # noqa: S608 - the tests' own
        f"values (%s, 'aster', {', '.join(map(str, columns.values()))})",
        floor.user_id,
    )


def minutes_pass(floor: Floor, minutes: float) -> None:
    """Everything that was booked or failed is so much older."""
    age = timedelta(minutes=minutes)
    floor.sql("update fills set created_at = created_at - %s", age)
    floor.sql("update webhook_requests set failed_at = failed_at - %s, processed_at = processed_at - %s", age, age)


def end(told: Mapping[str, Any]) -> str:
    """How an entry ended: opened, undone, unprotected, rejected, or the limit that refused it."""
    if "data" in told:
        return str(told["data"]["limitType"])
    return "undone" if "undone" in told else str(told.get("action"))


def rests_for_s(told: Mapping[str, Any]) -> float:
    """The seconds left of the rest that refused an entry."""
    assert end(told) == "resting_symbol"
    until, now = (datetime.fromisoformat(told["data"][name]) for name in ("limit", "current"))
    assert until.strftime("%Y-%m-%d %H:%M:%S UTC") in told["message"]
    return (until - now).total_seconds()


def test_of_six_entries_that_cannot_be_protected_only_as_many_are_tried_as_may_fail_in_a_row(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=2)
    floor.direct(refused_kinds=PROTECTIVE)
    ends = []
    for _ in range(6):
        ends.append(end(floor.send(**STOP)))
        minutes_pass(floor, 11)  # no rest of the symbol is as long, and all six come within the hour
    assert ends == ["undone"] * 2 + ["consecutive_failures"] * 4
    assert floor.metric("risk_refusals_total", limit_type="consecutive_failures") == 4
    floor.check_books()


def test_failures_in_a_row_are_forgotten_an_hour_after_the_last(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=1)
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    minutes_pass(floor, 59)
    assert end(floor.send(**STOP)) == "consecutive_failures"
    minutes_pass(floor, 2)
    assert end(floor.send(**STOP)) == "undone"


def test_entries_of_several_strategies_at_once_do_not_race_past_the_failures_in_a_row(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=2)
    floor.direct(refused_kinds=PROTECTIVE)
    owners = [floor.strategy() for _ in range(6)]
    symbols = ["BTCUSDT", "ETHUSDT"] * 3
    with ThreadPoolExecutor(6) as senders:
        ends = list(senders.map(lambda one: end(floor.send(strategy_id=one[0], symbol=one[1], **STOP)),
                                zip(owners, symbols, strict=True)))  # fmt: skip
    assert ends.count("undone") == 2
    assert {"consecutive_failures", "resting_symbol"}.issuperset(set(ends) - {"undone"})


def test_entries_of_several_strategies_at_once_in_one_symbol_are_tried_once(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE)
    owners = [floor.strategy() for _ in range(4)]
    with ThreadPoolExecutor(4) as senders:
        ends = sorted(senders.map(lambda one: end(floor.send(strategy_id=one, **STOP)), owners))
    assert ends == ["resting_symbol"] * 3 + ["undone"]
    floor.check_books()


def test_a_symbol_rests_twice_as_long_after_each_undone_entry_and_others_go_on(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE)
    for minutes in (5, 10, 20):
        assert end(floor.send(**STOP)) == "undone"
        refused = floor.send(**STOP)
        assert refused["status"] == 429
        assert minutes * 60 - 60 < rests_for_s(refused) <= minutes * 60
        assert rests_for_s(floor.send(strategy_id=floor.strategy(), **STOP)) > 0
        minutes_pass(floor, minutes)
    floor.direct(refused_kinds=[])
    assert end(floor.send(**STOP)) == "opened"
    floor.check_books()
    assert end(floor.send(symbol="ETHUSDT", **STOP)) == "opened"
    assert floor.metric("risk_refusals_total", limit_type="resting_symbol") == 6


def test_an_entry_that_stands_ends_the_rest_of_its_symbol_and_the_row_of_failures(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=2)
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    minutes_pass(floor, 6)
    floor.direct(refused_kinds=[])
    assert end(floor.send(**STOP)) == "opened"
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    assert rests_for_s(floor.send(**STOP)) <= 5 * 60


def test_an_entry_that_stands_in_another_symbol_ends_no_rest(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    floor.direct(refused_kinds=[])
    assert end(floor.send(symbol="ETHUSDT", **STOP)) == "opened"
    assert rests_for_s(floor.send(**STOP)) > 0


@pytest.mark.parametrize("between", ["an exit", "an entry on paper", "an entry that is refused", "an undone reversal"])
def test_what_says_nothing_of_protection_does_not_end_the_row(floor: Floor, between: str) -> None:
    assert end(floor.send(symbol="ETHUSDT", **STOP)) == "opened"
    limit(floor, max_consecutive_failures=2)
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    if between == "an exit":
        assert end(floor.send(symbol="ETHUSDT", action="close")) == "closed"
    elif between == "an entry on paper":
        assert end(floor.send(environment="paper", **STOP)) == "opened"
    elif between == "an entry that is refused":
        assert end(floor.send(symbol="ETHUSDT", size=1)) == "rejected"
    else:
        turned = floor.send(symbol="ETHUSDT", action="sell", **STOP)
        assert (end(turned), "closed" in turned) == ("undone", True)
    minutes_pass(floor, 6)
    expected = "undone" if between in {"an exit", "an entry on paper"} else "consecutive_failures"
    assert end(floor.send(**STOP)) == expected
    minutes_pass(floor, 11)
    assert end(floor.send(**STOP)) == "consecutive_failures"


def test_what_works_or_fails_on_paper_says_nothing_of_a_live_account(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=2)
    assert end(floor.send(size=1)) == "rejected"
    assert end(floor.send(environment="paper", size=1)) == "rejected"
    assert end(floor.send(environment="paper")) == "opened"
    assert end(floor.send(size=1)) == "rejected"
    assert end(floor.send()) == "consecutive_failures"
    assert end(floor.send(environment="paper")) == "opened"


def test_orders_that_fail_and_entries_that_are_undone_are_one_row(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=3)
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(size=1)) == "rejected"
    assert end(floor.send(**STOP)) == "undone"
    assert end(floor.send(symbol="ETHUSDT", size=1)) == "rejected"
    assert end(floor.send(symbol="ETHUSDT")) == "consecutive_failures"


def test_an_entry_that_stands_unprotected_counts_and_its_symbol_rests(floor: Floor) -> None:
    floor.misbehave(NO_UNDO)
    limit(floor, max_consecutive_failures=1)
    assert end(floor.send("a", **STOP)) == "unprotected"
    assert end(floor.send("a", **STOP)) == "unprotected"  # the first answer again
    assert end(floor.send(**STOP)) == "consecutive_failures"
    floor.sql("update trade_settings_exchange set max_consecutive_failures = 2")
    assert rests_for_s(floor.send(**STOP)) <= 5 * 60
    assert end(floor.send(action="close")) == "closed"


def test_an_entry_that_is_undone_in_part_counts_and_its_symbol_rests(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE, fill_percent=50)
    assert end(floor.send(**STOP)) == "undone"
    assert floor.net() > 0
    assert rests_for_s(floor.send(**STOP)) > 0


def test_an_addition_that_is_undone_counts_once_and_what_was_held_before_can_be_closed_or_reversed(
    floor: Floor,
) -> None:
    assert end(floor.send("a", **STOP)) == "opened"
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send("b", **STOP)) == "undone"
    assert end(floor.send("b", **STOP)) == "undone"
    assert rests_for_s(floor.send(**STOP)) <= 5 * 60
    turned = floor.send(action="sell", **STOP)
    assert (turned["status"], turned["action"]) == (200, "closed")
    assert turned["entryRefused"]["data"]["limitType"] == "resting_symbol"
    assert floor.net() == floor.booked() == 0
    floor.check_books()


def test_an_entry_that_a_crash_left_between_its_fill_and_its_undoing_counts_once(floor: Floor) -> None:
    limit(floor, max_consecutive_failures=2)
    floor.misbehave(NOTHING_MORE | {"after": 1, "times": None})
    assert floor.send("a", **STOP)["status"] == 503
    floor.misbehave()
    floor.direct(refused_kinds=PROTECTIVE)
    assert rests_for_s(floor.send(strategy_id=floor.strategy(), **STOP)) <= 5 * 60  # it is bare until that is settled
    server: WebhookServer = floor.server
    server.recovery.run()
    assert end(floor.send("a", **STOP)) == "undone"
    assert rests_for_s(floor.send(**STOP)) <= 5 * 60
    assert end(floor.send(symbol="ETHUSDT", **STOP)) == "undone"
    assert end(floor.send(symbol="ETHUSDT", **STOP)) == "consecutive_failures"
    floor.check_books()


def test_a_symbol_never_rests_on_paper(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    assert end(floor.send(environment="paper", **STOP)) == "opened"
    assert end(floor.send(strategy_id=floor.strategy(is_paper_trading=True), **STOP)) == "opened"


def test_another_person_may_trade_a_symbol_that_rests(floor: Floor) -> None:
    floor.direct(refused_kinds=PROTECTIVE)
    assert end(floor.send(**STOP)) == "undone"
    other = floor.store.ensure_user("other@example.org")
    seen = floor.store.get_portfolio(other, "aster", None, is_paper=False, symbol="BTCUSDT")
    assert (seen.undone_in_symbol, seen.last_undone_at) == (0, None)
    own = floor.store.get_portfolio(floor.user_id, "aster", None, is_paper=False, symbol="BTCUSDT")
    assert (own.undone_in_symbol, own.last_undone_at is not None) == (1, True)
    assert own.last_undone_at is not None
    assert datetime.now(UTC) - own.last_undone_at < timedelta(minutes=5)
    assert Decimal(0) == floor.net()
