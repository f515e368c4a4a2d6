"""When a venue's list is read again, which list is believed, and what is known of what vanished from it."""

from decimal import Decimal
from typing import Any

import pytest
from ccxt.base.decimal_to_precision import TICK_SIZE
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import VenueUnavailable
from engine.platform.errors import UpstreamUnavailable
from engine.venues.ccxt_client.instrument_cache import JITTER, REFRESH_S, RefreshTimes, SharedListing
from engine.venues.ccxt_client.listing_tables import VANISHED_KEY
from engine.venues.market_data.instruments import find_common_step, refresh_if_missing


class Client:
    """A client whose venue lists what `listed` says."""

    def __init__(self, listed: list[str]) -> None:
        self.id = "venue"
        self.listed = listed
        self.reads = 0
        self.options: dict[str, Any] = {}
        self.last_response_headers: dict[str, str] = {}
        self.session = self
        self.listing: SharedListing
        for name in ("symbols", "ids", "currencies", "currencies_by_id", "baseCurrencies", "quoteCurrencies", "codes"):
            setattr(self, name, None)
        self.markets: dict[str, Any] = {}
        self.markets_by_id: dict[str, Any] = {}

    def load_markets(self, *, reload: bool) -> None:
        assert reload
        self.reads += 1
        self.markets = {name: {"id": name, "symbol": name} for name in self.listed}
        self.markets_by_id = {name: [market] for name, market in self.markets.items()}

    def close(self) -> None:
        """Sessions are closed."""


@pytest.fixture
def now() -> list[float]:
    return [0.0]


def shared(client: Client, now: list[float]) -> SharedListing:
    client.listing = SharedListing(lambda: client, lambda: now[0], lambda low, _: low)
    return client.listing


@given(passed=st.floats(0, 10 * REFRESH_S), jitter=st.floats(-JITTER, JITTER))
def test_a_list_is_read_every_hour_and_a_failed_reading_is_repeated_after_a_minute(
    passed: float, jitter: float
) -> None:
    readings = RefreshTimes(refresh_s=REFRESH_S * (1 + jitter), refreshed_at=0.0, attempted_at=0.0)
    assert readings.is_due(passed) is (passed >= REFRESH_S * (1 + jitter))
    assert not RefreshTimes(refresh_s=REFRESH_S, refreshed_at=0.0, attempted_at=passed).is_due(passed + 59)
    assert RefreshTimes(refresh_s=REFRESH_S, refreshed_at=-REFRESH_S, attempted_at=passed).is_due(passed + 61)


def test_a_second_client_needs_no_reading_of_its_own(now: list[float]) -> None:
    first, second = Client(["A"]), Client(["A"])
    listing = shared(first, now)
    listing.update_client(first)
    listing.update_client(second)
    assert (first.reads, second.reads) == (1, 0)
    assert second.markets.keys() == {"A"}


def test_what_means_a_change_is_followed_once_in_a_moment(now: list[float]) -> None:
    client = Client(["A"])
    listing = shared(client, now)
    listing.update_client(client)
    for _ in range(5):
        listing.refresh_now()
    assert client.reads == 2
    now[0] += 3
    listing.refresh_now()
    assert client.reads == 3


def test_what_vanished_is_known_as_such_until_it_is_listed_again(now: list[float]) -> None:
    client = Client(["A", "B"])
    listing = shared(client, now)
    listing.update_client(client)
    for names, vanished in ((["A"], {"B"}), (["A"], {"B"}), (["A", "B"], set())):
        client.listed = names
        now[0] += 3
        listing.refresh_now()
        listing.update_client(client)
        assert {name for name, market in client.markets.items() if market.get(VANISHED_KEY)} == vanished
        assert client.markets.keys() == {"A", "B"}


def test_what_the_newest_list_alone_lacks_has_the_list_read_again_and_is_gone_by_the_second(now: list[float]) -> None:
    client = Client(["A", "B"])
    listing = shared(client, now)
    listing.update_client(client)
    client.listed = ["A"]
    listing.refresh_now()
    listing.update_client(client)
    for reads, lacking in ((2, 1), (3, 2), (3, 2)):
        assert (client.reads, client.markets["B"][VANISHED_KEY]) == (reads, lacking)
        refresh_if_missing(client, client.markets["B"])
        listing.update_client(client)


class Priced(Client):
    """A client whose venue tells `step` of quantities, and `decimals`."""

    precisionMode = TICK_SIZE  # noqa: N815  (ccxt's name)
    step: float | None = 0.001
    decimals: int | None = 2
    parse_number = staticmethod(float)
    parse_precision = staticmethod(lambda digits: f"1e-{digits}")

    def load_markets(self, *, reload: bool) -> None:
        super().load_markets(reload=reload)
        for market in self.markets.values():
            market["precision"] = {"amount": self.step, "price": 0.1}
            market["info"] = {"quantityPrecision": self.decimals}


@pytest.mark.parametrize("none", [0.0, None])
def test_a_step_of_0_is_the_one_before_else_what_the_decimals_allow(now: list[float], none: float | None) -> None:
    known, fresh = Priced(["A"]), Priced(["A"])
    listing = shared(known, now)
    listing.update_client(known)
    known.step = fresh.step = none
    listing.refresh_now()
    for client, own, step in ((known, listing, 0.001), (fresh, shared(fresh, now), 0.01)):
        own.update_client(client)
        assert client.markets["A"]["precision"] == {"amount": step, "price": 0.1}
        assert client.markets_by_id["A"][0]["precision"]["amount"] == step


@pytest.mark.parametrize("left", [0, 4])
def test_a_list_that_lacks_most_of_what_it_had_is_believed_when_it_is_read_again(now: list[float], left: int) -> None:
    names = list("ABCDEFGHIJ")
    client = Client(names)
    listing = shared(client, now)
    listing.update_client(client)
    client.listed = names[:left]
    for known in (10, left):
        now[0] += 3
        listing.refresh_now()
        reader = Client([])
        listing.update_client(reader)
        assert sum(1 for market in reader.markets.values() if not market.get(VANISHED_KEY)) == known


def test_the_first_list_is_asked_for_by_the_client_that_needs_it(now: list[float]) -> None:
    def fail(*, reload: bool) -> None:
        raise VenueUnavailable("away")

    client: Any = Client(["A"])
    client.load_markets, load = fail, client.load_markets
    listing = shared(client, now)
    with pytest.raises(UpstreamUnavailable):
        listing.update_client(client)
    client.load_markets = load
    listing.update_client(client)
    assert client.markets.keys() == {"A"}


steps = st.sampled_from(["0.001", "0.002", "0.003", "0.5", "1", "10", "100", "0.25", "1000"]).map(Decimal)


@given(one=steps, other=steps)
def test_a_common_step_satisfies_both_and_no_smaller_one_does(one: Decimal, other: Decimal) -> None:
    common = find_common_step(one, other)
    assert common % one == common % other == 0
    larger = max(one, other)
    smaller = (larger * times for times in range(1, int(common / larger)))
    assert all(each % one or each % other for each in smaller)
