"""The rules of a risk profile that code can hold bind the cycle, whatever the model answers."""

import json
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.decision import Action
from engine.domain.positions import Position, Side
from tests.engine.deciding.cycle_world import World, answered
from tests.engine.deciding.examples import a_context, a_position, a_strategy

ENTRY: dict[str, Any] = {
    "action": "LONG",
    "symbol": "BTCUSDT",
    "size_usd": 900,
    "confidence": 0.8,
    "reasoning": "up",
    "stop_loss_percent": 2,
    "take_profit_percent": None,
}


def a_cycle(*held: Position, **answer: Any) -> World:
    """One cycle of a conservative strategy of at most 1,000 USD in which the model answers `ENTRY` with `answer`."""
    context = a_context(a_strategy(risk_profile="conservative"), positions=held)
    world = World(context=context, calls=[answered(json.dumps({**ENTRY, **answer}))])
    world.run()
    return world


def test_an_entry_of_nine_tenths_of_the_limit_without_a_stop_leaves_no_signal() -> None:
    world = a_cycle(stop_loss_percent=None)
    assert world.signals == [None]
    (record,) = world.records
    assert (record.action, record.size_usd, record.is_fault) == (Action.HOLD, Decimal(0), False)
    assert "stop" in (record.reason or "")


def test_an_entry_of_nine_tenths_of_the_limit_is_cut_to_a_quarter_of_it() -> None:
    world = a_cycle()
    (signal,) = world.signals
    assert signal is not None
    assert signal.payload.position_size_usd == Decimal(250)
    assert world.records[0].size_usd == Decimal(250)


@pytest.mark.parametrize("pnl_usd", [Decimal(40), Decimal(-40), None])
def test_nothing_is_added_to_what_is_held(pnl_usd: Decimal | None) -> None:
    world = a_cycle(a_position(unrealized_pnl_usd=pnl_usd))
    assert world.signals == [None]
    (record,) = world.records
    assert (record.action, record.is_fault) == (Action.HOLD, False)
    assert "add" in (record.reason or "")


def test_a_stop_that_is_nearer_than_the_fees_leaves_no_signal() -> None:
    world = a_cycle(stop_loss_percent=0.015)
    assert world.signals == [None]
    (record,) = world.records
    assert (record.action, record.is_fault) == (Action.HOLD, False)
    assert "0.015" in (record.reason or "")


def test_a_reversal_adds_nothing_and_is_made() -> None:
    (signal,) = a_cycle(a_position(side=Side.SHORT)).signals
    assert signal is not None
    assert signal.payload.position_size_usd == Decimal(250)


def test_a_close_is_bound_by_no_rule() -> None:
    world = a_cycle(a_position(), action="CLOSE", size_usd=0, stop_loss_percent=None)
    assert world.records[0].action is Action.CLOSE
    assert world.signals != [None]
