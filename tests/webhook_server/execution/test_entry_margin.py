"""The margin of an entry: whose mode counts, whose is in the way, and where an isolated one would be liquidated."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.errors import OrderRejected
from engine.domain.positions import MarginMode, Position
from engine.store.margin import EntryMargin, HeldMargin
from engine.venues.instrument import Instrument
from tests.support.factories.entry_values import position
from tests.webhook_server.legs import build_trade
from tests.webhook_server.market import LiveAccount, Market
from webhook_server.execution.entry_margin import (
    MarginFault,
    PlannedEntry,
    check_liquidation,
    check_margin,
    explain_margin_conflict,
    liquidation_price,
    select_margin_mode,
)
from webhook_server.execution.execution_context import TradeContext

CROSS, ISOLATED = MarginMode.CROSS, MarginMode.ISOLATED
INSTRUMENT = Instrument(symbol="BTCUSDT", tick=Decimal("0.1"), lot=Decimal("0.001"))
PRICE = Decimal(25_000)
LOCKED = OrderRejected("Margin type cannot be changed if there exists position.", "account")
LOCKED.__cause__ = ccxt.OperationRejected('aster {"code":-4048,"msg":"cannot be changed"}')


def build(held: Position | None = None, *, is_paper: bool = True, **fields: Any) -> TradeContext:
    return build_trade(LiveAccount(Market()), held, is_paper=is_paper, **fields)


def never() -> MarginMode | None:
    raise AssertionError("the venue need not be asked")


@pytest.mark.parametrize(
    ("held", "is_paper", "wanted", "expected"),
    [
        (None, True, None, ISOLATED),
        (None, True, CROSS, CROSS),
        (position(margin_mode=CROSS), True, None, CROSS),
        (position(margin_mode=CROSS), True, ISOLATED, CROSS),
        (position(margin_mode=None), True, CROSS, ISOLATED),
        (position(margin_mode=CROSS, side="SHORT"), True, None, ISOLATED),  # a reversal
        (None, False, None, None),
        (position(margin_mode=CROSS), False, ISOLATED, ISOLATED),
    ],
)
def test_an_entry_has_the_mode_that_is_wanted_and_on_paper_that_of_what_it_adds_to(
    held: Position | None, wanted: MarginMode | None, expected: MarginMode | None, *, is_paper: bool
) -> None:
    assert select_margin_mode(build(held, is_paper=is_paper), EntryMargin(wanted=wanted)) is expected


@pytest.mark.parametrize(
    ("wanted", "others", "is_fault"),
    [
        (CROSS, (HeldMargin(margin_mode=ISOLATED),), True),
        (CROSS, (HeldMargin(margin_mode=CROSS), HeldMargin(margin_mode=ISOLATED)), True),
        (CROSS, (HeldMargin(margin_mode=CROSS), HeldMargin()), False),
        (None, (HeldMargin(margin_mode=ISOLATED),), False),
        (CROSS, (), False),
    ],
)
def test_a_live_entry_in_another_mode_than_others_hold_is_refused(
    wanted: MarginMode | None, others: tuple[HeldMargin, ...], *, is_fault: bool
) -> None:
    margin = EntryMargin(wanted=wanted, others=others)
    if is_fault:
        with pytest.raises(MarginFault, match="the person holds it with isolated margin"):
            check_margin(build(is_paper=False), margin, Decimal(1_000))
    else:
        check_margin(build(is_paper=False), margin, Decimal(1_000))
    check_margin(build(), margin, Decimal(1_000))  # on paper each has its own


@given(
    size_usd=st.decimals("1", "100000", places=2),
    free_usd=st.decimals("-100", "10000", places=2),
    leverage=st.integers(1, 125),
)
def test_an_entry_on_paper_needs_its_initial_margin_free(size_usd: Decimal, free_usd: Decimal, leverage: int) -> None:
    margin = EntryMargin(paper_free_usd=free_usd)
    if size_usd <= free_usd * leverage:
        check_margin(build(leverage=leverage), margin, size_usd)
    else:
        with pytest.raises(OrderRejected) as refusal:
            check_margin(build(leverage=leverage), margin, size_usd)
        assert refusal.value.kind == "funds"
    check_margin(build(leverage=leverage, is_paper=False), margin, size_usd)
    check_margin(build(leverage=leverage), EntryMargin(), size_usd)


def test_a_refused_change_of_the_mode_names_the_strategy_that_keeps_it() -> None:
    trade = build(is_paper=False)
    other = HeldMargin(strategy_name="Momentum")
    with (
        pytest.raises(MarginFault, match="strategy Momentum holds it"),
        explain_margin_conflict(trade, EntryMargin(wanted=CROSS, others=(other,))),
    ):
        raise LOCKED
    for margin in (EntryMargin(wanted=CROSS), EntryMargin(others=(other,))):
        with pytest.raises(OrderRejected) as refusal, explain_margin_conflict(trade, margin):
            raise LOCKED
        assert refusal.value is LOCKED
    funds = OrderRejected("Margin is insufficient. (-2019)", "funds")
    with (
        pytest.raises(OrderRejected) as refusal,
        explain_margin_conflict(trade, EntryMargin(wanted=CROSS, others=(other,))),
    ):
        raise funds
    assert refusal.value is funds


@pytest.mark.parametrize("action", ["BUY", "SELL"])
@pytest.mark.parametrize("mode", [ISOLATED, None])
def test_an_isolated_entry_whose_stop_lies_beyond_its_liquidation_is_refused(
    action: str, mode: MarginMode | None
) -> None:
    """With a leverage of 10 it is liquidated when about 7.5 % of the price is lost."""
    entry = PlannedEntry(Decimal("0.04"), PRICE, PRICE)
    for stop, is_fault in ((7, False), (8, True)):
        trade = build(action=action, leverage=10, stop_loss_percent=stop)
        if is_fault:
            with pytest.raises(MarginFault, match="could never act"):
                check_liquidation(trade, lambda: mode, INSTRUMENT, entry)
        else:
            check_liquidation(trade, never, INSTRUMENT, entry)


def test_cross_margin_has_no_liquidation_of_its_own() -> None:
    trade = build(leverage=10, stop_loss_percent=50)
    check_liquidation(trade, lambda: CROSS, INSTRUMENT, PlannedEntry(Decimal("0.04"), PRICE, PRICE))


def test_an_entry_that_the_mark_price_would_liquidate_at_once_is_refused_without_any_stop() -> None:
    entry = PlannedEntry(Decimal("0.04"), PRICE, PRICE * Decimal("0.9"))
    with pytest.raises(MarginFault, match="the mark price of 22500 is beyond that"):
        check_liquidation(build(leverage=10), lambda: ISOLATED, INSTRUMENT, entry)
    check_liquidation(build(leverage=10), never, INSTRUMENT, entry._replace(mark=None))


def test_an_addition_without_a_stop_of_its_own_is_judged_by_the_one_of_what_is_held() -> None:
    held = position(stop_loss_price=Decimal(20_000))
    entry = PlannedEntry(Decimal("0.02"), PRICE, PRICE)
    with pytest.raises(MarginFault):
        check_liquidation(build(held, leverage=10), lambda: ISOLATED, INSTRUMENT, entry)
    check_liquidation(build(held, leverage=2), never, INSTRUMENT, entry)


@given(leverage=st.integers(2, 125), action=st.sampled_from(["BUY", "SELL"]))
def test_a_liquidation_costs_no_more_than_the_margin(leverage: int, action: str) -> None:
    trade, quantity = build(leverage=leverage, action=action), Decimal("0.04")
    level = liquidation_price(trade, ISOLATED, INSTRUMENT, quantity, PRICE)
    assert level is not None
    loss = (PRICE - level) * quantity * (1 if action == "BUY" else -1)
    initial = PRICE * quantity / leverage
    assert initial * Decimal("0.4") < loss < initial + INSTRUMENT.tick * quantity


def test_the_liquidation_of_an_addition_is_that_of_the_whole_position() -> None:
    held = position(entry_price=Decimal(20_000), position_size_usd=Decimal(400), leverage=10)
    whole = liquidation_price(build(held, leverage=10), ISOLATED, INSTRUMENT, Decimal("0.02"), PRICE)
    alone = liquidation_price(build(leverage=10), ISOLATED, INSTRUMENT, Decimal("0.04"), Decimal(22_500))
    assert whole == alone
    paid = held.model_copy(update={"funding_usd": Decimal(-10)})
    worse = liquidation_price(build(paid, leverage=10), ISOLATED, INSTRUMENT, Decimal("0.02"), PRICE)
    assert worse is not None
    assert whole is not None
    assert worse > whole


def test_no_liquidation_price_is_told_live_or_with_cross_margin() -> None:
    trade = build(leverage=10)
    assert liquidation_price(trade, CROSS, INSTRUMENT, Decimal("0.04"), PRICE) is None
    assert liquidation_price(replace(trade, is_paper=False), ISOLATED, INSTRUMENT, Decimal("0.04"), PRICE) is None
