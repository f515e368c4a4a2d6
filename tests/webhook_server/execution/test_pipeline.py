"""What becomes of one signal: once executed, once answered, and open as long as it is not known what it did."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from engine.domain.errors import OrderRejected, VenueUnavailable
from tests.support.factories.entry_values import order
from tests.webhook_server.conftest import Sender, Site
from tests.webhook_server.legs import SLIPPAGE_PERCENT
from tests.webhook_server.market import Venues
from webhook_server.clock import SystemClock
from webhook_server.execution.execution_context import Request
from webhook_server.execution.executor import OrderExecutor
from webhook_server.execution.pipeline import MarketExitsPending, Pipeline
from webhook_server.execution.results import (
    BLOCKED,
    STANDBY,
    Booked,
    Conflict,
    Invalid,
    Refused,
    Rejected,
    Repeated,
    Result,
    Retryable,
    Skipped,
)
from webhook_server.http.responses import encode_for_store
from webhook_server.metrics import Metrics


class Desk:
    """A pipeline of its own at the site's venues; `lease_owner` is the name under which it would hold the lease."""

    def __init__(self, site: Site, lease_owner: str | None = None) -> None:
        self.site, self.clock, self.metrics = site, SystemClock(), Metrics()
        venues = Venues(site.market, site.account)
        common = (self.clock, self.metrics)
        executor = OrderExecutor(site.store, venues, *common, SLIPPAGE_PERCENT, encode_for_store, lease_owner)
        self.pipeline = Pipeline(site.store, executor, *common, encode_for_store)

    def request(self, name: str, sender: Sender | None = None, **fields: Any) -> Request:
        """BUY 1,000 USD of BTCUSDT, live, of the person."""
        signal = order(**{"strategy_id": None, "environment": "production"} | fields)
        user_id = (sender or self.site.sender).user_id
        return Request(name, user_id, signal, self.clock.now(), self.clock.monotonic())

    def execute(self, name: str, fingerprint: str = "one", sender: Sender | None = None, **fields: Any) -> Result:
        return self.pipeline.execute_once(self.request(name, sender, **fields), fingerprint)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"sparky_webhook_{name}_total", labels)


@pytest.fixture
def desk(site: Site) -> Desk:
    site.credentials()
    return Desk(site)


def test_a_repeated_request_gets_the_first_answer_and_has_no_second_effect(desk: Desk) -> None:
    first, again = desk.execute("a"), desk.execute("a")
    assert isinstance(first, Booked)
    assert again == Repeated(200, first.body)
    assert (len(desk.site.account.orders), desk.count("repeats")) == (1, 1)


def test_a_refused_request_is_repeated_as_well(desk: Desk) -> None:
    desk.site.limits(kill_switch=True)
    first = desk.execute("a")
    assert isinstance(first, Refused)
    desk.site.limits(kill_switch=False)
    again = desk.execute("a")
    assert isinstance(again, Repeated)
    assert again.status == 429
    assert desk.site.account.orders == []


def test_another_body_under_the_same_id_is_a_conflict(desk: Desk) -> None:
    desk.execute("a")
    assert desk.execute("a", "two", position_size_usd=500) == Conflict("a")
    assert len(desk.site.account.orders) == 1


def test_two_people_may_send_the_same_id(desk: Desk) -> None:
    assert isinstance(desk.execute("a", environment="paper"), Booked)
    assert isinstance(desk.execute("a", sender=desk.site.user(), environment="paper"), Booked)
    assert len(desk.site.store.list_open_positions()) == 2


def test_a_server_without_the_lease_begins_nothing(site: Site) -> None:
    assert Desk(site, "standby:3000").execute("a") is STANDBY
    assert site.sql("select count(*) from webhook_requests") == [(0,)]


@pytest.mark.parametrize(
    ("failure", "expected", "counted"),
    [
        (VenueUnavailable("no connection", retry_after_s=7), Retryable, "unavailable"),
        (OrderRejected("Margin is insufficient. (-2019)", "funds"), Rejected, "refused"),
    ],
)
def test_what_fails_at_the_venue_ends_the_attempt_and_is_counted(
    desk: Desk, failure: Exception, expected: type[Result], counted: str
) -> None:
    desk.site.account.outcomes = [failure]
    assert isinstance(desk.execute("a"), expected)
    assert desk.count("venue_failures", kind=counted) == 1
    assert desk.site.request("a")[0] == "failed"


def test_after_a_venue_that_was_away_the_same_request_is_executed(desk: Desk) -> None:
    desk.site.account.outcomes = [VenueUnavailable("no connection")]
    desk.execute("a")
    assert isinstance(desk.execute("a"), Booked)
    assert len(desk.site.account.orders) == 1


def test_a_symbol_that_is_not_listed_is_the_senders_to_mend(desk: Desk) -> None:
    told = desk.execute("a", symbol="NOSUCHUSDT")
    assert isinstance(told, Invalid)
    assert told.field_name == "symbol"


def test_a_request_whose_order_is_not_known_stays_open_and_holds_back_the_next_one(desk: Desk) -> None:
    desk.site.account.mood = "lost"
    assert isinstance(desk.execute("a"), Retryable)
    (row,) = desk.site.store.list_unfinished_requests()
    assert (row.request_id, row.may_have_traded) == ("a", True)
    assert desk.execute("b") is BLOCKED
    desk.site.account.mood = "fill"
    assert isinstance(desk.execute("b", action="CLOSE"), Booked)
    assert [desk.site.request(name)[0] for name in ("a", "b")] == ["booked", "booked"]
    assert desk.site.account.fetch_positions() == ()


def leave_open(desk: Desk, name: str, **fields: Any) -> None:
    """A request of which nothing reached the venue, and nothing is known; it came two minutes ago."""
    desk.site.account.mood = "silent"
    assert isinstance(desk.execute(name, **fields), Retryable)
    desk.site.account.mood = "fill"
    desk.site.sql("update webhook_requests set created_at = now() - interval '2 minutes' where request_id = %s", name)


def test_an_entry_that_is_resumed_too_late_is_not_made(desk: Desk) -> None:
    leave_open(desk, "a")
    (row,) = desk.site.store.list_unfinished_requests()
    told = desk.pipeline.resume(row)
    assert isinstance(told, Refused)
    assert told.breach.limit_type.value == "stale_signal"
    assert desk.site.account.orders == []


def test_an_exit_is_resumed_however_late(desk: Desk) -> None:
    desk.execute("a")
    desk.site.sql("update positions set entry_time = now() - interval '1 hour'")
    leave_open(desk, "b", action="CLOSE")
    (row,) = desk.site.store.list_unfinished_requests()
    assert isinstance(desk.pipeline.resume(row), Booked)
    assert desk.site.store.list_open_positions() == ()


def test_a_resumed_exit_does_not_close_what_was_opened_after_it(desk: Desk) -> None:
    desk.execute("a")
    desk.site.sql("update positions set entry_time = now() + interval '1 minute'")
    leave_open(desk, "b", action="CLOSE")
    (row,) = desk.site.store.list_unfinished_requests()
    assert isinstance(desk.pipeline.resume(row), Skipped)
    assert len(desk.site.store.list_open_positions()) == 1


def test_a_request_that_cannot_be_finished_is_given_up_with_its_reason(desk: Desk) -> None:
    leave_open(desk, "a")
    (row,) = desk.site.store.list_unfinished_requests()
    told = desk.pipeline.give_up(row, "its payload cannot be read")
    assert told.error == "Internal error"
    assert desk.site.store.list_unfinished_requests() == ()
    status, error = desk.site.sql("select status, error_message from webhook_requests where request_id = 'a'")[0]
    assert (status, error) == ("failed", "not recovered: its payload cannot be read")


def test_what_the_market_has_ended_is_booked_before_the_request_is_executed(desk: Desk) -> None:
    done: list[str] = []

    def book_exits() -> None:
        done.append("exits")
        assert isinstance(desk.execute("out", action="CLOSE", environment="paper"), Booked)

    def find_ended(request: Request) -> None:
        if request.id == "b":
            done.append("found")
            raise MarketExitsPending(book_exits)

    before: Callable[[Request], None] = find_ended
    desk.execute("a", environment="paper")
    desk.pipeline.before_request = before
    told = desk.execute("b", action="CLOSE", environment="paper")
    assert isinstance(told, Skipped)
    assert done == ["found", "exits"]
    assert len(desk.site.store.list_trades()) == 1


def test_an_entry_without_an_expiry_is_resumed_within_its_minute(desk: Desk) -> None:
    leave_open(desk, "a")
    recent = desk.clock.now() - timedelta(seconds=5)
    desk.site.sql("update webhook_requests set created_at = %s", recent)
    (row,) = desk.site.store.list_unfinished_requests()
    assert isinstance(desk.pipeline.resume(row), Booked)
