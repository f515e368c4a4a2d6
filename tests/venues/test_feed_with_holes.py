"""A strategy on a feed with holes, duplicates and a halted hour keeps its exits: its own, and its stop."""

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import requests

from actors.messages import CycleFinished
from engine.platform.settings.settings import Settings
from simulator.market.market import Market
from simulator.venue.venue import SimulatedVenue
from tests.actors.scene import Scene
from tests.support.clients.local_peers import LocalPeers
from tests.support.factories.markets import flat_then_rising
from tests.support.processes.directories import short_directory
from tests.support.servers.groq_double import Answer, GroqDouble, ok
from tests.support.servers.simulated import VENUES, Simulated
from tests.venues.conftest import Floor

CLOSE = ok('{"action":"CLOSE","symbol":"BTCUSDT","size_usd":0,"confidence":0.9,"reasoning":"the reason is gone"}')
ENTRY = ok(
    '{"action":"LONG","symbol":"ETHUSDT","size_usd":100,"confidence":0.9,"reasoning":"up",'
    '"stop_loss_percent":2,"take_profit_percent":null}'
)
STOP: dict[str, Any] = {"stop_loss_percent": 2}


@pytest.fixture
def make_exchange() -> type[SimulatedVenue]:
    """A venue with a second symbol."""

    class TwoMarkets(SimulatedVenue):
        def __init__(self, markets: dict[str, Market], *rest: Any, **more: Any) -> None:
            super().__init__({**markets, "ETHUSDT": Market(flat_then_rising())}, *rest, **more)

    return TwoMarkets


@pytest.fixture(params=sorted(VENUES))
def simulated(request: pytest.FixtureRequest) -> Simulated:
    return VENUES[request.param]


@pytest.fixture
def scene(floor: Floor, database_url: str) -> Iterator[Scene]:
    """An engine whose model answers CLOSE, on the venue and the books of `floor`."""
    with engine_of(floor, database_url, CLOSE) as found:
        yield found


@contextlib.contextmanager
def engine_of(floor: Floor, database_url: str, answer: Answer) -> Iterator[Scene]:
    """An engine whose model gives this answer."""
    with short_directory() as home, GroqDouble(answer) as groq, contextlib.ExitStack() as stack:
        peers = LocalPeers()
        stack.callback(peers.stop)  # before their database is dropped
        values: dict[str, Any] = {
            "groq_api_key": "gsk_test",
            "groq_base_url": groq.url,
            "database_url": database_url,
            "sparky_home": home,
            "sparky_market": floor.simulated.name,
            "sparky_market_url": floor.venue_url,
        }
        yield Scene(peers, floor.store, Settings.model_validate(values))


def candles(floor: Floor, **wishes: Any) -> None:
    """What shall be wrong with candles; see `simulator.control.candle_control`."""
    requests.post(f"{floor.venue_url}/_control/candles", json=wishes, timeout=30).raise_for_status()


def holder(floor: Floor, *symbols: str, **fields: Any) -> UUID:
    """A strategy that holds BTCUSDT."""
    strategy_id = floor.strategy(target_assets=symbols or ("BTCUSDT",), cadence_seconds=1, **fields)
    assert floor.send("entry", strategy_id=strategy_id, **STOP)["success"]
    return UUID(strategy_id)


def closing(scene: Scene, strategy_id: UUID) -> dict[str, Any]:
    """The one symbol that the strategy saw when it decided to close."""
    (symbol,) = market_at_close(scene, strategy_id)["symbols"]
    return dict(symbol)


def market_at_close(scene: Scene, strategy_id: UUID) -> dict[str, Any]:
    """What the strategy saw when it decided to close."""
    finished = scene.peers.wait_for(CycleFinished, lambda c: c.action == "CLOSE")[0]
    assert finished.outcome == "ok"
    assert finished.signal_id is not None
    story = scene.store.get_decision_trace(finished.signal_id)
    assert story is not None
    assert story.decision.market is not None
    (signal,) = [each for each in scene.store.list_signals(strategy_id) if each.id == finished.signal_id]
    assert signal.payload["action"] == "CLOSE"
    return dict(story.decision.market)


def test_a_strategy_closes_on_a_feed_with_holes_and_duplicates(floor: Floor, scene: Scene) -> None:
    strategy_id = holder(floor)
    candles(floor, missing=[1, 3, 60], repeated=[0, 5], half_formed=[2], half_formed_last=[6], broken={70: "null"})
    candles(floor, order="mixed", shifted_ms={8: 4})
    scene.run(strategy_id)
    seen = closing(scene, strategy_id)
    opens = [row[0] for row in seen["candles"]]
    assert [(opens[-1] - open_ms) // 60_000 for open_ms in opens] == list(range(9, -1, -1))
    assert seen["filled"] == {"shown": [opens[-4], opens[-2]], "in_all": 4}


@pytest.mark.parametrize(("kind", "count"), [("0", 8), ("upside_down", 8), ("high_null", 7), ("NaN", 30), ("0", 90)])
def test_a_strategy_closes_on_a_feed_with_rows_that_contradict_themselves(
    floor: Floor, scene: Scene, kind: str, count: int
) -> None:
    strategy_id = holder(floor)
    candles(floor, broken=dict.fromkeys(range(3, 3 + count), kind))
    scene.run(strategy_id)
    seen = closing(scene, strategy_id)
    if count < 75:  # else too few would be real: they begin after the hole
        assert seen["filled"]["in_all"] == count
    else:
        assert (len(seen["candles"]), seen["indicators"]["rsi_14"]) == (3, None)


@pytest.mark.parametrize("other", ["ETHUSDT", "GONEUSDT"], ids=["halted", "not listed"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
def test_a_strategy_closes_what_it_holds_while_another_of_its_symbols_has_no_data(
    floor: Floor, scene: Scene, other: str, *, is_first: bool
) -> None:
    strategy_id = holder(floor, *((other, "BTCUSDT") if is_first else ("BTCUSDT", other)))
    candles(floor, symbol="ETHUSDT", halted=True)
    floor.hands.now += 600
    scene.run(strategy_id)
    seen = market_at_close(scene, strategy_id)
    assert [symbol["symbol"] for symbol in seen["symbols"]] == ["BTCUSDT"]
    assert seen["no_data_close_only"] == [other]


def test_a_strategy_closes_a_symbol_without_data_and_enters_none(floor: Floor, database_url: str) -> None:
    strategy_id = holder(floor, "BTCUSDT", "ETHUSDT")
    candles(floor, symbol="BTCUSDT", halted=True)
    floor.hands.now += 600
    with engine_of(floor, database_url, CLOSE) as scene:
        scene.run(strategy_id)
        seen = market_at_close(scene, strategy_id)
    assert ([each["symbol"] for each in seen["symbols"]], seen["no_data_close_only"]) == (["ETHUSDT"], ["BTCUSDT"])
    candles(floor, symbol="BTCUSDT", halted=False)
    candles(floor, symbol="ETHUSDT", halted=True)
    floor.hands.now += 600
    with engine_of(floor, database_url, ENTRY) as scene:
        scene.run(strategy_id)
        cycle = scene.cycles(1)[0]
    assert (cycle.outcome, cycle.action, cycle.symbol, cycle.signal_id) == ("ok", "HOLD", "ETHUSDT", None)
    assert "ETHUSDT has no data" in str(cycle.reason)


def test_a_strategy_closes_at_once_after_a_halted_hour(floor: Floor, scene: Scene) -> None:
    strategy_id = holder(floor)
    floor.hands.now += 59.9
    candles(floor, halted=True)
    floor.hands.now += 3_600
    scene.run(strategy_id)
    assert scene.peers.wait_for(CycleFinished)[0].outcome == "skip_no_data"
    candles(floor, halted=False)
    candles(floor, repeated=[63, 64])
    floor.hands.now += 60
    seen = closing(scene, strategy_id)
    assert seen["filled"] == {"shown": [row[0] for row in seen["candles"][:-1]], "in_all": 59}


def test_a_price_as_old_as_no_candle_may_be_is_not_shown_as_the_last_one(floor: Floor, scene: Scene) -> None:
    strategy_id = holder(floor)
    old_ms = floor.exchange.clock.now_ms() - 10 * 60_000
    stale = {"closeTime": old_ms, "lastPrice": "20000.0", "priceChangePercent": "-9"}
    floor.misbehave({"kind": "edit", "path": "/ticker/24hr", "times": None, "replace": stale})
    scene.run(strategy_id)
    seen = closing(scene, strategy_id)
    assert (seen["last_price"], seen["change_24h_percent"]) == (28_000.0, None)


@pytest.mark.parametrize("is_paper", [False, True], ids=["live", "paper"])
def test_while_candles_are_missing_a_stop_still_ends_the_position(
    floor: Floor, scene: Scene, *, is_paper: bool
) -> None:
    where = {"environment": "paper"} if is_paper else {}
    strategy_id = UUID(floor.strategy(target_assets=("BTCUSDT",), cadence_seconds=1, is_paper_trading=is_paper))
    assert floor.send("entry", strategy_id=str(strategy_id), **STOP, **where)["success"]
    candles(floor, missing=[0], ongoing=True)
    floor.hands.now += 1_200
    scene.run(strategy_id)
    assert scene.peers.wait_for(CycleFinished)[0].outcome == "skip_no_data"
    floor.direct(jump_percent=-10)
    floor.server.mark_to_market.run_once()
    floor.server.protection_watchdog.run()
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, floor.net(), floor.booked()) == ("stop_loss", Decimal(0), Decimal(0))


def test_while_the_market_is_halted_a_person_can_close_and_the_marks_go_on(floor: Floor) -> None:
    floor.send("entry", **STOP)
    candles(floor, halted=True)
    floor.hands.now += 3_600
    floor.server.mark_to_market.run_once()
    (position,) = floor.store.list_open_positions()
    assert position.current_price == Decimal(28_000)
    assert floor.send(action="close")["action"] == "closed"
    assert (floor.net(), floor.booked()) == (Decimal(0), Decimal(0))
