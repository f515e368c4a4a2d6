"""The books: every fill once, each strategy's own position, fees and P&L to the cent."""

import decimal
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import UUID

import pytest

from engine.domain.decimals import product
from engine.domain.decision import Action
from engine.domain.positions import Position, Side
from engine.platform.errors import ConfigurationError
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from tests.support.clients.sql import Sql

from .conftest import Desk


def _position(store: Store, strategy_id: UUID | None = None) -> Position:
    (position,) = store.list_open_positions(strategy_id=strategy_id)
    return position


def test_an_opening_fill_opens_a_position(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()

    booked = desk.fill("open", "100.5", "2", side=Side.SHORT, fee="0.08", strategy_id=strategy.id)

    position = _position(store, strategy.id)
    assert booked.position_id == position.id
    assert (booked.trade_id, booked.pnl_usd) == (None, None)
    assert booked.answer == {"success": True}
    assert (position.side, position.quantity, position.entry_price) == (Side.SHORT, Decimal(2), Decimal("100.5"))
    assert (position.position_size_usd, position.fees_usd) == (Decimal(201), Decimal("0.08"))
    assert (position.current_price, position.unrealized_pnl_usd) == (Decimal("100.5"), Decimal("-0.08"))


def test_an_increase_averages_the_entry(desk: Desk, store: Store) -> None:
    desk.fill("open", "100", "1", fee="0.04")
    desk.fill("open", "103", "2", fee="0.08")

    position = _position(store)

    assert (position.quantity, position.entry_price, position.fees_usd) == (Decimal(3), Decimal(102), Decimal("0.12"))


def test_a_close_books_a_trade_net_of_all_fees_and_removes_the_position(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    desk.fill("open", "100", "2", side=Side.SHORT, fee="0.08", strategy_id=strategy.id)

    booked = desk.fill("close", "90", "2", side=Side.SHORT, fee="0.072", strategy_id=strategy.id)

    assert booked.pnl_usd == Decimal("19.848")
    assert booked.pnl_percent == Decimal("9.924")
    assert booked.answer == {"success": True, "pnl": {"usd": 19.85, "percent": 9.92}}
    assert store.list_open_positions() == ()
    (trade,) = store.list_trades(strategy.id)
    assert trade.id == booked.trade_id
    assert (trade.side, trade.entry_price, trade.exit_price) == (Side.SHORT, Decimal(100), Decimal(90))
    assert (trade.fees_usd, trade.pnl_usd) == (Decimal("0.152"), Decimal("19.848"))


def test_a_partial_close_leaves_the_rest_with_its_share_of_cost_and_fees(desk: Desk, store: Store) -> None:
    desk.fill("open", "100", "3", fee="0.12")

    booked = desk.fill("close", "110", "1", fee="0.044")

    assert booked.pnl_usd == Decimal("9.916")  # 10 - 0.04 - 0.044
    position = _position(store)
    assert (position.quantity, position.entry_price, position.fees_usd) == (Decimal(2), Decimal(100), Decimal("0.08"))
    assert position.unrealized_pnl_usd == Decimal("19.92")
    assert desk.fill("close", "110", "2").pnl_usd == Decimal("19.92")


def test_a_reversal_is_a_close_and_an_open_of_one_request(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    desk.fill("open", "100", "1", strategy_id=strategy.id)
    desk.begin("turn", strategy.id)
    common = {"exchange": "aster", "symbol": "BTCUSDT", "price": Decimal(110), "fee_usd": Decimal(0), "is_paper": True}
    close = Fill.model_validate(
        {
            **common,
            "kind": "close",
            "side": "LONG",
            "quantity": 1,
            "strategy_id": strategy.id,
            "exit_reason": "reversal",
        }
    )
    open_ = Fill.model_validate({**common, "kind": "open", "side": "SHORT", "quantity": 2, "strategy_id": strategy.id})

    first = store.book_fill("turn", desk.user_id, close, None, None)
    (unfinished,) = store.list_unfinished_requests()
    assert unfinished.status == "filled"
    assert store.book_fill("turn", desk.user_id, close, None, None) == first
    second = store.book_fill("turn", desk.user_id, open_, 200, {"success": True, "action": "opened"})

    assert first.pnl_usd == Decimal(10)
    assert second.answer == {"success": True, "action": "opened"}
    assert store.list_unfinished_requests() == ()
    assert desk.begin("turn", strategy.id) == "done"
    assert (_position(store).side, _position(store).quantity) == (Side.SHORT, Decimal(2))
    assert [trade.exit_reason for trade in store.list_trades()] == ["reversal"]


def test_a_fill_booked_twice_is_booked_once_and_answers_the_same(desk: Desk, store: Store) -> None:
    first = desk.fill("open", "100", "1", request_id="r1")

    assert desk.fill("open", "100", "1", request_id="r1") == first

    assert _position(store).quantity == Decimal(1)
    closed = desk.fill("close", "100", "1", request_id="r2")
    assert desk.fill("close", "100", "1", request_id="r2") == closed
    assert len(store.list_trades()) == 1


def test_one_fill_booked_by_many_at_once_is_booked_once(desk: Desk, store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: desk.fill("open", "100", "1", request_id="r1"), range(16)))

    assert len({answer.position_id for answer in answers}) == 1
    assert _position(store).quantity == Decimal(1)


def test_fills_of_one_strategy_at_once_are_all_booked(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(
            lambda n: desk.fill("open", "100", "1", fee="0.01", strategy_id=strategy.id, request_id=f"r{n}"), range(40)
        ):
            pass

    position = _position(store)
    assert (position.quantity, position.fees_usd) == (Decimal(40), Decimal("0.4"))


def test_marking_and_booking_at_once_neither_lock_up_nor_lose_a_fill(desk: Desk, store: Store) -> None:
    strategies = [desk.strategy(f"s{n}").id for n in range(4)]

    def trade(n: int) -> None:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            desk.fill("open", "100", strategy_id=strategies[n % 4], symbol=symbol, request_id=f"{n}{symbol}")
            store.mark_positions("aster", symbol, Decimal(100 + n))

    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(trade, range(24)):
            pass

    store.mark_positions("aster", "BTCUSDT", Decimal(101))
    store.mark_positions("aster", "ETHUSDT", Decimal(101))
    assert {(row.quantity, row.unrealized_pnl_usd) for row in store.list_open_positions()} == {(Decimal(6), Decimal(6))}


def test_two_strategies_hold_opposite_sides_of_one_symbol(desk: Desk, store: Store) -> None:
    bull, bear = desk.strategy("bull").id, desk.strategy("bear").id
    desk.fill("open", "100", "1", side=Side.LONG, strategy_id=bull)
    desk.fill("open", "100", "2", side=Side.SHORT, strategy_id=bear)
    desk.fill("open", "100", "3", side=Side.SHORT)

    desk.fill("close", "110", "1", side=Side.LONG, strategy_id=bull)

    assert store.list_open_positions(strategy_id=bull) == ()
    assert (_position(store, bear).side, _position(store, bear).quantity) == (Side.SHORT, Decimal(2))
    assert len(store.list_open_positions(desk.user_id)) == 2
    overview = {row.name: row for row in store.list_strategy_overviews()}
    assert (overview["bull"].realized_pnl_usd, overview["bear"].realized_pnl_usd) == (Decimal(10), Decimal(0))


def test_paper_and_live_are_two_books(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    desk.fill("open", "100", "1", strategy_id=strategy.id, is_paper=True)
    desk.fill("open", "100", "1", side=Side.SHORT, strategy_id=strategy.id, is_paper=False)
    desk.fill("close", "50", "1", side=Side.SHORT, strategy_id=strategy.id, is_paper=False)

    context = store.get_strategy_context(strategy.id)

    assert context is not None
    assert [(row.side, row.is_paper) for row in context.positions] == [(Side.LONG, True)]
    assert context.equity_usd == Decimal(10_000)


def test_marking_values_what_it_names_on_paper_and_live(desk: Desk, store: Store) -> None:
    desk.fill("open", "100", "2", fee="0.1", is_paper=True)
    desk.fill("open", "100", "1", is_paper=False)
    desk.fill("open", "100", "1", symbol="ETHUSDT")

    assert store.mark_positions("aster", "BTCUSDT", Decimal(105)) == 2
    assert store.mark_positions("binance", "BTCUSDT", Decimal(1)) == 0

    values = {(row.symbol, row.is_paper): row.unrealized_pnl_usd for row in store.list_open_positions()}
    assert values[("BTCUSDT", True)] == Decimal("9.9")
    assert values[("BTCUSDT", False)] == Decimal(5)
    assert values[("ETHUSDT", True)] == Decimal(0)


def test_equity_peak_and_drawdown_follow_fills_and_marks(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy(capital_usd=1000)

    def figures() -> tuple[float, float, float]:
        context = store.get_strategy_context(strategy.id)
        assert context is not None
        return float(context.equity_usd), float(context.peak_equity_usd), round(context.drawdown_percent, 2)

    desk.fill("open", "100", "5", strategy_id=strategy.id)
    store.mark_positions("aster", "BTCUSDT", Decimal(140))
    assert figures() == (1200, 1200, 0)
    store.mark_positions("aster", "BTCUSDT", Decimal(80))
    assert figures() == (900, 1200, 25)
    desk.fill("close", "80", "5", strategy_id=strategy.id)
    assert figures() == (900, 1200, 25)
    sql("update ai_strategies set capital_usd = 2000")
    assert figures() == (1900, 2200, 13.64)


def test_a_booked_fill_does_not_look_like_a_change_of_the_strategy(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    (before,) = store.list_running_strategies()

    desk.fill("open", "100", "1", strategy_id=strategy.id)
    store.mark_positions("aster", "BTCUSDT", Decimal(105))

    assert store.list_running_strategies() == (before,)


def test_the_decision_that_opened_learns_its_pnl(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    opening = desk.decide(strategy.id, Action.LONG)
    closing = desk.decide(strategy.id, Action.CLOSE)
    desk.fill("open", "100", "1", strategy_id=strategy.id, request_id=str(opening.signal_id))

    desk.fill("close", "93.335", "1", strategy_id=strategy.id, request_id=str(closing.signal_id))

    pnl = {row.id: row.actual_pnl for row in store.list_decisions()}
    assert pnl == {opening.decision_id: Decimal("-6.66"), closing.decision_id: None}  # half-even
    assert store.list_trades()[0].decision_id == opening.decision_id


def test_what_a_decision_has_earned_in_parts_is_rounded_once(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    opening = desk.decide(strategy.id, Action.LONG)
    desk.fill("open", "100", "3", strategy_id=strategy.id, request_id=str(opening.signal_id))

    for _ in range(3):
        desk.fill("close", "100.004", "1", strategy_id=strategy.id)

    (decision,) = store.list_decisions()
    assert decision.actual_pnl == Decimal("0.01")


@pytest.mark.parametrize(
    ("kind", "side", "quantity", "sentence"),
    [
        ("close", Side.SHORT, "1", "there is no SHORT position"),
        ("close", Side.LONG, "2", "smaller than the 2"),
        ("open", Side.SHORT, "1", "close it before opening SHORT"),
    ],
)
def test_a_fill_that_does_not_fit_the_position_changes_nothing(
    desk: Desk, store: Store, kind: str, side: Side, quantity: str, sentence: str
) -> None:
    desk.fill("open", "100", "1")
    before = _position(store)

    with pytest.raises(ConfigurationError, match=sentence):
        desk.fill(kind, "100", quantity, side=side, request_id="bad")

    assert _position(store) == before
    assert store.list_trades() == ()
    assert [row.request_id for row in store.list_unfinished_requests()] == ["bad"]


def test_a_fill_of_a_request_that_was_never_begun_is_refused(desk: Desk, store: Store) -> None:
    fill = Fill(
        kind="open", exchange="aster", symbol="X", side=Side.LONG, quantity=1, price=1, fee_usd=0, is_paper=True
    )

    with pytest.raises(ConfigurationError, match="never begun"):
        store.book_fill("nobody", desk.user_id, fill, 200, {})


def test_a_fill_keeps_its_digits_whatever_rounding_a_library_left_behind(store: Store) -> None:
    with decimal.localcontext(prec=5, rounding=decimal.ROUND_HALF_UP):  # as ccxt does
        fill = Fill(
            kind="open",
            exchange="aster",
            symbol="X",
            side=Side.LONG,
            quantity=Decimal("1.000000005"),
            price=Decimal("2.000000015"),
            fee_usd=Decimal("-0.000000005"),
            is_paper=True,
        )

    told = (fill.quantity, fill.price, fill.fee_usd)
    assert told == (Decimal("1.000000005"), Decimal("2.000000015"), Decimal("-0.000000005"))


def test_figures_of_thirty_digits_come_back_from_the_books_as_they_were(desk: Desk, store: Store) -> None:
    price, quantity = "0.00000001234567890123456789012345678901", "12345678901234567.000000000123"
    desk.fill("open", price, quantity, fee="0.0000000000123456789")

    store.mark_positions("aster", "BTCUSDT", product(Decimal(price), Decimal(2)))

    position = _position(store)
    assert (position.entry_price, position.quantity) == (Decimal(price), Decimal(quantity))
    assert position.position_size_usd == product(Decimal(price), Decimal(quantity))
    assert position.current_price == product(Decimal(price), Decimal(2))
    closed = desk.fill("close", price, quantity)
    assert closed.pnl_usd == Decimal("-0.0000000000123456789")


def test_what_people_are_told_is_rounded_half_even(store: Store) -> None:
    rounded = [
        store.rpc.call("round_half_even", value=value, places=2)
        for value in ("0.125", "0.135", "-0.125", "-0.135", "0.1251", "7")
    ]
    assert [Decimal(value) for value in rounded] == [
        Decimal(text) for text in ("0.12", "0.14", "-0.12", "-0.14", "0.13", "7")
    ]
