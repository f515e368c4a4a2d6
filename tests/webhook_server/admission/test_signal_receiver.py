"""Many signals of one person at once: each takes milliseconds, so each waits for a slot and nobody is sent away."""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests
from structlog.testing import capture_logs

from engine.venues.quotes import Quote
from tests.webhook_server.conftest import PATIENT, Sender, Site, until
from tests.webhook_server.market import GATE_S
from webhook_server.app import SLOT_LIMITS


def at_once(posts: Sequence[Callable[[], requests.Response]]) -> list[requests.Response]:
    """The answers to requests that leave at the same moment, in the order of `posts`."""
    start = threading.Barrier(len(posts))

    def send(post: Callable[[], requests.Response]) -> requests.Response:
        start.wait(60)
        return post()

    with ThreadPoolExecutor(len(posts)) as senders:
        return list(senders.map(send, posts))


def entry(site: Site, **fields: Any) -> Callable[[], requests.Response]:
    return lambda: site.sender.engine(**fields)


def told(answers: Sequence[requests.Response]) -> set[tuple[int, str]]:
    return {(answer.status_code, answer.json().get("action") or answer.json()["error"]) for answer in answers}


def test_sixty_entries_of_one_person_for_as_many_strategies_are_all_made(site: Site) -> None:
    strategies = [str(site.strategy()) for _ in range(60)]
    answers = at_once([entry(site, strategy_id=strategy) for strategy in strategies])
    assert told(answers) == {(200, "opened")}
    assert {str(each.strategy_id) for each in site.store.list_open_positions()} == set(strategies)


def test_sixty_entries_of_one_strategy_are_all_made(site: Site) -> None:
    strategy = str(site.strategy(max_position_usd=1_000_000))
    sizes = {"strategy_id": strategy, "position_size_usd": 100}
    answers = at_once([entry(site, **sizes, signal_id=f"of-one-{number}") for number in range(60)])
    assert told(answers) == {(200, "opened")}
    assert site.sql("select count(*) from fills") == [(60,)]


def test_thirty_exits_of_one_person_are_all_made(site: Site) -> None:
    strategies = [str(site.strategy()) for _ in range(30)]
    for strategy in strategies:
        site.sender.engine(strategy_id=strategy)
    answers = at_once([entry(site, strategy_id=strategy, action="CLOSE") for strategy in strategies])
    assert told(answers) == {(200, "closed")}
    assert site.store.list_open_positions() == ()


def hanging(site: Site, senders: ThreadPoolExecutor, sender: Sender, entries: int) -> list[Future[requests.Response]]:
    """That many entries of `sender`, which reach a venue that does not answer before the gate opens."""
    running = site.server.signal_receiver.admission.running
    strategies = [str(site.strategy(user_id=sender.user_id)) for _ in range(entries)]
    posts = [senders.submit(sender.engine, strategy_id=strategy) for strategy in strategies]
    until(lambda: site.server.signal_receiver.admission.running == running + entries)
    return posts


def test_thirty_exits_that_all_meet_before_the_first_is_made_are_all_made(site: Site) -> None:
    strategies = [str(site.strategy()) for _ in range(30)]
    for strategy in strategies:
        site.sender.engine(strategy_id=strategy)
    site.market.gate = threading.Event()
    admission = site.server.signal_receiver.admission
    with ThreadPoolExecutor(30) as senders:
        exits = [senders.submit(site.sender.engine, strategy_id=each, action="CLOSE") for each in strategies]
        until(lambda: (admission.running, admission.waiting) == (SLOT_LIMITS.per_user, 30 - SLOT_LIMITS.per_user))
        site.market.gate.set()
        assert told([each.result() for each in exits]) == {(200, "closed")}
    assert (admission.running, admission.waiting) == (0, 0)


def test_entries_that_wait_are_made_in_the_order_in_which_they_came(site: Site) -> None:
    let_through = let_through_by_one(site, "BTCUSDT")
    admission, names = site.server.signal_receiver.admission, [f"w{number}" for number in range(5)]
    with ThreadPoolExecutor(SLOT_LIMITS.per_user + 5) as senders:
        first = hanging(site, senders, site.sender, SLOT_LIMITS.per_user)
        strategy = str(site.strategy(max_position_usd=1_000_000))
        for number, name in enumerate(names, 1):
            more = {"strategy_id": strategy, "symbol": "ETHUSDT", "position_size_usd": 100}
            senders.submit(site.sender.engine, signal_id=name, **more)
            until(lambda wanted=number: admission.waiting == wanted)  # type: ignore[misc]
        made = "select request_id from webhook_requests where request_id like 'w%%' and status = 'booked'"
        for number in range(1, 6):
            let_through.release()  # its slot is taken by one of those that wait, which is made before the next is free
            until(lambda wanted=names[:number]: sorted(name for (name,) in site.sql(made)) == wanted)  # type: ignore[misc]
        let_through.release(SLOT_LIMITS.per_user)
        assert told([each.result() for each in first]) == {(200, "opened")}


def let_through_by_one(site: Site, symbol: str) -> threading.Semaphore:
    """Holds back whoever asks for a price of `symbol`; each release lets one through, for all that it will ask."""
    held, passed, fetch_quote = threading.Semaphore(0), threading.local(), site.market.fetch_quote

    def wait_and_fetch(wanted: str) -> Quote:
        if wanted == symbol and not hasattr(passed, "at"):
            assert held.acquire(timeout=GATE_S)
            passed.at = symbol
        return fetch_quote(wanted)

    vars(site.market).update(fetch_quote=wait_and_fetch)
    return held


def test_exits_are_made_while_the_entries_of_the_same_and_of_other_persons_hang_or_wait(site: Site) -> None:
    people = [site.sender, site.user(), site.user()]
    mine = str(site.strategy())
    site.sender.engine(strategy_id=mine)
    site.market.gate = threading.Event()
    admission = site.server.signal_receiver.admission
    with ThreadPoolExecutor(100) as senders:
        per_person = (SLOT_LIMITS.per_user, SLOT_LIMITS.entries - SLOT_LIMITS.per_user, 0)
        crowd = [post for each, n in zip(people, per_person, strict=True) for post in hanging(site, senders, each, n)]
        more = [senders.submit(each.engine, strategy_id=str(site.strategy(user_id=each.user_id))) for each in people]
        until(lambda: admission.waiting == len(more))
        for each in people:
            assert each.post(action="CLOSE", symbol="ETHUSDT").json()["action"] == "skipped"
        site.market.gate.set()
        assert told([each.result() for each in crowd + more]) == {(200, "opened")}
    assert site.sender.engine(strategy_id=mine, action="CLOSE").json()["action"] == "closed"


def test_hanging_exits_of_several_persons_leave_workers_for_who_sends_next(site: Site) -> None:
    people = [site.user() for _ in range(4)]
    for each in people:
        for _ in range(SLOT_LIMITS.per_user):
            strategy = str(site.strategy(user_id=each.user_id))
            each.engine(strategy_id=strategy)
    held: dict[UUID, list[str]] = {each.user_id: [] for each in people}
    for position in site.store.list_open_positions():
        held[position.user_id].append(str(position.strategy_id))
    site.market.gate = threading.Event()
    admission = site.server.signal_receiver.admission
    with ThreadPoolExecutor(100) as senders:
        exits = [senders.submit(p.engine, strategy_id=each, action="CLOSE") for p in people for each in held[p.user_id]]
        until(lambda: admission.running == SLOT_LIMITS.signals)
        until(lambda: admission.waiting == len(exits) - SLOT_LIMITS.signals)
        assert site.sender.post(secret="whsec_wrong").status_code == 401, "a worker is left to find that out"
        site.market.gate.set()
        assert told([each.result() for each in exits]) == {(200, "closed")}


def test_a_sender_that_hangs_up_while_its_signal_waits_leaves_no_slot_taken_and_no_order(site: Site) -> None:
    site.market.gate = threading.Event()
    admission = site.server.signal_receiver.admission
    where = urlsplit(site.url)
    with ThreadPoolExecutor(SLOT_LIMITS.per_user) as senders:
        first = hanging(site, senders, site.sender, SLOT_LIMITS.per_user)
        body = json.dumps(site.sender.body(signal_id="gone")).encode()
        with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
            head = f"POST /webhook HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            until(lambda: admission.waiting == 1)
            assert "\nsparky_webhook_waiting_signals 1.0\n" in requests.get(f"{site.url}/metrics", timeout=60).text
        until(lambda: admission.waiting == 0)
        site.market.gate.set()
        assert told([each.result() for each in first]) == {(200, "opened")}
    assert admission.running == 0
    assert site.sql("select count(*) from webhook_requests where request_id = 'gone'") == [(0,)]


@pytest.mark.parametrize("patience", [PATIENT._replace(slot_s=0.5)], indirect=True)
def test_what_waits_too_long_is_sent_away_with_the_reason(site: Site) -> None:
    site.market.gate = threading.Event()
    with ThreadPoolExecutor(SLOT_LIMITS.per_user) as senders, capture_logs() as lines:
        first = hanging(site, senders, site.sender, SLOT_LIMITS.per_user)
        away = site.sender.post(signal_id="late")
        assert (away.status_code, away.headers["Retry-After"]) == (503, "1")
        (line,) = [line for line in lines if line["event"] == "signal_refused" and line.get("signal") == "late"]
        assert (line["status"], line["signal"], line["user"]) == (503, "late", str(site.sender.user_id))
        assert line["reason"] == away.json()["error"] == "Too many signals are under way"
        site.market.gate.set()
        assert told([each.result() for each in first]) == {(200, "opened")}
    assert site.sender.post(signal_id="late").json()["action"] == "opened"


@pytest.mark.parametrize("end", ["stopping", "standing by"])
def test_a_server_that_stops_or_loses_its_lease_sends_away_what_waits(site: Site, end: str) -> None:
    site.market.gate = threading.Event()
    admission = site.server.signal_receiver.admission
    with ThreadPoolExecutor(SLOT_LIMITS.per_user + 1) as senders:
        first = hanging(site, senders, site.sender, SLOT_LIMITS.per_user)
        waits = senders.submit(site.sender.post, signal_id="a")
        until(lambda: admission.waiting == 1)
        (admission.close if end == "stopping" else admission.cancel_waiting)()
        assert waits.result().status_code == 503
        assert not site.market.gate.is_set()
        site.market.gate.set()
        assert told([each.result() for each in first]) == {(200, "opened")}


def test_an_entry_that_expires_while_it_waits_is_refused_as_stale(site: Site) -> None:
    site.market.gate = threading.Event()
    admission = site.server.signal_receiver.admission
    with ThreadPoolExecutor(SLOT_LIMITS.per_user + 1) as senders:
        first = hanging(site, senders, site.sender, SLOT_LIMITS.per_user)
        expires = datetime.now(UTC) + timedelta(seconds=1)
        waits = senders.submit(site.sender.post, expires_at=expires.isoformat())
        until(lambda: admission.waiting == 1 or waits.done())
        until(lambda: datetime.now(UTC) > expires)
        site.market.gate.set()
        assert waits.result().json()["data"]["limitType"] == "stale_signal"
        assert told([each.result() for each in first]) == {(200, "opened")}
