"""Two servers on one database: one executes, the other stands by and takes over; what a server may send is fenced."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import pytest

from engine.platform.settings.settings import Settings
from engine.store.store import Store
from tests.webhook_server.conftest import PATIENT, Front, Site, until
from tests.webhook_server.market import Venues
from webhook_server.app import SLOT_LIMITS, WebhookServer, build
from webhook_server.background.lease import Lease, build_owner_name
from webhook_server.clock import SystemClock

LEASE_S = 120.0  # longer than any server here can be kept from renewing it


def take_lease(store: Store, loser: str) -> None:
    """Takes the lease from the server `loser`, which goes on renewing it until it learns that it has lost it."""

    def is_taken() -> bool:
        store.release_webhook_lease(loser)
        return store.hold_webhook_lease("two", LEASE_S)

    until(is_taken)  # between two renewals


@pytest.fixture
def pair(site: Site, store: Store) -> Iterator[tuple[WebhookServer, WebhookServer]]:
    venues = Venues(site.market, site.account)
    made = tuple(
        build(Settings(), store, venues, SystemClock(), name, PATIENT, lease_ttl_s=LEASE_S) for name in ("one", "two")
    )
    yield made[0], made[1]
    for server in made:
        server.workers.shutdown()
    store.release_webhook_lease("one")
    store.release_webhook_lease("two")


def lease_of(server: WebhookServer) -> Lease:
    assert server.lease is not None
    return server.lease


def test_only_the_holder_of_the_lease_executes_and_the_next_takes_over(
    site: Site, pair: tuple[WebhookServer, WebhookServer], front: tuple[Front, str]
) -> None:
    one, two = pair
    lease_of(one).start()
    front[0].app = two.app
    turned_away = site.sender.post(signal_id="a")
    assert (turned_away.status_code, turned_away.headers["Retry-After"]) == (503, "1")
    front[0].app = one.app
    assert site.sender.post(signal_id="a").json()["action"] == "opened"
    lease_of(one).stop()
    lease_of(two).start()
    assert (lease_of(one).is_held, lease_of(two).is_held) == (True, True)  # one has not looked since
    assert site.sender.post(signal_id="b").status_code == 503  # the database knows better
    front[0].app = two.app
    assert site.sender.post(signal_id="b").json()["action"] == "opened"
    lease_of(two).stop()


def test_a_server_that_lost_the_lease_sends_no_order(site: Site, store: Store) -> None:
    site.credentials()
    assert store.hold_webhook_lease("one", LEASE_S)
    user = site.sender.user_id
    began = store.begin_execution("one", "a", user, None, "aster", "BTCUSDT", "BUY", "f", {}, is_paper=False)
    assert began.state == "new"
    store.release_webhook_lease("one")
    assert store.hold_webhook_lease("two", LEASE_S)
    assert not store.mark_request_submitted("one", "a", site.sender.user_id)
    assert store.mark_request_submitted("two", "a", site.sender.user_id)
    store.release_webhook_lease("two")


def test_the_lease_is_one_owners_until_it_ends(store: Store) -> None:
    assert store.hold_webhook_lease("one", LEASE_S)
    assert not store.hold_webhook_lease("two", LEASE_S)
    assert (store.has_webhook_lease("one"), store.has_webhook_lease("two")) == (True, False)
    assert store.hold_webhook_lease("one", 0)
    assert not store.has_webhook_lease("one")
    assert store.hold_webhook_lease("two", LEASE_S)
    store.release_webhook_lease("one")
    assert not store.hold_webhook_lease("one", LEASE_S)
    store.release_webhook_lease("two")


def test_asking_whether_the_lease_is_held_does_not_take_it_back(
    pair: tuple[WebhookServer, WebhookServer], store: Store
) -> None:
    lease = lease_of(pair[0])
    lease.start()
    assert lease.verify()
    lease.stop()
    assert not lease.verify()
    assert store.hold_webhook_lease("two", LEASE_S)
    assert not lease.verify()


def test_what_waits_for_a_place_is_sent_to_the_server_that_took_over(
    site: Site, store: Store, pair: tuple[WebhookServer, WebhookServer], front: tuple[Front, str]
) -> None:
    one = pair[0]
    lease_of(one).start()
    front[0].app = one.app
    strategies = [str(site.strategy()) for _ in range(SLOT_LIMITS.per_user)]
    site.market.gate = threading.Event()
    admission = one.signal_receiver.admission
    with ThreadPoolExecutor(SLOT_LIMITS.per_user + 1) as senders:
        first = [senders.submit(site.sender.engine, strategy_id=strategy) for strategy in strategies]
        until(lambda: admission.running == SLOT_LIMITS.per_user)
        waits = senders.submit(site.sender.post)
        until(lambda: admission.waiting == 1)
        take_lease(store, "one")
        away = waits.result(60)
        assert (away.status_code, away.headers["Retry-After"]) == (503, "1")
        assert away.json()["error"] == "Another webhook server executes; this one stands by"
        site.market.gate.set()
        assert [future.result().status_code for future in first] == [200] * SLOT_LIMITS.per_user
    lease_of(one).stop()


def test_a_successor_on_the_same_address_has_the_same_name() -> None:
    assert (
        build_owner_name("127.0.0.1", 3000)
        == build_owner_name("127.0.0.1", 3000)
        != build_owner_name("127.0.0.1", 3001)
    )


@pytest.mark.parametrize("scope", ["everybody", "person", "strategy"])
def test_a_kill_switch_refuses_entries_and_no_exits(site: Site, store: Store, scope: str) -> None:
    strategy = site.strategy()
    site.sender.engine(strategy_id=str(strategy))
    ids = {"everybody": (None, None), "person": (site.sender.user_id, None), "strategy": (None, strategy)}[scope]
    assert store.set_kill_switch(*ids, is_on=True)
    refused = site.sender.engine(strategy_id=str(strategy), symbol="ETHUSDT")
    assert (refused.status_code, refused.json()["data"]["limitType"]) == (429, "kill_switch")
    assert site.sender.engine(strategy_id=str(strategy), action="CLOSE").json()["action"] == "closed"
    assert site.sender.post(symbol="ETHUSDT").status_code == (200 if scope == "strategy" else 429)
    assert store.set_kill_switch(*ids, is_on=False)
    assert site.sender.engine(strategy_id=str(strategy)).json()["action"] == "opened"


def test_one_persons_flood_of_entries_is_slowed_and_says_when_to_come_again(
    site: Site, store: Store, front: tuple[Front, str]
) -> None:
    slow = build(Settings(sparky_webhook_rate_per_s=0.001), store, Venues(site.market, site.account), SystemClock())
    front[0].app = slow.app
    assert site.sender.post().status_code == 200
    flood = site.sender.post()
    assert flood.status_code == 429
    assert 1 <= int(flood.headers["Retry-After"]) <= 1_000
    assert "data" not in flood.json()
    assert site.sender.post(action="CLOSE").json()["action"] == "closed"
    assert site.user().post().status_code == 200
    slow.workers.shutdown()


@pytest.mark.parametrize("patience", [PATIENT._replace(slot_s=5.0)], indirect=True)
@pytest.mark.parametrize(("people", "entries"), [(1, SLOT_LIMITS.per_user), (3, SLOT_LIMITS.entries)])
def test_entries_at_a_venue_that_hangs_leave_room_for_exits_and_for_others(
    site: Site, people: int, entries: int
) -> None:
    senders = [site.sender, *(site.user() for _ in range(people - 1))]
    strategies = [
        (each, str(site.strategy(user_id=each.user_id))) for each in senders for _ in range(SLOT_LIMITS.per_user)
    ]
    more = [(site.sender, str(site.strategy())) for _ in range(6)]
    site.market.gate = threading.Event()
    with ThreadPoolExecutor(len(strategies + more)) as threads:
        crowd = [threads.submit(each.engine, strategy_id=strategy) for each, strategy in strategies + more]
        refused = len(crowd) - entries
        turned_away = [future.result() for future in islice(as_completed(crowd, timeout=120), refused)]
        assert {(each.status_code, each.headers["Retry-After"]) for each in turned_away} == {(503, "1")}
        assert {each.json()["error"] for each in turned_away} == {"Too many signals are under way"}
        assert site.sender.post(action="CLOSE").json()["action"] == "skipped"
        assert site.user().post(action="CLOSE").json()["action"] == "skipped"
        site.market.gate.set()
        assert sum(future.result().status_code == 200 for future in crowd) == entries


def test_the_equity_of_every_book_is_a_series(site: Site, store: Store) -> None:
    strategy = site.strategy()
    site.sender.engine(strategy_id=str(strategy))
    assert store.append_equity_points(0) == 1
    assert store.append_equity_points(0) == 0  # nothing has moved
    site.move("BTCUSDT", "26000.0")
    site.server.mark_to_market.run_once()
    site.sender.engine(strategy_id=str(strategy), action="CLOSE")
    store.append_equity_points(0)
    points = store.list_equity_points(strategy, is_paper=True)
    assert len(points) >= 2
    assert points[0].equity_usd < points[-1].equity_usd
    assert points[-1].unrealized_pnl_usd == 0
    assert store.list_equity_points(strategy, is_paper=True, limit=1) == points[-1:]
