"""What an exit carries beside its own words stops it no more than what waits before it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from engine.domain.errors import VenueUnavailable
from tests.webhook_server.conftest import Site, hang_up, until
from tests.webhook_server.intake.test_signal_ids import alert, post


def test_an_id_that_was_used_for_another_body_stops_no_exit(site: Site) -> None:
    site.sender.post(signal_id="btc-1")
    answer = site.sender.post(signal_id="btc-1", action="CLOSE", position_size_usd=None)
    assert (answer.status_code, answer.json()["action"]) == (200, "closed")
    assert site.sender.post(signal_id="btc-1", position_size_usd=1).status_code == 409


def test_two_ids_stop_no_exit(site: Site) -> None:
    site.sender.post()
    body = site.sender.body(action="CLOSE", signal_id="mine", position_size_usd=None)
    answer = requests.post(f"{site.url}/webhook", json=body, headers={"webhook-id": "relay-1"}, timeout=60).json()
    assert (answer["action"], answer["signal_id"]) == ("closed", "mine")


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy_id": " "},
        {"environment": " "},
        {"sell_percentage": " "},
        {"market_position": "flat", "sell_percentage": "{{plot_0}}"},
        {"market_position": "flat", "sell_percentage": 50},
        {"action": "sell", "market_position": "flat", "sell_percentage": "50%"},
    ],
    ids=str,
)
def test_blanks_and_parts_of_a_flat_position_stop_no_exit(site: Site, fields: dict[str, Any]) -> None:
    site.sender.post()
    answer = site.sender.post(**{"action": "CLOSE", "position_size_usd": None} | fields)
    assert (answer.status_code, answer.json().get("action")) == (200, "closed"), answer.text
    assert site.store.list_open_positions() == ()


@pytest.mark.parametrize("more", ['"size":1,"size":2', '"comment":{"a":1,"a":2}', '"price":1,"price":1'])
def test_fields_that_are_there_twice_stop_no_exit_that_does_not_need_them(site: Site, more: str) -> None:
    site.sender.post()
    secret = site.sender.secret.get_secret_value()
    given = f'"secret":"{secret}","exchange":"aster","symbol":"BTCUSDT",{more}'
    assert post(site.sender, f'{{{given},"action":"CLOSE"}}').json()["action"] == "closed"
    refused = post(site.sender, f'{{{given},"action":"BUY","position_size_usd":100}}')
    assert (refused.status_code, "more than once" in refused.json()["error"]) == (400, True)


def test_a_share_beside_buy_does_not_reverse_a_short(site: Site) -> None:
    site.sender.post(action="SELL")
    answer = site.sender.post(action="BUY", sell_percentage=50)
    assert (answer.status_code, answer.json()["field"]) == (400, "sell_percentage")


def test_exits_of_nothing_are_no_failures_of_a_venue_that_is_away(site: Site) -> None:
    site.limits(max_consecutive_failures=2)
    site.market.away = VenueUnavailable("no connection")
    answers = [site.sender.post(action="CLOSE").json() for _ in range(3)]
    assert {each["action"] for each in answers} == {"skipped"}
    assert "not known" in answers[0]["reason"]
    site.market.away = None
    assert site.sender.post().json()["action"] == "opened"


def test_an_exit_is_made_before_the_entries_that_wait_for_the_same_turn(site: Site) -> None:
    site.sender.post()
    site.market.gate = threading.Event()
    site.market.asked.clear()
    alerts = [alert(site, environment=None, timestamp=None, position_size_usd=100 + number) for number in range(5)]
    locks, turn = site.server.pipeline._executor._locks, (site.sender.user_id, "aster", None)
    with ThreadPoolExecutor(6) as threads:
        entries = [threads.submit(post, site.sender, entry) for entry in alerts]
        until(lambda: site.market.asked.is_set() and locks.count_waiting(turn) == 4)
        closed = threads.submit(site.sender.post, action="CLOSE", signal_id="out")
        until(lambda: locks.count_waiting(turn) == 5)
        site.market.gate.set()
        assert closed.result().json()["action"] == "closed"
        assert {each.result().status_code for each in entries} == {200}
    kinds = [kind for (kind,) in site.sql("select kind from fills order by id")]
    assert kinds.index("close") <= 2


def test_an_exit_that_waits_for_a_place_is_made_though_its_sender_hangs_up(site: Site) -> None:
    strategy = str(site.strategy())
    site.sender.post(symbol="ETHUSDT")
    site.sender.post(strategy_id=strategy, position_size_usd=100)
    site.market.gate = threading.Event()
    site.market.asked.clear()
    with ThreadPoolExecutor(20) as threads:
        hanging = [threads.submit(site.sender.post, action="CLOSE", symbol="ETHUSDT") for _ in range(14)]
        admission = site.server.signal_receiver.admission
        until(lambda: admission.running == 14)
        body = json.dumps(site.sender.body(action="CLOSE", strategy_id=strategy))
        hang_up(site.url, body, lambda: admission.waiting == 1)
        site.market.gate.set()
        assert {each.result().status_code for each in hanging} == {200}
    until(lambda: site.store.list_open_positions() == ())


@pytest.mark.parametrize("symbol", ["BTC_USDT", "PF_XBTUSD"])
def test_what_is_held_under_the_markets_own_name_is_closed_by_it(site: Site, symbol: str) -> None:
    site.sender.post()
    site.market.prices[symbol] = site.market.prices["BTCUSDT"]
    site.sql("update positions set symbol = %s", symbol)
    assert site.sender.post(action="CLOSE", symbol=symbol).json()["action"] == "closed"
    assert site.store.list_open_positions() == ()
