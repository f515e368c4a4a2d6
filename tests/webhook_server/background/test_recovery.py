"""A server that died in the middle: what it had begun comes to one end, and to no second effect."""

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.venues.orders import OrderRequest
from tests.webhook_server.conftest import Site
from webhook_server.intake.schemas import WebhookSignal


def begun(site: Site, name: str, age_s: float = 0.0, *, is_sent: bool = False, **fields: Any) -> None:
    """A request as a server leaves it that dies right after it was begun, or right after its order may have left."""
    body = site.sender.body(secret=None, **fields)
    order = WebhookSignal.model_validate(body)
    site.store.begin_execution(
        None,
        name,
        site.sender.user_id,
        strategy_id=order.strategy_id,
        exchange=order.exchange,
        symbol=order.symbol,
        action=order.action.value,
        fingerprint="f",
        payload=order.model_dump(mode="json", exclude_none=True),
        is_paper=True,
    )
    if is_sent:
        assert site.store.mark_request_submitted(None, name, site.sender.user_id)
    site.sql(
        "update webhook_requests set created_at = %s where request_id = %s",
        datetime.now(UTC) - timedelta(seconds=age_s),
        name,
    )


def test_a_paper_entry_that_was_not_booked_is_executed_once(site: Site) -> None:
    begun(site, "a")
    assert site.server.recovery.run() == 1
    assert len(site.store.list_open_positions()) == 1
    assert site.request("a")[:2] == ("booked", 200)
    assert site.server.recovery.run() == 0
    assert len(site.store.list_open_positions()) == 1


def test_an_old_entry_is_refused_rather_than_made_late(site: Site) -> None:
    begun(site, "a", age_s=61)
    begun(site, "b", expires_at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    assert site.server.recovery.run() == 2
    assert site.store.list_open_positions() == ()
    assert site.request("a")[:2] == site.request("b")[:2] == ("refused", 429)


def test_an_old_exit_closes_what_was_held_then(site: Site) -> None:
    site.sender.post()
    begun(site, "a", action="CLOSE")
    site.server.recovery.run()
    assert site.store.list_open_positions() == ()


def test_an_old_exit_leaves_a_later_position_alone(site: Site) -> None:
    site.sender.post()
    begun(site, "a", age_s=3_600, action="CLOSE")
    site.server.recovery.run()
    assert len(site.store.list_open_positions()) == 1
    assert site.request("a")[:2] == ("skipped", 200)


def test_a_half_done_paper_reversal_is_finished(site: Site) -> None:
    site.sender.post()
    site.sender.post(action="SELL", signal_id="turn")
    # As if the server had died between the two bookings: the exit is in the books, the entry is not.
    site.sql("delete from positions")
    site.sql("delete from fills where request_id = 'turn' and kind = 'open'")
    site.sql("update webhook_requests set status = 'filled', answer = null where request_id = 'turn'")
    assert site.server.recovery.run() == 1
    (position,) = site.store.list_open_positions()
    assert position.side == "SHORT"
    assert len(site.store.list_trades()) == 1


def test_a_live_order_that_the_venue_filled_is_booked_however_late(site: Site) -> None:
    site.credentials()
    begun(site, "a", age_s=3_600, is_sent=True, environment="production")
    site.account.place_market_order(
        OrderRequest(client_order_id=site.sender.order_id("a", "o"), symbol="BTCUSDT", is_buy=True, quantity="0.02")
    )
    assert site.server.recovery.run() == 1
    (position,) = site.store.list_open_positions()
    assert not position.is_paper
    assert len(site.account.orders) == 1


def test_the_exit_of_a_live_reversal_is_booked_though_its_entry_comes_too_late(site: Site) -> None:
    site.credentials()
    held = site.sender.post(environment="production").json()
    begun(site, "turn", age_s=3_600, is_sent=True, environment="production", action="SELL")
    site.account.place_market_order(
        OrderRequest(
            client_order_id=site.sender.order_id("turn", "c"),
            symbol="BTCUSDT",
            is_buy=False,
            quantity=str(held["quantity"]),
            reduce_only=True,
        )
    )
    assert site.server.recovery.run() == 1
    assert site.store.list_open_positions() == ()
    assert len(site.store.list_trades()) == 1
    assert len(site.account.orders) == 2
    assert site.request("turn")[:2] == ("booked", 200)


def test_credentials_that_are_gone_leave_the_question_open(site: Site) -> None:
    begun(site, "a", is_sent=True, environment="production")
    assert site.server.recovery.run() == 0
    assert site.request("a")[0] == "submitted"


def test_a_live_entry_that_never_reached_the_venue_is_not_made_late(site: Site) -> None:
    site.credentials()
    begun(site, "a", age_s=61, environment="production")
    assert site.server.recovery.run() == 1
    assert site.account.orders == []
    assert site.request("a")[0] == "refused"


def test_while_the_venue_cannot_be_asked_the_request_stays_open(site: Site) -> None:
    site.credentials()
    begun(site, "a", environment="production")
    site.account.mood = "silent"
    assert site.server.recovery.run() == 0
    assert site.request("a")[0] == "submitted"
    site.account.mood = "fill"
    assert site.server.recovery.run() == 1
    assert len(site.account.orders) == 1


def test_young_requests_are_left_to_their_senders(site: Site) -> None:
    begun(site, "a")
    assert site.server.recovery.run(min_age_s=60) == 0
    assert site.request("a")[0] == "received"


def test_a_payload_of_another_version_is_given_up_and_said_so(site: Site) -> None:
    begun(site, "a")
    site.sql("update webhook_requests set payload = '{}'")
    assert site.server.recovery.run() == 1
    assert site.request("a")[:2] == ("failed", 500)


def test_a_payload_that_cannot_be_read_is_not_given_up_while_its_order_may_be_at_the_venue(site: Site) -> None:
    begun(site, "a", is_sent=True, environment="production")
    site.sql("update webhook_requests set payload = '{}'")
    assert site.server.recovery.run() == 0
    assert site.request("a")[0] == "submitted"


def test_an_order_that_senders_may_not_write_any_more_is_booked_once_it_was_sent(site: Site) -> None:
    site.credentials()
    begun(site, "sent", is_sent=True, environment="production", action="SELL")
    begun(site, "kept", environment="production", action="SELL", symbol="ETHUSDT")
    site.sql("update webhook_requests set payload = payload || '{\"take_profit_percent\": 136.7}'")
    site.account.place_market_order(
        OrderRequest(client_order_id=site.sender.order_id("sent", "o"), symbol="BTCUSDT", is_buy=False, quantity="0.02")
    )
    assert site.server.recovery.run() == 2
    (position,) = site.store.list_open_positions()
    assert (position.symbol, position.take_profit_price) == ("BTCUSDT", None)
    assert (site.request("sent")[0], site.request("kept")[0]) == ("booked", "failed")
    assert len(site.account.orders) == 1


def test_a_request_that_cannot_be_settled_holds_back_entries_and_no_exit(site: Site) -> None:
    site.credentials()
    site.sender.post(environment="production")
    begun(site, "stuck", is_sent=True, environment="production")
    site.sql("update webhook_requests set payload = '{}' where request_id = 'stuck'")
    entry = site.sender.post(environment="production", signal_id="entry")
    assert (entry.status_code, entry.headers["Retry-After"]) == (503, "1")
    assert site.sender.post(environment="production", action="CLOSE").json()["action"] == "closed"
    assert site.store.list_open_positions() == ()
    assert site.request("stuck")[0] == "submitted"
    counted = site.server.metrics.registry.get_sample_value("sparky_webhook_recovered_total", {"outcome": "open"})
    assert counted == 2


def test_the_senders_own_retry_resumes_what_died(site: Site) -> None:
    body = site.sender.body(signal_id="a")
    first = site.sender.post(signal_id="a")
    site.sql("delete from positions")
    site.sql("delete from fills")
    site.sql("update webhook_requests set status = 'received', answer = null")
    again = site.sender.post(signal_id="a")
    assert first.json()["action"] == again.json()["action"] == "opened"
    assert len(site.store.list_open_positions()) == 1
    assert body["signal_id"] == "a"


def test_an_account_whose_venue_does_not_answer_is_asked_about_one_of_its_requests(site: Site) -> None:
    site.credentials()
    for symbol in site.market.prices:
        begun(site, symbol, is_sent=True, environment="production", symbol=symbol)
    site.account.mood = "silent"
    assert site.server.recovery.run() == 0
    counted = site.server.metrics.registry.get_sample_value("sparky_webhook_recovered_total", {"outcome": "open"})
    assert counted == 1
    site.account.mood = "fill"
    assert site.server.recovery.run() == 2
