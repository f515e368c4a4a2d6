"""When a venue's list is read again, which list is believed, and what is known of what vanished from it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UpstreamUnavailable
from engine.exchanges.listing import VANISHED, common_step
from engine.exchanges.shared_listing import HOUR_S, JITTER, Readings, SharedListing


class Client:
    """A client whose venue lists what `listed` says."""

    def __init__(self, listed: list[str]) -> None:
        self.id = "venue"
        self.listed = listed
        self.reads = 0
        self.options: dict[str, Any] = {}
        self.last_response_headers: dict[str, str] = {}
        self.session = self
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
    return SharedListing(lambda: client, lambda: now[0], lambda low, _: low)


@given(passed=st.floats(0, 10 * HOUR_S), jitter=st.floats(-JITTER, JITTER))
def test_a_list_is_read_every_hour_and_a_failed_reading_is_repeated_after_a_minute(
    passed: float, jitter: float
) -> None:
    readings = Readings(hour_s=HOUR_S * (1 + jitter), read_at=0.0, tried_at=0.0)
    assert readings.is_due(passed) is (passed >= HOUR_S * (1 + jitter))
    assert not Readings(hour_s=HOUR_S, read_at=0.0, tried_at=passed).is_due(passed + 59)
    assert Readings(hour_s=HOUR_S, read_at=-HOUR_S, tried_at=passed).is_due(passed + 61)


def test_a_second_client_needs_no_reading_of_its_own(now: list[float]) -> None:
    first, second = Client(["A"]), Client(["A"])
    listing = shared(first, now)
    listing.bring(first)
    listing.bring(second)
    assert (first.reads, second.reads) == (1, 0)
    assert second.markets.keys() == {"A"}


def test_what_means_a_change_is_followed_once_in_a_moment(now: list[float]) -> None:
    client = Client(["A"])
    listing = shared(client, now)
    listing.bring(client)
    for _ in range(5):
        listing.read_at_once()
    assert client.reads == 2
    now[0] += 3
    listing.read_at_once()
    assert client.reads == 3


def test_what_vanished_is_known_as_such_until_it_is_listed_again(now: list[float]) -> None:
    client = Client(["A", "B"])
    listing = shared(client, now)
    listing.bring(client)
    for names, vanished in ((["A"], {"B"}), (["A"], {"B"}), (["A", "B"], set())):
        client.listed = names
        now[0] += 3
        listing.read_at_once()
        listing.bring(client)
        assert {name for name, market in client.markets.items() if market.get(VANISHED)} == vanished
        assert client.markets.keys() == {"A", "B"}


@pytest.mark.parametrize("left", [0, 4])
def test_a_list_that_lacks_most_of_what_it_had_is_believed_when_it_is_read_again(now: list[float], left: int) -> None:
    names = list("ABCDEFGHIJ")
    client = Client(names)
    listing = shared(client, now)
    listing.bring(client)
    client.listed = names[:left]
    for known in (10, left):
        now[0] += 3
        listing.read_at_once()
        reader = Client([])
        listing.bring(reader)
        assert sum(1 for market in reader.markets.values() if not market.get(VANISHED)) == known


def test_the_first_list_is_asked_for_by_the_client_that_needs_it(now: list[float]) -> None:
    def fail(*, reload: bool) -> None:
        raise UpstreamUnavailable("venue", "away")

    client: Any = Client(["A"])
    client.load_markets, load = fail, client.load_markets
    listing = shared(client, now)
    with pytest.raises(UpstreamUnavailable):
        listing.bring(client)
    client.load_markets = load
    listing.bring(client)
    assert client.markets.keys() == {"A"}


steps = st.sampled_from(["0.001", "0.002", "0.003", "0.5", "1", "10", "100", "0.25", "1000"]).map(Decimal)


@given(one=steps, other=steps)
def test_a_common_step_satisfies_both_and_no_smaller_one_does(one: Decimal, other: Decimal) -> None:
    common = common_step(one, other)
    assert common % one == common % other == 0
    larger = max(one, other)
    smaller = (larger * times for times in range(1, int(common / larger)))
    assert all(each % one or each % other for each in smaller)
