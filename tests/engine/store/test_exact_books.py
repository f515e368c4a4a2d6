"""Books against fractions: whatever ticks and lots a venue has, no digit of cash is lost or made up."""

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.decimals import total
from engine.domain.positions import Position, Side
from engine.platform.errors import SparkyError
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.support.clients.sql import Sql

from .conftest import Desk

# Of 28 digits; what is left of a position after many partial closes has less of them.
NEAR = Fraction(1, 10**17)


class Step(NamedTuple):
    """`share` is the percentage of the position that is closed; None opens or adds."""

    share: int | None
    ticks: int
    lots: int
    fee: Decimal


class Case(NamedTuple):
    tick: Decimal
    lot: Decimal
    side: Side
    steps: list[Step]


steps = st.builds(
    Step,
    share=st.sampled_from([None, None, 1, 33, 50, 77]),
    ticks=st.integers(1, 10**7),
    lots=st.integers(1, 10**6),
    fee=st.decimals("-1", "9", places=13, allow_nan=False, allow_infinity=False),
)
cases = st.builds(
    Case,
    tick=st.integers(-12, 3).map(lambda places: Decimal(1).scaleb(places)),
    lot=st.integers(-8, 6).map(lambda places: Decimal(1).scaleb(places)),
    side=st.sampled_from(Side),
    steps=st.lists(steps, min_size=4, max_size=14),
)


class Account:
    """The cash of an account that has paid and received every fill, and what it holds."""

    def __init__(self, desk: Desk, case: Case, strategy_id: UUID) -> None:
        self.cash = Fraction(0)
        self.held = Decimal(0)
        self._desk, self._case, self._strategy_id = desk, case, strategy_id

    def take(self, step: Step) -> None:
        lots = step.lots if step.share is None else int(self.held / self._case.lot) * step.share // 100
        if lots:
            self.fill("open" if step.share is None else "close", lots * self._case.lot, step)

    def end(self, step: Step) -> None:
        if self.held:
            self.fill("close", self.held, step)

    def fill(self, kind: str, quantity: Decimal, step: Step) -> None:
        price = step.ticks * self._case.tick
        self._desk.fill(
            kind,
            str(price),
            str(quantity),
            side=self._case.side,
            fee=str(step.fee),
            strategy_id=self._strategy_id,
            request_id=str(uuid4()),
        )
        buys = (kind == "open") is (self._case.side is Side.LONG)
        self.cash += (-1 if buys else 1) * Fraction(quantity) * Fraction(price) - Fraction(step.fee)
        self.held += quantity if kind == "open" else -quantity


def check(store: Store, account: Account, strategy_id: UUID) -> None:
    """Realised profit, less what the position has cost so far, is the account's cash."""
    realized = sum((Fraction(t.pnl_usd or 0) for t in store.list_trades(strategy_id, limit=100)), Fraction(0))
    bound = Fraction(0)
    for position in store.list_open_positions(strategy_id=strategy_id):
        assert position.quantity == account.held
        check_average(position)
        sign = 1 if position.side is Side.LONG else -1
        bound += sign * Fraction(position.position_size_usd) + Fraction(position.fees_usd)
        worth = Fraction(position.quantity) * Fraction(position.current_price or 0)
        value = sign * (worth - Fraction(position.position_size_usd)) - Fraction(position.fees_usd)
        assert Fraction(position.unrealized_pnl_usd or 0) == value
    assert realized - bound == account.cash
    overview = next(row for row in store.list_strategy_overviews() if row.id == strategy_id)
    assert Fraction(overview.realized_pnl_usd or 0) == realized


def check_average(position: Position) -> None:
    average = Fraction(position.position_size_usd) / Fraction(position.quantity)
    assert abs(Fraction(position.entry_price) - average) <= average * NEAR


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases)
def test_realised_profit_and_the_cost_of_what_is_held_are_the_cash_to_the_last_digit(
    desk: Desk, store: Store, case: Case
) -> None:
    strategy_id = desk.strategy(str(uuid4())).id
    account = Account(desk, case, strategy_id)

    for step in case.steps:
        account.take(step)
    check(store, account, strategy_id)
    store.mark_positions("aster", "BTCUSDT", case.tick * 12_345)
    check(store, account, strategy_id)
    account.end(case.steps[-1])

    assert store.list_open_positions(strategy_id=strategy_id) == ()
    check(store, account, strategy_id)


def test_a_thousandth_closed_a_hundred_times_leaves_no_digit_behind(desk: Desk, store: Store) -> None:
    desk.fill("open", "0.000000000007", "3000000000007", fee="0.0084")
    for _ in range(20):
        desk.fill("close", "0.000000000011", "7")
    desk.fill("close", "0.000000000011", str(3_000_000_000_007 - 140), fee="0.0132")

    trades = store.list_trades(limit=100)

    assert total(trade.pnl_usd or Decimal(0) for trade in trades) == Decimal(
        "0.000000000004"
    ) * 3_000_000_000_007 - Decimal("0.0216")
    assert total(trade.fees_usd for trade in trades) == Decimal("0.0216")


def test_an_average_is_rounded_half_even_to_28_digits(store: Store) -> None:
    def quotient(dividend: str, divisor: str) -> Decimal:
        return Decimal(store.rpc.call("quotient", dividend=dividend, divisor=divisor))

    assert quotient("2", "3") == Decimal("0.6666666666666666666666666667")
    assert quotient("1", "300000000000") == Decimal("3.333333333333333333333333333E-12")
    assert quotient("-200000000000000000000", "3") == Decimal("-66666666666666666666.66666667")
    assert quotient("0", "7") == 0
    assert quotient("9999999999999999999999999999.5", "1") == Decimal("1E+28")
    assert quotient("12345678901234567890123456785", "10") == Decimal(1234567890123456789012345678)
    assert quotient("12345678901234567890123456795", "10") == Decimal(1234567890123456789012345680)


@pytest.mark.parametrize("field", ["quantity", "price", "fee_usd"])
@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_is_kept_out_of_the_books(desk: Desk, store: Store, field: str, value: str) -> None:
    desk.begin("odd")
    fill = {
        "kind": "open",
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "is_paper": True,
        "leverage": 1,
        "quantity": "1",
        "price": "1",
        "fee_usd": "0",
    }

    with pytest.raises(SparkyError):
        store.rpc.call("book_fill", request_id="odd", user_id=desk.user_id, fill=fill | {field: value})

    assert store.list_open_positions() == ()


def test_a_position_that_is_no_number_spoils_no_ledger_for_good(desk: Desk, store: Store, sql: Sql) -> None:
    """A row of another system: it can be looked at and deleted, and the strategy's peak is what it was."""
    strategy = desk.strategy()
    desk.fill("open", "100", "1", strategy_id=strategy.id)
    sql("update positions set unrealized_pnl_usd = 'NaN'")
    desk.fill("open", "100", "1", strategy_id=strategy.id, symbol="ETHUSDT")
    store.append_equity_points(0)
    sql("delete from positions where symbol = 'BTCUSDT'")

    context = store.get_strategy_context(strategy.id)

    assert context is not None
    assert (context.equity_usd, context.peak_equity_usd) == (Decimal(10_000), Decimal(10_000))
    assert store.list_equity_points(strategy.id, is_paper=True) == ()
    store.append_equity_points(0)
    (point,) = store.list_equity_points(strategy.id, is_paper=True)
    assert point.equity_usd == 10_000


def test_numbers_of_thousands_of_digits_in_a_row_break_no_reading_of_others(
    database_url: str, sql: Sql, desk: Desk, store: Store
) -> None:
    desk.fill("open", "100", "1")
    sql("update positions set notes = 'x', stop_loss_percent = ('1' || repeat('0', 5000))::numeric")

    rows = PostgresRpc(database_url).call("open_positions")

    assert rows[0]["stop_loss_percent"] == Decimal(10) ** 5000
    assert [each.symbol for each in store.list_held_positions()] == ["BTCUSDT"]
