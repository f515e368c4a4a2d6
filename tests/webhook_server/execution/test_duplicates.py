"""The same signal, however often and at once: one effect, one answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import requests

from engine.domain.errors import VenueUnavailable
from tests.webhook_server.conftest import Sender, Site


def test_a_repeated_signal_is_answered_with_the_first_answer(site: Site) -> None:
    first = site.sender.post(signal_id="a")
    site.move("BTCUSDT", "30000")
    again = site.sender.post(signal_id="a")
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    (position,) = site.store.list_open_positions()
    assert position.quantity == Decimal("0.039")


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "CLOSE"},
        {"position_size_usd": 1},
        {"symbol": "NOSUCHUSDT"},
        {"expires_at": 1_700_000_000},
        {"environment": "production"},
    ],
    ids=["skipped", "rejected", "malformed late", "over a limit", "no credentials"],
)
def test_every_end_is_remembered(site: Site, fields: dict[str, Any]) -> None:
    first = site.sender.post(signal_id="a", **fields)
    again = site.sender.post(signal_id="a", **fields)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert site.store.list_unfinished_requests() == ()


def test_the_same_id_with_another_body_is_a_conflict(site: Site) -> None:
    site.sender.post(signal_id="a")
    answer = site.sender.post(signal_id="a", position_size_usd=999)
    assert answer.status_code == 409
    assert (answer.json()["success"], answer.json()["error"]) == (False, "Conflict")
    assert "signal_id a was used before" in answer.json()["message"]
    assert len(site.store.list_open_positions()) == 1


def test_ids_belong_to_their_user(site: Site) -> None:
    site.sender.post(signal_id="a")
    assert site.user().post(signal_id="a").json()["action"] == "opened"
    assert len(site.store.list_open_positions()) == 2


def test_the_header_alone_names_a_signal_as_well_as_the_body_does(site: Site) -> None:
    def send(**fields: Any) -> requests.Response:
        return requests.post(
            f"{site.url}/webhook", json=site.sender.body(**fields), headers={"webhook-id": "a"}, timeout=60
        )

    first = send()
    assert (first.status_code, first.json()["signal_id"]) == (200, "a")
    assert send().json() == first.json()
    assert send(position_size_usd=999).status_code == 409
    assert len(site.store.list_open_positions()) == 1


def test_header_and_body_must_agree_on_the_id(site: Site) -> None:
    answer = requests.post(
        f"{site.url}/webhook", json=site.sender.body(signal_id="a"), headers={"webhook-id": "b"}, timeout=60
    )
    assert (answer.status_code, answer.json()["field"]) == (400, "signal_id")


def test_a_header_that_cannot_be_kept_as_id_is_named(site: Site) -> None:
    for name in ("x" * 101, "with space", "caf\xe9"):
        answer = requests.post(
            f"{site.url}/webhook", json=site.sender.body(), headers={"webhook-id": name.encode("latin-1")}, timeout=60
        )
        assert (answer.status_code, answer.json()["field"]) == (400, "webhook-id")


def test_signals_without_an_id_are_all_different(site: Site) -> None:
    assert site.sender.post().json()["signal_id"] != site.sender.post().json()["signal_id"]


def test_fifty_identical_signals_at_once_have_exactly_one_effect(site: Site) -> None:
    name = str(uuid4())
    start = threading.Barrier(50)

    def send() -> tuple[int, str | None]:
        start.wait(60)
        answer = site.sender.post(signal_id=name)
        return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(50) as senders:
        answers = [future.result() for future in [senders.submit(send) for _ in range(50)]]
    assert {status for status, _ in answers} <= {200, 503}
    assert all(wait is not None for status, wait in answers if status == 503)
    assert site.sender.post(signal_id=name).json()["action"] == "opened"
    assert site.sql("select count(*) from fills") == [(1,)]


def test_a_signal_under_way_asks_its_repetition_to_come_again(site: Site) -> None:
    site.market.gate = threading.Event()
    with ThreadPoolExecutor(1) as senders:
        first = senders.submit(site.sender.post, signal_id="a")
        assert site.market.asked.wait(120)
        again = site.sender.post(signal_id="a")
        assert (again.status_code, again.headers["retry-after"]) == (503, "1")
        site.market.gate.set()
        assert first.result(60).status_code == 200
    assert site.sender.post(signal_id="a").json() == first.result().json()


def test_a_venue_that_is_away_leaves_the_signal_open_for_a_retry(site: Site) -> None:
    site.market.away = VenueUnavailable("no connection", retry_after_s=7)
    answer = site.sender.post(signal_id="a")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.json()["success"] is False
    assert site.store.list_unfinished_requests() == ()
    site.market.away = None
    assert site.sender.post(signal_id="a").json()["action"] == "opened"


def test_a_fault_of_our_own_is_500_tells_nothing_and_the_retry_resumes(site: Site) -> None:
    site.market.away = RuntimeError("private detail")
    answer = site.sender.post(signal_id="a")
    assert answer.status_code == 500
    assert set(answer.json()) == {"success", "error", "duration"}
    assert "private" not in answer.text
    site.market.away = None
    assert site.sender.post(signal_id="a").json()["action"] == "opened"


def test_fifty_senders_at_once_lose_nothing(site: Site) -> None:
    users = [site.user() for _ in range(5)]
    start = threading.Barrier(50)

    def send(number: int) -> list[dict[str, Any]]:
        """Two signals of one person, each sent until it is answered for good."""
        start.wait(60)
        return [persistently(users[number % 5], f"s{number}.{turn}").json() for turn in range(2)]

    with ThreadPoolExecutor(50) as senders:
        answers = [answer for pair in senders.map(send, range(50)) for answer in pair]
    assert [answer["action"] for answer in answers] == ["opened"] * 100
    assert len({answer["order_id"] for answer in answers}) == 100
    assert site.sql("select count(*), count(distinct request_id) from fills") == [(100, 100)]
    held = {position.user_id: position.quantity for position in site.store.list_open_positions()}
    assert held == {user.user_id: 20 * Decimal("0.039") for user in users}


def persistently(sender: Sender, name: str) -> requests.Response:
    """The answer to a signal that is sent again as long as the server asks for it."""
    while (answer := sender.post(signal_id=name)).status_code == 503:
        time.sleep(int(answer.headers["Retry-After"]))
    return answer
