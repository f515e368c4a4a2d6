"""A portfolio with faults in it: read as far as it goes, and never as if nothing were wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from engine.store.webhook_rows import Portfolio
from tests.support.factories.entry_values import portfolio, position, settings, strategy


def found(**changes: Any) -> dict[str, Any]:
    """What the database gives, two positions among it."""
    held = (position(), position(symbol="ETHUSDT"))
    whole = portfolio(settings=settings(max_daily_loss_usd=5), strategy=strategy(), open_positions=held)
    return whole.model_dump(mode="json") | changes


def test_what_can_be_read_says_nothing_of_faults() -> None:
    assert Portfolio.from_row(found()).unreadable is None


def test_a_limit_that_cannot_be_read_is_named_and_leaves_the_others() -> None:
    seen = Portfolio.from_row(
        found(settings={"kill_switch": True, "allow_weekends": None, "max_daily_loss_usd": "NaN"})
    )
    assert seen.settings is not None
    assert (seen.settings.kill_switch, seen.settings.allow_weekends, seen.settings.max_daily_loss_usd) == (
        True,
        False,
        None,
    )
    assert "settings.allow_weekends" in (seen.unreadable or "")
    assert "settings.max_daily_loss_usd" in (seen.unreadable or "")


@pytest.mark.parametrize("field", ["leverage_max", "max_position_usd", "max_drawdown_percent", "drawdown_percent"])
@pytest.mark.parametrize("value", [None, "NaN", "much"])
def test_a_strategy_of_which_a_limit_cannot_be_read_may_do_nothing(field: str, value: object) -> None:
    whole = found()
    seen = Portfolio.from_row(whole | {"strategy": whole["strategy"] | {field: value}})
    assert f"strategy.{field}" in (seen.unreadable or "")
    assert seen.strategy is not None
    assert seen.strategy.leverage_max == (1 if field == "leverage_max" else 10)


def test_a_position_or_a_figure_that_cannot_be_read_leaves_the_others() -> None:
    whole = found()
    broken = [whole["open_positions"][0] | {"side": "UP"}, whole["open_positions"][1]]
    seen = Portfolio.from_row(whole | {"open_positions": broken, "trades_this_week": "many"})
    assert [held.symbol for held in seen.open_positions] == ["ETHUSDT"]
    assert seen.trades_this_week is None
    assert "open_positions.0.side" in (seen.unreadable or "")


def test_a_figure_that_an_older_schema_does_not_give_is_unreadable() -> None:
    whole = found()
    del whole["consecutive_failures"]
    assert "consecutive_failures" in (Portfolio.from_row(whole).unreadable or "")


@pytest.mark.parametrize("changes", [{"now": None}, {"open_position_count": "some"}, {"strategy": "one"}])
def test_what_cannot_be_spared_makes_all_of_it_unreadable(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Portfolio.from_row(found(**changes))
