"""The market actor against the venue's simulator: single-flight, fresh by the venue's clock, honest when it is down."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pykka
import pytest

from actors import market_data
from actors.market_data import make
from actors.messages import GetSnapshot, MarketFetched, Snapshot
from engine.platform.errors import CycleSkipped
from engine.platform.settings.settings import Settings
from engine.venues.market_data.client import MarketData
from tests.support.clients.local_peers import LocalPeers

PATIENCE_S = 120.0
SPEED = 60
DOWN = [{"kind": "status", "status": 503, "times": None}]


def start(peers: LocalPeers, home: Path, url: str) -> None:
    settings = Settings(sparky_home=home, sparky_market="aster", sparky_market_url=url)
    peers.start("market", lambda: make(settings, peers, ""))


def wanted(symbol: str = "BTCUSDT", interval: str = "1m") -> GetSnapshot:
    return GetSnapshot(venue="aster", symbol=symbol, interval=interval, deadline=time.monotonic() + PATIENCE_S)


def ask(peers: LocalPeers, symbol: str = "BTCUSDT", interval: str = "1m") -> Snapshot:
    return peers.ask("market", wanted(symbol, interval), Snapshot)


def test_a_snapshot_has_price_change_ten_candles_and_warm_indicators(
    peers: LocalPeers, home: Path, aster_url: str
) -> None:
    start(peers, home, aster_url)
    snapshot = ask(peers).snapshot
    assert (snapshot.venue, snapshot.symbol, snapshot.interval) == ("aster", "BTCUSDT", "1m")
    assert len(snapshot.candles) == 10
    steps = {b.open_time_ms - a.open_time_ms for a, b in zip(snapshot.candles, snapshot.candles[1:], strict=False)}
    assert steps == {60_000}
    assert snapshot.change_24h_percent is not None
    assert None not in snapshot.indicators.model_dump().values()
    assert 0 <= snapshot.age_s < 180


def test_however_many_ask_there_is_one_fetch(peers: LocalPeers, home: Path, real_time_url: str) -> None:
    start(peers, home, real_time_url)
    futures = [peers.refs["market"].ask(wanted(), block=False) for _ in range(200)]
    answers = [future.get(timeout=PATIENCE_S) for future in futures]
    assert len({answer.snapshot.as_of_ms for answer in answers}) == 1
    peers.wait_for(MarketFetched)
    assert len(peers.of(MarketFetched)) == 1


def test_in_real_time_a_candle_is_kept_until_the_next_one_closes(
    peers: LocalPeers, home: Path, real_time_url: str
) -> None:
    start(peers, home, real_time_url)
    while len(peers.of(MarketFetched)) < 2:
        kept = ask(peers)  # for a moment only, until two readings have told how fast the venue's clock runs
    assert ask(peers).snapshot.as_of_ms >= kept.snapshot.as_of_ms
    fetched = len(peers.of(MarketFetched))
    assert len({ask(peers).snapshot.as_of_ms for _ in range(100)}) == 1
    assert len(peers.of(MarketFetched)) == fetched


def test_at_sixty_times_the_speed_new_candles_are_seen_as_they_close(
    peers: LocalPeers, home: Path, aster_url: str
) -> None:
    start(peers, home, aster_url)
    first = ask(peers).snapshot
    deadline = time.monotonic() + PATIENCE_S
    seen = {first.candles[-1].open_time_ms}
    while len(seen) < 4:
        asked = time.monotonic()
        assert asked < deadline
        with suppress(CycleSkipped):  # a busy machine may keep the venue from answering in time
            snapshot = ask(peers).snapshot
            seen.add(snapshot.candles[-1].open_time_ms)
            # Never more than a candle and a bit behind the venue, although nobody said how fast its clock runs.
            assert snapshot.age_s < 180 + SPEED * (time.monotonic() - asked)
    fetched = peers.of(MarketFetched)
    assert len(fetched) < 25 + len([each for each in fetched if each.outcome != "ok"])


def answers(peers: LocalPeers) -> Iterator[Snapshot | CycleSkipped]:
    """What is answered as time goes by: asks, and asks again after every fetch that follows."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        fetched = len(peers.of(MarketFetched))
        try:
            yield ask(peers)
        except CycleSkipped as skip:
            yield skip
        while len(peers.of(MarketFetched)) == fetched and time.monotonic() < deadline:
            peers.refs["market"].ask(wanted())
            time.sleep(0.02)  # nothing tells when kept data has become stale


def test_a_venue_that_is_down_is_served_from_memory(peers: LocalPeers, home: Path, real_time_url: str) -> None:
    """In real time, so that what is kept lasts for minutes: the second reading, which fails, comes at once."""
    start(peers, home, real_time_url)
    first = ask(peers).snapshot
    httpx.post(f"{real_time_url}/_control/faults", json=DOWN, timeout=PATIENCE_S).raise_for_status()
    while not (failed := [each for each in peers.of(MarketFetched) if each.outcome == "unavailable"]):
        assert ask(peers).snapshot.candles[-1].open_time_ms >= first.candles[-1].open_time_ms
    assert failed
    assert ask(peers).snapshot.age_s < 180


def test_a_venue_that_is_down_is_refused_once_what_is_kept_is_old(
    peers: LocalPeers, home: Path, aster_url: str
) -> None:
    start(peers, home, aster_url)
    for _, _ in zip(range(3), answers(peers), strict=False):
        pass  # the speed of the venue's clock is known now
    httpx.post(f"{aster_url}/_control/faults", json=DOWN, timeout=PATIENCE_S).raise_for_status()
    served, refusal = [], None
    for answer in answers(peers):
        if isinstance(answer, CycleSkipped):
            refusal = answer
            break
        served.append(answer.snapshot.age_s)
    assert refusal is not None
    assert refusal.kind == "no_data"
    assert "venue" in str(refusal)
    assert all(age_s < 60 * 6 for age_s in served)
    failures = [fetched for fetched in peers.of(MarketFetched) if fetched.outcome == "unavailable"]
    assert 1 <= len(failures) <= 8
    httpx.delete(f"{aster_url}/_control/faults", timeout=PATIENCE_S).raise_for_status()
    assert any(isinstance(answer, Snapshot) for answer in answers(peers))


def test_a_symbol_that_the_venue_does_not_list_is_said_to_be_unknown(
    peers: LocalPeers, home: Path, aster_url: str
) -> None:
    start(peers, home, aster_url)
    with pytest.raises(CycleSkipped) as refused:
        ask(peers, "NOSUCHUSDT")
    assert refused.value.kind == "unknown_symbol"
    assert "NOSUCHUSDT" in str(refused.value)


def test_a_venue_that_does_not_exist_fails_the_ask_and_not_the_actor(
    peers: LocalPeers, home: Path, aster_url: str
) -> None:
    start(peers, home, aster_url)
    with pytest.raises(CycleSkipped):
        peers.ask("market", wanted().model_copy(update={"venue": "nosuchvenue"}), Snapshot)
    assert ask(peers).snapshot.symbol == "BTCUSDT"


def test_one_slow_symbol_does_not_block_the_others(
    peers: LocalPeers, home: Path, aster_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_data, "MarketData", partial(MarketData, timeout_s=600.0))  # it stays slow to the end
    start(peers, home, aster_url)
    ask(peers, "ETHUSDT")  # listings are loaded
    hang = [{"kind": "hang", "path": "klines", "seconds": 600.0, "times": 1}]
    httpx.post(f"{aster_url}/_control/faults", json=hang, timeout=PATIENCE_S).raise_for_status()
    slow = peers.refs["market"].ask(wanted("BTCUSDT"), block=False)
    while httpx.get(f"{aster_url}/_control/faults", timeout=PATIENCE_S).json():
        time.sleep(0.01)
    assert ask(peers, "SOLUSDT").snapshot.symbol == "SOLUSDT"
    with pytest.raises(pykka.Timeout):
        slow.get(timeout=0)


@pytest.mark.parametrize(("interval", "minutes"), [("15m", 15), ("1h", 60)])
def test_longer_candles_have_indicators_of_their_own(
    peers: LocalPeers, home: Path, real_time_url: str, interval: str, minutes: int
) -> None:
    start(peers, home, real_time_url)
    while len(peers.of(MarketFetched)) < 2:
        minute = ask(peers).snapshot  # for a moment only, until two readings have told how fast the venue's clock runs
    longer = ask(peers, interval=interval).snapshot
    assert longer.interval == interval
    steps = {b.open_time_ms - a.open_time_ms for a, b in zip(longer.candles, longer.candles[1:], strict=False)}
    assert steps == {minutes * 60_000}
    assert longer.last_price == longer.candles[-1].close
    assert longer.indicators.sma_50 not in (None, minute.indicators.sma_50)
    assert ask(peers, interval=interval).snapshot.as_of_ms == longer.as_of_ms  # kept


def test_a_venue_that_refuses_an_address_is_left_alone_for_every_symbol(
    peers: LocalPeers, home: Path, real_time_url: str
) -> None:
    start(peers, home, real_time_url)
    ask(peers, "ETHUSDT")  # listings are loaded
    refusal = {"kind": "status", "status": 429, "headers": {"retry-after": "60"}, "times": None}
    httpx.post(f"{real_time_url}/_control/faults", json=[refusal], timeout=PATIENCE_S).raise_for_status()
    for symbol in ("BTCUSDT", "SOLUSDT"):
        with pytest.raises(CycleSkipped) as refused:
            ask(peers, symbol)
        assert refused.value.kind == "no_data"
        assert 0 < (refused.value.retry_after_s or 0) <= 60
    assert ask(peers, "ETHUSDT").snapshot.symbol == "ETHUSDT"  # what is known stays known
    assert [fetched.symbol for fetched in peers.of(MarketFetched)] == ["ETHUSDT", "BTCUSDT"]
