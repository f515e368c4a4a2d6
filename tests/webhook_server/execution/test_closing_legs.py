"""The legs that close: what is sent of them, what is left protected, and what a broken attempt leaves to the next."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import (
    OrderOutcomeUnknown,
    OrderRejected,
    OutsidePriceBand,
    StrategyFault,
    VenueUnavailable,
)
from engine.domain.positions import Position, Side
from engine.venues.orders import OrderRequest, OrderResult
from tests.support.factories.entry_values import position
from tests.webhook_server.legs import (
    ScriptedAccount,
    SizedMarket,
    build_legs,
    build_paper,
    build_trade,
    hold_live,
)
from webhook_server.execution.closing_legs import NETTED_REFUSAL
from webhook_server.execution.entry_legs import LegExecutor
from webhook_server.execution.execution_context import CLOSE, REST, UNDO, NothingToDo
from webhook_server.intake.schemas import ExitTerms


class Stage:
    """An account that holds 0.1 BTCUSDT for the legs of a CLOSE, behind a stop-loss; orders are for 0.04 at most."""

    def __init__(
        self, quantity: str = "0.1", account: type[ScriptedAccount] = ScriptedAccount, **sizes: object
    ) -> None:
        self.market = SizedMarket(sizes={"max_quantity": Decimal("0.04")} | sizes)
        self.account = account(self.market)
        self.held = hold_live(self.account, quantity)
        self.submitted = 0

    def legs(
        self,
        held: Position | None = None,
        others: frozenset[Side] = frozenset(),
        *,
        is_resumed: bool = False,
        **fields: Any,
    ) -> LegExecutor:
        trade = build_trade(self.account, held or self.held, is_resumed=is_resumed, **{"action": "CLOSE"} | fields)
        return build_legs(replace(trade, other_sides=others), self.market, submit=self._submit)

    def _submit(self) -> None:
        self.submitted += 1

    @property
    def sent(self) -> list[tuple[Decimal, bool]]:
        """Quantity of each filled order, and whether it is a reduction."""
        return [(each.quantity, each.reduce_only) for each in self.account.requests]

    @property
    def protected(self) -> list[Decimal]:
        """For how much each waiting stop is."""
        return [each.quantity for each in self.account.protections.values()]


def quantities(*texts: str) -> list[tuple[Decimal, bool]]:
    """Reductions of these quantities, as `Stage.sent` tells them."""
    return [(Decimal(text), True) for text in texts]


def test_an_exit_above_the_largest_order_is_several_reductions_and_one_fill() -> None:
    stage = Stage()
    legs = stage.legs()
    fill = legs.close(stage.held)
    assert stage.sent == quantities("0.04", "0.04", "0.02")
    assert not any(each.is_buy for each in stage.account.requests)
    names = [legs.trade.client_order_id(leg) for leg in ("c", "c1", "c2")]
    assert [each.client_order_id for each in stage.account.requests] == names
    assert (fill.quantity, fill.kind, fill.dust) == (Decimal("0.1"), "close", None)
    assert fill.order_ids == tuple(each.order_id for each in stage.account.orders)
    assert fill.fee_usd == sum(each.fee_usd for each in stage.account.orders)
    assert stage.protected == []


def test_a_short_is_bought_back() -> None:
    stage = Stage()
    short = stage.held.model_copy(update={"side": Side.SHORT})
    assert stage.legs(held=short).close(short).side is Side.SHORT
    assert all(each.is_buy and each.reduce_only for each in stage.account.requests)


@pytest.mark.parametrize("failure", [OrderRejected("no margin", "funds"), StrategyFault("unknown symbol")])
def test_a_part_that_is_made_before_the_rest_is_refused_is_the_exit_and_the_rest_stays_protected(
    failure: Exception,
) -> None:
    stage = Stage()
    stage.account.outcomes = [Decimal("0.04"), failure]
    assert stage.legs().close(stage.held).quantity == Decimal("0.04")
    assert stage.sent == quantities("0.04")
    assert stage.protected == [Decimal("0.04")]  # of the 0.06 that are left one stop can hold 0.04


def test_a_part_that_is_made_before_the_venue_goes_away_is_booked_by_the_attempt_that_makes_the_rest() -> None:
    stage = Stage()
    stage.account.outcomes = [Decimal("0.04"), VenueUnavailable("no connection")]
    with pytest.raises(OrderOutcomeUnknown, match="a part of the exit is made"):
        stage.legs().close(stage.held)
    assert stage.protected == [Decimal("0.04")]
    fill = stage.legs(is_resumed=True).close(stage.held)
    assert fill.quantity == Decimal("0.1")
    assert stage.sent == quantities("0.04", "0.04", "0.02")
    assert stage.protected == []


def test_an_exit_that_was_made_whole_is_found_again_and_nothing_more_is_sent() -> None:
    stage = Stage()
    first = stage.legs().close(stage.held)
    again = stage.legs(is_resumed=True).close(stage.held)
    assert again == first
    assert len(stage.sent) == 3


def test_a_part_that_the_venue_filled_less_of_leaves_the_rest_protected() -> None:
    stage = Stage("0.03")
    stage.account.outcomes = [Decimal("0.01")]
    assert stage.legs().close(stage.held).quantity == Decimal("0.01")
    assert stage.protected == [Decimal("0.02")]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OrderRejected("no margin", "funds"), OrderRejected),
        (OrderRejected("nothing to reduce", "reduce_only"), OrderRejected),
        (VenueUnavailable("no connection"), VenueUnavailable),
        (OutsidePriceBand("too far from the mark price"), VenueUnavailable),
    ],
)
def test_an_exit_of_which_nothing_is_made_leaves_all_of_it_protected(failure: Exception, told: type[Exception]) -> None:
    stage = Stage("0.03")
    stage.account.outcomes = [failure] * 2
    with pytest.raises(told):
        stage.legs().close(stage.held)
    assert (stage.sent, stage.protected) == ([], [Decimal("0.03")])


def test_an_exit_of_which_nothing_is_known_is_left_unknown_and_unprotected() -> None:
    """A stop that waits beside an exit under way could close twice."""
    stage = Stage("0.03")
    stage.account.mood = "silent"
    with pytest.raises(OrderOutcomeUnknown):
        stage.legs().close(stage.held)
    assert stage.protected == []


def test_no_order_leaves_where_this_server_may_not_send() -> None:
    stage = Stage("0.03")

    def refuse() -> None:
        raise RuntimeError("not the holder of the lease")

    with pytest.raises(RuntimeError):
        replace(stage.legs(), submit=refuse).close(stage.held)
    assert (stage.sent, stage.protected) == ([], [Decimal("0.03")])


def test_a_stop_that_has_filled_was_the_exit_and_nothing_is_sold_twice() -> None:
    stage = Stage("0.03")
    stage.account.trigger(stage.held.stop_loss_client_order_id or "")
    fill = stage.legs().close(stage.held)
    assert (fill.quantity, fill.exit_reason) == (Decimal("0.03"), "stop_loss")
    assert len(stage.account.orders) == 1


def test_a_stop_that_closed_more_than_is_held_is_booked_as_far_as_it_is_held() -> None:
    stage = Stage("0.03")
    stage.account.trigger(stage.held.stop_loss_client_order_id or "")
    held = stage.held.model_copy(update={"quantity": Decimal("0.02")})
    assert stage.legs().close(held).quantity == Decimal("0.02")


def test_a_part_of_a_position_is_whole_lots_of_it_and_the_rest_stays_protected() -> None:
    stage = Stage("0.035")
    assert stage.legs(sell_percentage=50).close(stage.held).quantity == Decimal("0.017")
    assert stage.protected == [Decimal("0.018")]


def test_a_part_that_is_less_than_a_lot_is_nothing_to_do() -> None:
    stage = Stage("0.005")
    with pytest.raises(NothingToDo):
        stage.legs(sell_percentage=10).close(stage.held)
    assert (stage.sent, stage.protected, stage.submitted) == ([], [Decimal("0.005")], 0)


def test_what_an_exit_leaves_below_a_lot_is_dust_of_its_fill() -> None:
    stage = Stage("0.0395")
    fill = stage.legs().close(stage.held)
    assert (fill.quantity, fill.dust) == (Decimal("0.039"), Decimal("0.0005"))
    assert stage.protected == []


def test_a_position_that_is_dust_ends_without_an_order() -> None:
    """0.0003 at 25,000 are 7.50 USD."""
    stage = Stage("0.0003")
    fill = stage.legs().close(stage.held)
    assert (fill.kind, fill.quantity, fill.price) == ("dust", Decimal("0.0003"), Decimal(25_000))
    assert fill.fee_usd == 0
    assert (stage.sent, stage.protected) == ([], [])


def test_a_position_too_little_for_an_order_and_worth_too_much_to_be_forgotten_stays() -> None:
    """0.0009 at 25,000 are 22.50 USD."""
    stage = Stage("0.0009")
    with pytest.raises(OrderRejected, match="too little for an order") as refusal:
        stage.legs().close(stage.held)
    assert refusal.value.kind == "filter"
    assert (stage.sent, stage.protected) == ([], [Decimal("0.0009")])


def test_what_is_too_little_by_an_old_list_is_closed_by_the_new_one() -> None:
    stage = Stage("0.0009")
    stage.market.reread = {"lot": Decimal("0.0001")}
    assert stage.legs().close(stage.held).quantity == Decimal("0.0009")


class ShrinkingAccount(ScriptedAccount):
    """Refuses the first order as too large, by sizes that its list has from then on."""

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        assert isinstance(self._market, SizedMarket)
        if self._market.sizes["max_quantity"] is None:
            self._market.sizes["max_quantity"] = Decimal("0.05")
            raise OrderRejected("quantity greater than the maximum", "filter")
        return super().place_market_order(order)


def test_an_order_refused_for_sizes_that_have_changed_is_sent_anew_by_the_new_ones() -> None:
    stage = Stage("0.1", ShrinkingAccount, max_quantity=None)
    assert stage.legs().close(stage.held).quantity == Decimal("0.1")
    assert stage.sent == quantities("0.05", "0.05")


def test_beside_opposite_positions_no_more_is_reduced_than_the_account_holds_on_this_side() -> None:
    stage = Stage("0.03")
    for name, is_buy, quantity in (("x1", True, "0.03"), ("x2", False, "0.01")):
        stage.account.requests.append(
            OrderRequest(client_order_id=name, symbol="BTCUSDT", is_buy=is_buy, quantity=Decimal(quantity))
        )
    fill = stage.legs(others=frozenset({Side.SHORT})).close(stage.held)
    assert fill.quantity == Decimal("0.02")
    assert stage.sent[-1] == (Decimal("0.02"), True)
    assert stage.protected == [Decimal("0.01")]


def test_beside_opposite_positions_an_account_that_holds_nothing_reduces_nothing() -> None:
    stage = Stage("0.03")
    with pytest.raises(OrderRejected) as refusal:
        stage.legs(others=frozenset({Side.SHORT})).close(stage.held)
    assert refusal.value.kind == "reduce_only"
    assert (stage.sent, stage.protected) == ([], [Decimal("0.03")])


def test_the_rest_of_an_exit_is_reduced_first_and_sold_beyond_that() -> None:
    stage = Stage("0.03")
    fill = stage.legs().close_rest(stage.held, Decimal("0.03"), reducible=Decimal("0.02"))
    assert stage.sent == [(Decimal("0.02"), True), (Decimal("0.01"), False)]
    assert (fill.kind, fill.quantity) == ("rest", Decimal("0.03"))
    assert stage.protected == []


def test_a_rest_that_was_sent_is_found_again() -> None:
    stage = Stage("0.03")
    first = stage.legs().close_rest(stage.held, Decimal("0.03"))
    resumed = stage.legs(is_resumed=True)
    assert resumed.find_rest(Decimal("0.03")) == (Decimal("0.03"), False)
    assert resumed.close_rest(stage.held, Decimal("0.03")) == first
    assert stage.sent == [(Decimal("0.03"), False)]


def test_a_rest_that_was_refused_is_told_as_one_to_be_sent() -> None:
    stage = Stage("0.03")
    resumed = stage.legs(is_resumed=True)
    stage.account.refuse_later(resumed.trade.client_order_id(REST))
    assert resumed.find_rest(Decimal("0.03")) == (Decimal(0), True)


def test_a_rest_that_the_venue_refuses_stays_protected_and_that_is_explained() -> None:
    stage = Stage("0.03")
    stage.account.outcomes = [OrderRejected("no margin", "funds")]
    with pytest.raises(OrderRejected, match=f"{NETTED_REFUSAL}: no margin") as refusal:
        stage.legs().close_rest(stage.held, Decimal("0.03"))
    assert refusal.value.kind == "funds"
    assert stage.protected == [Decimal("0.03")]


def test_a_rest_too_little_for_an_order_that_is_no_reduction_ends_as_dust() -> None:
    """0.001 at 2,000 are 2 USD, below the least notional of 5."""
    stage = Stage("0.001")
    stage.market.prices["BTCUSDT"] = Decimal(2_000)
    fill = stage.legs().close_rest(stage.held, Decimal("0.001"))
    assert (fill.kind, fill.quantity, stage.sent) == ("dust", Decimal("0.001"), [])


def test_a_stop_that_fills_before_the_rest_is_sent_is_the_rest() -> None:
    stage = Stage("0.03")
    stage.account.trigger(stage.held.stop_loss_client_order_id or "")
    fill = stage.legs().close_rest(stage.held, Decimal("0.03"))
    assert (fill.kind, fill.exit_reason, len(stage.account.orders)) == ("rest", "stop_loss", 1)


def enter(stage: Stage) -> LegExecutor:
    """The legs of an entry, whose own stop waits."""
    legs = stage.legs(action="BUY", stop_loss_percent=2)
    own: Position = stage.held.model_copy(update={"stop_loss_client_order_id": None})
    legs.protection.place(own)
    assert legs.trade.client_order_id("l") in stage.account.protections
    return legs


def test_an_undone_entry_is_taken_back_and_its_stop_goes() -> None:
    stage = Stage("0.03")
    legs = enter(stage)
    opened, _ = legs.open(Decimal(500))
    undone = legs.undo(opened, opened.quantity, reduce_only=True)
    assert (undone.kind, undone.quantity, undone.exit_reason) == ("undo", opened.quantity, "unprotected")
    assert stage.sent[-1] == (opened.quantity, True)
    assert legs.trade.client_order_id("l") not in stage.account.protections
    again = replace(legs, trade=replace(legs.trade, request=replace(legs.trade.request, is_resumed=True)))
    assert again.was_sent(UNDO)
    assert again.undo(opened, opened.quantity, reduce_only=True) == undone
    assert len(stage.account.orders) == 2


def test_an_entry_that_cannot_be_taken_back_is_told_with_the_venues_reason() -> None:
    stage = Stage("0.03")
    legs = enter(stage)
    opened, _ = legs.open(Decimal(500))
    stage.account.outcomes = [OrderRejected("nothing to reduce", "reduce_only")]
    with pytest.raises(OrderRejected, match="nothing to reduce"):
        legs.undo(opened, opened.quantity, reduce_only=True)


def test_as_much_of_an_entry_as_the_venue_takes_back_is_undone() -> None:
    stage = Stage("0.03")
    legs = enter(stage)
    opened, _ = legs.open(Decimal(500))
    stage.account.outcomes = [Decimal("0.005")]
    assert legs.undo(opened, opened.quantity, reduce_only=True).quantity == Decimal("0.005")


def test_a_paper_exit_needs_no_permission_to_send_and_pays_the_worse_price() -> None:
    stage = Stage()
    held = position(quantity=Decimal("0.02"))
    trade = build_trade(build_paper(stage.market), held, is_paper=True, action="CLOSE")
    legs = build_legs(trade, stage.market, submit=stage._submit)
    fill = legs.close(held)
    assert (fill.quantity, fill.price, fill.is_paper) == (Decimal("0.02"), Decimal("24994.9"), True)
    assert (stage.submitted, stage.account.orders) == (0, [])


def test_what_the_market_ended_on_paper_ends_whole_at_the_price_of_then() -> None:
    stage = Stage()
    held = position(quantity=Decimal("0.0205"))
    trade = build_trade(build_paper(stage.market), held, is_paper=True, action="CLOSE")
    terms = ExitTerms(price=Decimal(24_000), at_ms=1_700_000_000_123, fee_usd=Decimal("1.5"))
    signal = trade.request.signal.model_copy(update={"exit_terms": terms})
    request = replace(trade.request, signal=signal, exit_reason="liquidated")
    fill = build_legs(replace(trade, request=request), stage.market).close(held)
    assert (fill.quantity, fill.price, fill.fee_usd) == (held.quantity, Decimal(24_000), Decimal("1.5"))
    assert (fill.market_time_ms, fill.exit_reason, fill.dust) == (1_700_000_000_123, "liquidated", None)


def test_the_first_leg_of_a_reversal_closes_all_that_is_held() -> None:
    stage = Stage("0.03")
    fill = stage.legs(action="SELL").close(stage.held)
    assert (fill.quantity, stage.account.requests[-1].client_order_id) == (
        Decimal("0.03"),
        stage.legs().trade.client_order_id(CLOSE),
    )
