"""What one look at a symbol books, and why it books nothing: the account's record against the books."""

from decimal import Decimal
from typing import cast
from uuid import UUID

import pytest

from engine.domain.positions import Position
from engine.store.store import Store
from engine.venues.orders import OrderResult, OrderStatus, build_client_order_id
from engine.venues.venue import LiveVenue
from tests.support.factories.venue_records import SYMBOL, at_venue, facts, forced, income, live, traded
from tests.webhook_server.reconciliation.account_world import KEY, Books, WorldAccount
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.delisting import MAX_SETTLEMENT_CHECKS
from webhook_server.reconciliation.symbol_comparison import (
    BOOKS_CHANGED,
    FIRED,
    IN_PROGRESS,
    NOT_OURS,
    NOT_RECORDED,
    NOT_SETTLED,
    SymbolComparison,
)
from webhook_server.reconciliation.symbol_reconciliation import MAX_ATTEMPTS, SymbolReconciler

A, B = UUID(int=1), UUID(int=2)


def held(quantity: str, name: UUID = A, **fields: object) -> Position:
    return live(quantity, id=name, **fields)


class World:
    """An account and its books; `look` is one comparison of the symbol."""

    def __init__(self, account: WorldAccount, *positions: Position, **fields: object) -> None:
        self.account, self.books = account, Books({SYMBOL: facts(*positions, **fields)})
        self.metrics = Metrics()
        self.changes = SymbolReconciler(cast("Store", self.books), self.metrics)

    def look(
        self, request_id: str | None = None, *, rereads: bool = False, is_regular: bool = False
    ) -> SymbolComparison:
        account = cast("LiveVenue", self.account)
        return self.changes.reconcile(*KEY, account, request_id, rereads=rereads, is_regular=is_regular)

    @property
    def booked(self) -> dict[UUID, Decimal]:
        """What ended of each position."""
        found = dict[UUID, Decimal]()
        for each in self.books.booked:
            name = UUID(each.request_id.rpartition("/")[2])
            found[name] = found.get(name, Decimal(0)) + each.fill.quantity
        return found


def filled(name: str, order_id: str = "77") -> OrderResult:
    return OrderResult(
        order_id=order_id,
        client_order_id=name,
        status=OrderStatus.FILLED,
        price=Decimal(90),
        quantity=Decimal(1),
        fee_usd=Decimal(0),
        at_ms=0,
    )


def test_what_agrees_is_left_alone_unless_the_record_is_to_be_read_again() -> None:
    world = World(WorldAccount(held=(at_venue("2"),)), held("2"))
    assert world.look().reason is None
    assert "trades" not in {what for what, _ in world.account.asked}
    assert world.look(rereads=True).reason is None
    assert "trades" in {what for what, _ in world.account.asked}
    assert (world.books.booked, world.books.read[-1].last_trade_id) == ([], 10)


def test_what_was_closed_and_opened_again_is_found_where_the_record_is_read_again() -> None:
    account = WorldAccount(held=(at_venue("2"),), trades=(traded(11, "-2"), traded(12, "2")))
    world = World(account, held("2"))
    assert world.look().reason is None
    assert world.booked == {}
    found = world.look(rereads=True)
    assert world.booked == {A: Decimal(2)}
    assert found.reason == "2 was traded at the venue by others than Sparky, and is nobody's in the books"


@pytest.mark.parametrize(("sign", "change"), [("", "-3"), ("-", "3")])
def test_a_part_that_was_closed_by_hand_is_shared_by_what_each_holds(sign: str, change: str) -> None:
    world = World(
        WorldAccount(held=(at_venue(f"{sign}1"),), trades=(traded(11, change),)),
        held(f"{sign}1"),
        held(f"{sign}3", B),
    )
    found = world.look()
    assert (found.reason, found.facts.net, found.net) == (None, Decimal(f"{sign}1"), Decimal(f"{sign}1"))
    assert world.booked == {A: Decimal("0.75"), B: Decimal("2.25")}
    assert (
        world.metrics.registry.get_sample_value("sparky_webhook_outside_exits_total", {"reason": "closed_at_venue"})
        == 2
    )


def test_a_liquidation_is_booked_with_what_it_cost_beyond_its_trades() -> None:
    account = WorldAccount(
        trades=(traded(11, "-2", fee_usd=Decimal(1)),), names={"o11": "autoclose-1"}, incomes=(income("x", "-5"),)
    )
    world = World(account, held("2"))
    assert world.look().reason is None
    ((fill,), (progress,)) = [each.fill for each in world.books.booked], world.books.read
    assert (fill.exit_reason, fill.fee_usd, progress.cost_ids) == ("liquidated", Decimal(6), ("x",))


def test_a_forced_order_whose_trades_are_not_shown_explains_what_trades_alone_do_not() -> None:
    world = World(WorldAccount(forced=(forced("f", "-2"),)), held("2"))
    assert world.look().reason is None
    assert [(each.fill.order_id, each.fill.price) for each in world.books.booked] == [("f", Decimal(90))]


def test_what_no_record_explains_and_what_is_not_ours_is_a_difference_with_its_reason() -> None:
    world = World(WorldAccount(held=(at_venue("1"),)), held("2"))
    found = world.look()
    assert (found.reason, found.is_transient) == (
        "by its record the account should hold 2, and it holds 1",
        False,
    )
    stranger = World(WorldAccount(held=(at_venue("1"),)), first_ms=None, last_trade_id=None)
    assert stranger.look().reason == NOT_OURS
    assert (world.books.booked, stranger.books.booked) == ([], [])


def test_what_is_noted_as_held_outside_is_no_difference() -> None:
    world = World(WorldAccount(held=(at_venue("5"),)), held("2"), outside_net=Decimal(3))
    found = world.look()
    assert (found.net, found.reason) == (Decimal(2), None)


def test_an_order_of_ours_that_the_books_do_not_know_is_not_booked_as_somebody_elses() -> None:
    name = build_client_order_id(UUID(int=5), "o")
    account = WorldAccount(held=(at_venue("3"),), trades=(traded(11, "1"),), names={"o11": name})
    world = World(account, held("2"))
    assert world.look().reason == f"order {name} is one of ours, and not in the books"
    assert world.booked == {}


def test_a_stop_of_a_position_that_ended_before_ends_what_others_hold() -> None:
    account = WorldAccount(
        held=(at_venue("1"),), trades=(traded(11, "-1"),), names={"o11": build_client_order_id(UUID(int=5), "l")}
    )
    world = World(account, held("2"))
    assert world.look().reason is None
    assert world.booked == {A: Decimal(1)}


def test_a_request_under_way_is_waited_for_unless_it_is_the_callers_own() -> None:
    world = World(WorldAccount(trades=(traded(11, "-2"),)), held("2"), unsettled=("mine",))
    found = world.look()
    assert (found.reason, found.is_transient, world.booked) == (IN_PROGRESS, True, {})
    assert world.look("mine").reason is None
    assert world.booked == {A: Decimal(2)}


@pytest.mark.parametrize(("changes", "is_booked"), [(MAX_ATTEMPTS - 1, True), (MAX_ATTEMPTS, False)])
def test_books_that_change_meanwhile_are_compared_again_three_times(changes: int, *, is_booked: bool) -> None:
    world = World(WorldAccount(trades=(traded(11, "-2"),)), held("2"))
    world.books.changes = changes
    found = world.look()
    assert (found.reason, found.is_transient) == ((None, False) if is_booked else (BOOKS_CHANGED, True))
    assert world.booked == ({A: Decimal(2)} if is_booked else {})


def test_protection_is_cancelled_before_an_end_is_booked_and_one_that_has_filled_is_told_instead() -> None:
    stop = build_client_order_id(A, "l")
    own = held("2", stop_loss_client_order_id=stop)
    world = World(WorldAccount(trades=(traded(11, "-2"),)), own)
    assert world.look().reason is None
    assert (world.account.cancelled, world.booked) == ([stop], {A: Decimal(2)})
    late = World(WorldAccount(trades=(traded(11, "-2"),), ended={stop: filled(stop)}), own)
    found = late.look()
    assert (found.reason, found.fired, found.is_transient, late.booked) == (FIRED, ((own, "stop_loss"),), True, {})
    known = own.model_copy(update={"exit_order_ids": frozenset({"77"})})  # that fill is booked
    again = World(WorldAccount(trades=(traded(11, "-2"),), ended={stop: filled(stop)}), known)
    assert again.look().reason is None


def test_a_remainder_that_is_noted_as_dust_is_no_difference() -> None:
    account = WorldAccount(held=(at_venue("0.5"),), trades=(traded(11, "-2"), traded(12, "0.5")))
    world = World(account, held("2"))
    world.books.dust = Decimal("-0.5")
    assert world.look().reason is None
    assert world.books.dust == 0
    without = World(account, held("2"))
    assert without.look().reason == "0.5 was traded at the venue by others than Sparky, and is nobody's in the books"


def test_a_symbol_that_is_gone_is_settled_once_the_venue_holds_nothing_of_it() -> None:
    gone = frozenset({SYMBOL})
    world = World(WorldAccount(held=(at_venue("2"),), gone=gone), held("2"), outside_net=Decimal(1))
    found = world.look()
    assert (found.reason, found.net, world.booked) == (NOT_SETTLED, Decimal(1), {})
    settled = WorldAccount(incomes=(income("x", "-20", kind="REALIZED_PNL"),), gone=gone)
    world.account = settled
    assert world.look().reason is None
    assert world.booked == {A: Decimal(2)}
    assert world.books.by_symbol[SYMBOL].outside_net == 0
    assert world.books.booked[0].fill.exit_reason == "settled"


def test_a_settlement_that_is_never_shown_is_booked_after_eight_regular_looks() -> None:
    world = World(WorldAccount(gone=frozenset({SYMBOL})), held("2", current_price=Decimal(70)))
    for _ in range(3):
        assert world.look().reason == NOT_RECORDED  # looks beside a signal do not count
    reasons = [world.look(is_regular=True).reason for _ in range(MAX_SETTLEMENT_CHECKS)]
    assert reasons == [*[NOT_RECORDED] * (MAX_SETTLEMENT_CHECKS - 1), None]
    assert [(each.fill.price, each.fill.exit_reason) for each in world.books.booked] == [(Decimal(70), "delisted")]


def test_a_symbol_that_may_have_become_another_is_left_to_a_person() -> None:
    account = WorldAccount(held=(at_venue("20", symbol="NEWUSDT"),), gone=frozenset({SYMBOL}))
    world = World(account, held("2"))
    looks = {world.look(is_regular=True).reason for _ in range(MAX_SETTLEMENT_CHECKS + 1)}
    assert looks == {"the venue lists it no more and shows no settlement, but NEWUSDT, of which the books know nothing"}
    assert world.booked == {}
