"""A symbol without data silences no other: the cycle goes on with those that have some, and takes no entry in it."""

import pytest

from engine.domain.decision import Action
from engine.domain.errors import StrategyFault
from engine.platform.errors import CycleSkipped, SkipKind
from tests.engine.deciding.cycle_world import CLOSE, LONG, World, answered
from tests.engine.deciding.examples import a_context, a_position, a_strategy

TWO = a_strategy(target_assets=("ETHUSDT", "BTCUSDT"))
HALTED = CycleSkipped(SkipKind.NO_DATA, "ETHUSDT: the venue's last candle is too old")
UNKNOWN = StrategyFault("ETHUSDT is not listed")
ETH_LONG, ETH_CLOSE = LONG.replace("BTC", "ETH"), CLOSE.replace("BTC", "ETH")


@pytest.mark.parametrize("error", [HALTED, UNKNOWN, CycleSkipped(SkipKind.BAD_DATA, "nonsense")])
@pytest.mark.parametrize("text", [LONG, CLOSE])
def test_a_cycle_goes_on_with_the_symbols_that_have_data(error: Exception, text: str) -> None:
    world = World(
        context=a_context(TWO, positions=(a_position(),) if text == CLOSE else ()),
        market_errors={"ETHUSDT": error},
        calls=[answered(text)],
    )
    outcome = world.run()
    assert (outcome.outcome, world.signals[0] is not None) == ("ok", True)
    market = world.records[0].market
    assert [symbol["symbol"] for symbol in market["symbols"]] == ["BTCUSDT"]
    assert market["no_data_close_only"] == ["ETHUSDT"]
    assert '"no_data_close_only":["ETHUSDT"]' in world.prompts[0].user
    assert outcome.without_data == {"ETHUSDT": str(error)}


def test_an_entry_in_a_symbol_without_data_is_held_and_says_why() -> None:
    world = World(context=a_context(TWO), market_errors={"ETHUSDT": HALTED}, calls=[answered(ETH_LONG)])
    outcome = world.run()
    assert (outcome.outcome, world.signals) == ("ok", [None])
    assert (world.records[0].action, world.records[0].is_fault) == (Action.HOLD, False)
    assert world.records[0].reason == "ETHUSDT has no data: ETHUSDT: the venue's last candle is too old"


def test_a_position_in_a_symbol_without_data_may_be_closed() -> None:
    context = a_context(TWO, positions=(a_position(symbol="ETHUSDT"),))
    world = World(context=context, market_errors={"ETHUSDT": UNKNOWN}, calls=[answered(ETH_CLOSE)])
    assert world.run().outcome == "ok"
    assert (world.signals[0] is not None, world.records[0].symbol) == (True, "ETHUSDT")


@pytest.mark.parametrize(
    ("eth", "btc", "outcome"),
    [
        (HALTED, HALTED, "skip_no_data"),
        (UNKNOWN, UNKNOWN, "fault"),
        (UNKNOWN, HALTED, "skip_no_data"),
        (CycleSkipped(SkipKind.NO_MARKET, "no answer"), UNKNOWN, "skip_no_market"),
    ],
)
def test_without_data_of_any_symbol_there_is_nothing_to_decide_on(eth: Exception, btc: Exception, outcome: str) -> None:
    """What may pass by itself comes before a fault, of which five pause the row."""
    world = World(context=a_context(TWO), market_errors={"ETHUSDT": eth, "BTCUSDT": btc})
    assert (world.run().outcome, world.prompts) == (outcome, [])


def test_a_reason_from_outside_is_recorded_short_and_as_plain_text() -> None:
    world = World(
        context=a_context(TWO),
        market_errors={"ETHUSDT": CycleSkipped(SkipKind.NO_DATA, "\0<html>" * 1_000)},
        calls=[answered(ETH_LONG)],
    )
    world.run()
    reason = world.records[0].reason or ""
    assert "\0" not in reason
    assert len(reason) < 250
