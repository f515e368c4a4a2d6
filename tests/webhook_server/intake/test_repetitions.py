"""Alerts without an id and without a moment: what is repeated without an answer is made once, what follows one anew."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.errors import OrderOutcomeUnknown, VenueUnavailable
from engine.venues.orders import OrderRequest, OrderResult, build_client_order_id
from tests.webhook_server.conftest import PATIENT, Site, hang_up, until
from tests.webhook_server.intake.test_signal_ids import aged, alert, post
from webhook_server.intake import signal_ids


@pytest.fixture
def live(site: Site) -> Site:
    site.credentials()
    return site


def venue_lost(site: Site) -> Callable[[], None]:
    """The next order is taken, its answer is lost, and then the venue cannot be asked; what it gives ends that."""
    order, ask = site.account.place_market_order, site.account.find_order

    def lost(request: OrderRequest) -> OrderResult:
        order(request)
        raise OrderOutcomeUnknown("connection reset")

    def away(symbol: str, client_order_id: str) -> OrderResult | None:
        raise VenueUnavailable("connection refused")

    vars(site.account).update(place_market_order=lost, find_order=away)

    def back() -> None:
        vars(site.account).update(place_market_order=order, find_order=ask)

    return back


def test_a_retry_right_after_a_503_is_no_new_signal(live: Site) -> None:
    text = alert(live, timestamp=None)
    back = venue_lost(live)
    assert post(live.sender, text).status_code == 503
    back()
    assert post(live.sender, text).json()["action"] == "opened"
    assert len(live.account.orders) == 1


def test_an_end_that_nobody_hears_for_days_swallows_no_signal(live: Site) -> None:
    live.sender.post(environment="production")
    close = alert(live, action="CLOSE", sell_percentage=50, timestamp=None)
    back = venue_lost(live)
    assert post(live.sender, close).status_code == 503
    back()
    assert live.server.recovery.run() == 1
    aged(live, 3 * 86_400)
    again = post(live.sender, close)
    assert (again.json()["action"], "Idempotent-Replayed" in again.headers) == ("closed", False)
    assert len(live.account.orders) == 3


def test_recovery_beside_the_senders_retry_takes_no_answer_from_it(live: Site) -> None:
    for number in range(8):
        text = alert(live, timestamp=None, position_size_usd=100 + number)
        back = venue_lost(live)
        assert post(live.sender, text).status_code == 503
        back()
        with ThreadPoolExecutor(2) as threads:
            recovered = threads.submit(live.server.recovery.run)
            first = threads.submit(post, live.sender, text).result()
            recovered.result()
        again = post(live.sender, text)
        assert again.status_code == 200
        if first.status_code == 200:  # the sender has heard it, so that the same text is another signal
            assert again.json()["signal_id"] != first.json()["signal_id"]
        else:
            assert first.status_code == 503


def test_what_was_told_to_come_back_while_it_was_made_is_made_once(site: Site) -> None:
    text = alert(site, environment=None, timestamp=None)
    site.market.gate = threading.Event()
    hang_up(site.url, text, site.market.asked.is_set)
    aged(site, 2)  # nobody retries sooner
    assert post(site.sender, text).status_code == 503
    site.market.gate.set()
    until(lambda: site.server.signal_receiver.admission.running == 0)
    assert post(site.sender, text).headers["Idempotent-Replayed"] == "true"
    assert site.sql("select count(*) from fills") == [(1,)]


def test_a_sender_that_hung_up_has_heard_nothing(site: Site) -> None:
    text = alert(site, environment=None, timestamp=None)
    site.market.gate = threading.Event()
    hang_up(site.url, text, site.market.asked.is_set)
    site.market.gate.set()
    until(lambda: site.server.signal_receiver.admission.running == 0)
    aged(site, 2)
    assert post(site.sender, text).headers["Idempotent-Replayed"] == "true"
    second = post(site.sender, text)
    assert "Idempotent-Replayed" not in second.headers
    assert site.sql("select count(*) from fills") == [(2,)]


@pytest.mark.parametrize("patience", [PATIENT._replace(repetition_s=120.0)], indirect=True)
def test_a_signal_that_waits_for_its_turn_is_known_when_it_is_repeated(site: Site) -> None:
    site.market.gate = threading.Event()
    text = alert(site, environment=None, timestamp=None)
    with ThreadPoolExecutor(3) as threads:
        other = threads.submit(site.sender.post, signal_id="other", symbol="ETHUSDT")  # it has the turn
        until(site.market.asked.is_set)
        hang_up(site.url, text, lambda: site.server.signal_receiver.admission.running == 2)
        time.sleep(1.1 * signal_ids.MIN_RETRY_S)  # what comes sooner is another alert
        again = threads.submit(post, site.sender, text)
        until(lambda: site.server.signal_receiver.admission.running == 3)
        site.market.gate.set()
        assert (other.result().status_code, again.result().status_code) == (200, 200)
    until(lambda: site.server.signal_receiver.admission.running == 0)
    assert site.sql("select count(*) from fills") == [(2,)]


def test_a_signal_that_an_older_release_began_is_known_by_its_body(live: Site) -> None:
    for number, moment in enumerate((None, datetime.now(UTC).isoformat(timespec="seconds"))):
        text = alert(live, timestamp=moment)
        back = venue_lost(live)
        assert post(live.sender, text).status_code == 503
        back()
        old = f"00000000-0000-4000-8000-00000000000{number}"
        live.sql("update webhook_requests set request_id = %s where status = 'submitted'", old)
        live.account.orders[-1] = live.account.orders[-1].model_copy(
            update={"client_order_id": build_client_order_id(old, "o")}
        )
        assert post(live.sender, text).json()["signal_id"] == old
        assert len(live.account.orders) == number + 1


def test_a_moment_of_a_day_ago_tells_the_repetition_of_a_signal_that_was_made_a_moment_ago(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = alert(site, environment=None, timestamp=(datetime.now(UTC) - timedelta(hours=23)).isoformat())
    first = post(site.sender, text).json()
    monkeypatch.setattr(signal_ids, "MAX_REPETITION_AGE", timedelta(hours=22))  # as if hours had gone by
    assert post(site.sender, text).json() == first
    aged(site, 3 * 3600)
    assert post(site.sender, text).json()["signal_id"] != first["signal_id"]
