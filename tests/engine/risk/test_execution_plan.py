"""Which legs an order has, in which book."""

from datetime import timedelta
from decimal import Decimal

from engine.domain.positions import Side
from engine.domain.strategy import EntryRules
from engine.risk.execution_plan import find_held_position, find_position_to_close, plan_entry
from tests.support.factories.entry_values import NOW, order, portfolio, position, settings, strategy


def test_an_entry_opens_adds_or_reverses() -> None:
    fresh = plan_entry(order(), portfolio(), None, NOW)
    assert (fresh.close, fresh.open_usd) == (False, Decimal(1000))
    held = position()
    more = plan_entry(order(), portfolio(open_positions=(held,)), held, NOW)
    assert (more.close, more.open_usd) == (False, Decimal(500))
    turn = plan_entry(order(action="SELL"), portfolio(open_positions=(held,)), held, NOW)
    assert (turn.close, turn.open_usd) == (True, Decimal(1000))


def test_a_refused_reversal_still_gets_out() -> None:
    held = position()
    view = portfolio(open_positions=(held,), settings=settings(kill_switch=True))
    plan = plan_entry(order(action="SELL"), view, held, NOW)
    assert (plan.close, plan.open_usd) == (True, Decimal(0))
    assert plan.breach is not None


def test_a_reversal_against_the_entry_rules_still_gets_out() -> None:
    held = position()
    view = portfolio(open_positions=(held,), strategy=strategy(rules=EntryRules()))
    plan = plan_entry(order(action="SELL", is_ai_signal=True), view, held, NOW)
    assert (plan.close, plan.open_usd) == (True, Decimal(0))
    assert plan.breach is not None
    assert plan.breach.limit_type == "entry_rules"


def test_a_stale_reversal_does_nothing() -> None:
    held = position()
    plan = plan_entry(order(action="SELL", expires_at=NOW), portfolio(open_positions=(held,)), held, NOW)
    assert (plan.close, plan.open_usd) == (False, Decimal(0))


def test_held_is_what_the_same_holder_has_in_the_same_symbol_and_book() -> None:
    mine = position()
    others = (
        position(symbol="ETHUSDT"),
        position(strategy_id=None),
        position(is_paper=False, side=Side.SHORT),
    )
    assert find_held_position(order(), (*others, mine), is_paper=True) == mine
    assert find_held_position(order(), others, is_paper=True) is None


def test_an_exit_finds_its_position_in_either_book() -> None:
    close = order(action="CLOSE")
    paper, live = position(), position(is_paper=False)
    assert find_position_to_close(close, (paper,), None) == paper
    assert find_position_to_close(close, (live,), None) == live
    newer = live.model_copy(update={"entry_time": NOW + timedelta(seconds=1)})
    assert find_position_to_close(close, (paper, newer), None) == newer


def test_a_persons_environment_binds_the_exit() -> None:
    close = order(action="CLOSE", strategy_id=None, environment="production")
    paper = position(strategy_id=None)
    assert find_position_to_close(close, (paper,), None) is None
    assert find_position_to_close(close.model_copy(update={"environment": None}), (paper,), None) == paper


def test_an_exit_that_was_held_up_leaves_later_positions_alone() -> None:
    close = order(action="CLOSE")
    assert find_position_to_close(close, (position(),), NOW) is not None
    assert find_position_to_close(close, (position(entry_time=NOW + timedelta(seconds=1)),), NOW) is None
