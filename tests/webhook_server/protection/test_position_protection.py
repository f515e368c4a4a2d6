"""Protective orders at a live venue: the new ones first, none twice, and a filled one is the exit."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderRejected, VenueUnavailable
from engine.domain.positions import Position, Side
from engine.venues.orders import OrderResult, OrderStatus, Protection
from tests.support.factories.entry_values import position
from tests.webhook_server.legs import ScriptedAccount, SizedMarket, build_legs, build_trade, hold_live
from webhook_server.protection.position_protection import (
    PositionProtection,
    build_protection,
    fetch_unlisted_orders,
    find_fired_reason,
    fired_reason_among,
    is_unbooked_exit,
    place_each,
    split_protection,
    to_placed_protection,
    with_new_ids,
)

BOTH = {"stop_loss_price": Decimal(24_500), "take_profit_price": Decimal(26_000)}


def build(account: ScriptedAccount, market: SizedMarket, **fields: Any) -> PositionProtection:
    return build_legs(build_trade(account, **fields), market).protection


def stage(**sizes: object) -> tuple[SizedMarket, ScriptedAccount]:
    market = SizedMarket(sizes=dict(sizes))
    return market, ScriptedAccount(market)


def hold_both(account: ScriptedAccount) -> Position:
    """0.03 BTCUSDT whose stop-loss and take-profit wait."""
    bare = position(is_paper=False, quantity=Decimal("0.03"), **BOTH)
    wanted = build_protection(bare, bare.quantity)
    account.place_protection(wanted)
    ids = {"stop_loss_client_order_id": wanted.stop_loss_id, "take_profit_client_order_id": wanted.take_profit_id}
    return bare.model_copy(update=ids)


def build_filled(name: str, order_id: str = "1", status: OrderStatus = OrderStatus.FILLED) -> OrderResult:
    return OrderResult(
        order_id=order_id,
        client_order_id=name,
        status=status,
        price=Decimal(24_500),
        quantity=Decimal("0.03"),
        fee_usd=Decimal(0),
        at_ms=0,
    )


def test_the_new_orders_protect_all_of_it_and_the_old_ones_go() -> None:
    market, account = stage()
    held = hold_both(account)
    protection = build(account, market)
    placed, fired = protection.place(held)
    trade = protection.trade
    assert fired is None
    assert set(account.protections) == {trade.client_order_id("l"), trade.client_order_id("t")}
    assert {each.quantity for each in account.protections.values()} == {held.quantity}
    assert (placed.stop_loss_client_order_id, placed.stop_loss_price) == (trade.client_order_id("l"), Decimal(24_500))
    assert placed.take_profit_order_id == f"w-{trade.client_order_id('t')}"


def test_protection_that_is_placed_again_by_a_resumed_request_stays() -> None:
    market, account = stage()
    held = hold_both(account)
    first, _ = build(account, market).place(held)
    ids = first.model_dump(include={"stop_loss_client_order_id", "take_profit_client_order_id"})
    again, _ = build(account, market, is_resumed=True).place(held.model_copy(update=ids))
    assert again == first
    assert len(account.protections) == 2


def test_an_old_stop_that_has_filled_meanwhile_is_told_as_the_exit() -> None:
    market, account = stage()
    held = hold_both(account)
    account.trigger(held.take_profit_client_order_id or "")
    _, fired = build(account, market).place(held)
    assert fired is not None
    assert (fired[0], fired[1].quantity) == ("take_profit", held.quantity)


def test_where_the_account_has_nothing_to_reduce_the_books_keep_the_prices() -> None:
    market, account = stage()
    account.protection_fails = OrderRejected("nothing to reduce", "reduce_only")
    placed, _ = build(account, market).place(position(is_paper=False, **BOTH))
    assert (placed.stop_loss_price, placed.stop_loss_order_id) == (Decimal(24_500), None)


@pytest.mark.parametrize("error", [OrderRejected("it would trigger", "would_trigger"), VenueUnavailable("away")])
def test_protection_that_cannot_be_placed_leaves_the_old_one_and_says_why(error: Exception) -> None:
    market, account = stage()
    held = hold_both(account)
    waiting = set(account.protections)
    account.protection_fails = error
    with pytest.raises(type(error)):
        build(account, market).place(held)
    assert set(account.protections) == waiting


def test_one_stop_is_for_no_more_than_one_order_may_be() -> None:
    market, account = stage(max_quantity=Decimal("0.02"))
    build(account, market).place(position(is_paper=False, quantity=Decimal("0.03"), **BOTH))
    assert {each.quantity for each in account.protections.values()} == {Decimal("0.02")}


def test_own_orders_are_cancelled_and_those_of_others_stay() -> None:
    market, account = stage()
    other = hold_live(account, "0.03")
    protection = build(account, market)
    protection.place(position(is_paper=False, **BOTH))
    protection.cancel_own()
    assert set(account.protections) == {other.stop_loss_client_order_id}


def test_on_paper_no_order_is_cancelled_asked_for_or_placed() -> None:
    market, account = stage()
    held = hold_both(account)
    account.trigger(held.stop_loss_client_order_id or "")
    live = build(account, market)
    paper = replace(live, trade=replace(live.trade, is_paper=True))
    assert paper.cancel_existing(held) is None
    assert not paper.has_fired(held)
    paper.restore(held, Decimal("0.01"))
    assert set(account.protections) == {held.take_profit_client_order_id}
    assert live.has_fired(held)


def test_what_stays_of_a_position_is_protected_under_its_own_names() -> None:
    market, account = stage()
    held = hold_both(account)
    protection = build(account, market, action="CLOSE")
    assert protection.cancel_existing(held) is None
    assert account.protections == {}
    protection.restore(held, Decimal("0.0105"))
    assert set(account.protections) == {held.stop_loss_client_order_id, held.take_profit_client_order_id}
    assert {each.quantity for each in account.protections.values()} == {Decimal("0.010")}


def test_protection_that_cannot_be_put_back_is_counted_and_stops_nothing() -> None:
    market, account = stage()
    held = hold_both(account)
    protection = build(account, market, action="CLOSE")
    account.protection_fails = VenueUnavailable("no connection")
    protection.restore(held, Decimal("0.01"))
    name = "sparky_webhook_protection_failures_total"
    assert protection.metrics.registry.get_sample_value(name, {"after": "exit"}) == 1


def test_a_position_that_had_no_protection_gets_none() -> None:
    market, account = stage()
    build(account, market).restore(position(is_paper=False, **BOTH), Decimal("0.01"))
    assert account.protections == {}


@pytest.mark.parametrize("fields", [{}, {"stop_loss_price": None}, {"take_profit_price": None}])
def test_stop_and_target_are_placed_each_for_itself(fields: dict[str, Any]) -> None:
    wanted = Protection(
        **{"signal_id": "a", "symbol": "BTCUSDT", "side": Side.LONG, "quantity": Decimal(1)} | BOTH | fields
    )
    halves = split_protection(wanted)
    assert len(halves) == 2 - len(fields)
    assert all((each.stop_loss_price is None) != (each.take_profit_price is None) for each in halves)
    _, account = stage()
    assert place_each(account, wanted) == []
    placed = to_placed_protection(wanted)
    ids = {placed.stop_loss_client_order_id, placed.take_profit_client_order_id} - {None}
    assert set(account.protections) == ids


def test_nothing_to_reduce_is_no_failure_of_protection() -> None:
    _, account = stage()
    wanted = build_protection(position(**BOTH), Decimal("0.02"))
    account.protection_fails = OrderRejected("nothing to reduce", "reduce_only")
    assert place_each(account, wanted) == []
    account.protection_fails = OrderRejected("it would trigger", "would_trigger")
    assert place_each(account, wanted) == ["it would trigger"] * 2


def test_new_ids_are_others_and_the_same_ones_every_time() -> None:
    wanted = build_protection(position(**BOTH), Decimal("0.02"))
    first, second = with_new_ids(wanted), with_new_ids(wanted)
    assert first == second
    ids = {each.stop_loss_id for each in (wanted, first, with_new_ids(first))}
    assert len(ids) == 3
    assert first.model_copy(update={"signal_id": wanted.signal_id}) == wanted


def test_an_exit_is_unbooked_where_its_order_has_filled_and_the_books_do_not_name_it() -> None:
    held = position(exit_order_ids=frozenset({"7"}))
    assert is_unbooked_exit(build_filled("sl-1", "8"), held)
    assert not is_unbooked_exit(build_filled("sl-1", "7"), held)
    assert not is_unbooked_exit(build_filled("sl-1", "8", OrderStatus.OPEN), held)
    assert not is_unbooked_exit(build_filled("sl-1", "8", OrderStatus.REJECTED), held)
    assert not is_unbooked_exit(None, held)


def test_the_stop_is_told_first_where_both_have_filled() -> None:
    _, account = stage()
    held = hold_both(account)
    stop, target = held.stop_loss_client_order_id or "", held.take_profit_client_order_id or ""
    both = {name: build_filled(name) for name in (stop, target)}
    assert fired_reason_among(held, both) == "stop_loss"
    assert fired_reason_among(held, {target: both[target]}) == "take_profit"
    assert fired_reason_among(held, {}) is None


def test_only_orders_that_do_not_wait_are_asked_about() -> None:
    _, account = stage()
    held = hold_both(account)
    stop = held.stop_loss_client_order_id or ""
    account.trigger(stop)
    assert set(fetch_unlisted_orders(account, held, set(account.protections))) == {stop}
    assert find_fired_reason(account, held, set(account.protections)) == "stop_loss"
    assert find_fired_reason(account, held, {stop, held.take_profit_client_order_id}) is None
