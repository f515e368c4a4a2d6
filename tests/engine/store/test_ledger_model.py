"""Random trading against a ledger that adds fills up in exact arithmetic: the books must agree to the cent."""

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.positions import Side
from engine.store.store import Store

from .conftest import Desk

SYMBOLS = ("BTCUSDT", "DOGEUSDT")
CENT = Decimal("0.01")


class Step(NamedTuple):
    book: int
    symbol: str
    is_paper: bool
    wants: Side | None  # None closes
    share: int  # per cent of the position closed by a partial close
    quantity: Decimal
    price: Decimal
    fee: Decimal


class Holding(NamedTuple):
    side: Side
    quantity: Fraction
    cost: Fraction
    fees: Fraction


def _decimals(low: str, high: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(low), Decimal(high), places=places, allow_nan=False, allow_infinity=False)


steps = st.builds(
    Step,
    book=st.integers(0, 1),
    symbol=st.sampled_from(SYMBOLS),
    is_paper=st.booleans(),
    wants=st.sampled_from([Side.LONG, Side.SHORT, None]),
    share=st.sampled_from([100, 100, 100, 50, 33]),
    quantity=_decimals("0.001", "20", 3),
    price=_decimals("0.00012345", "70000", 8),
    fee=_decimals("0", "12", 8),
)


class Model:
    """Cash is what an account would hold had it paid and received every fill."""

    def __init__(self) -> None:
        self.cash: dict[tuple[int, bool], Fraction] = {}
        self.held: dict[tuple[int, str, bool], Holding] = {}

    def open(self, step: Step, side: Side) -> None:
        key = (step.book, step.symbol, step.is_paper)
        old = self.held.get(key) or Holding(side, Fraction(0), Fraction(0), Fraction(0))
        quantity, value = Fraction(step.quantity), Fraction(step.quantity) * Fraction(step.price)
        self.held[key] = Holding(side, old.quantity + quantity, old.cost + value, old.fees + Fraction(step.fee))

    def close(self, step: Step, quantity: Decimal) -> None:
        key = (step.book, step.symbol, step.is_paper)
        held, part = self.held.pop(key), Fraction(quantity) / self.held_quantity(key)
        sign = 1 if held.side is Side.LONG else -1
        gained = (Fraction(quantity) * Fraction(step.price) - held.cost * part) * sign
        account = (step.book, step.is_paper)
        self.cash[account] = self.cash.get(account, Fraction(0)) + gained - held.fees * part - Fraction(step.fee)
        if part < 1:
            rest = 1 - part
            self.held[key] = Holding(held.side, held.quantity * rest, held.cost * rest, held.fees * rest)

    def held_quantity(self, key: tuple[int, str, bool]) -> Fraction:
        return self._last[key]

    def remember(self) -> None:
        self._last = {key: held.quantity for key, held in self.held.items()}


def _play(desk: Desk, model: Model, step: Step, strategy_id: UUID) -> None:
    """What the webhook server would book: a close, an open, or both for a reversal."""
    key = (step.book, step.symbol, step.is_paper)
    held = model.held.get(key)
    model.remember()
    if held is not None and step.wants is not held.side:
        whole = Decimal(held.quantity.numerator) / Decimal(held.quantity.denominator)
        is_partial = step.wants is None and step.share < 100
        quantity = (whole * step.share / 100).quantize(Decimal("0.00000001")) if is_partial else whole
        if quantity > 0:
            _book(desk, "close", step, held.side, quantity, strategy_id)
            model.close(step, quantity)
    if step.wants is not None:
        _book(desk, "open", step, step.wants, step.quantity, strategy_id)
        model.open(step, step.wants)


def _book(desk: Desk, kind: str, step: Step, side: Side, quantity: Decimal, strategy_id: UUID) -> None:
    desk.fill(
        kind,
        str(step.price),
        str(quantity),
        side=side,
        fee=str(step.fee),
        strategy_id=strategy_id,
        symbol=step.symbol,
        is_paper=step.is_paper,
        request_id=str(uuid4()),
    )


def _cents(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(CENT)


def _check(store: Store, model: Model, strategies: list[UUID]) -> None:
    for book, strategy_id in enumerate(strategies):
        positions = {(row.symbol, row.is_paper): row for row in store.list_open_positions(strategy_id=strategy_id)}
        expected = {(symbol, paper): held for (b, symbol, paper), held in model.held.items() if b == book}
        assert positions.keys() == expected.keys()
        for key, held in expected.items():
            row = positions[key]
            assert (row.side, Fraction(row.quantity)) == (held.side, held.quantity)
            assert abs(Fraction(row.position_size_usd) - held.cost) < Fraction(1, 1000)
            assert abs(Fraction(row.fees_usd) - held.fees) < Fraction(1, 1000)
        trades = store.list_trades(strategy_id, limit=1000)
        for is_paper in (True, False):
            booked = sum((t.pnl_usd or Decimal(0) for t in trades if t.is_paper is is_paper), Decimal(0))
            exact = model.cash.get((book, is_paper), Fraction(0))
            assert abs(Fraction(booked) - exact) < Fraction(1, 100_000)
            assert abs(booked.quantize(CENT) - _cents(exact)) <= (CENT if _is_near_tie(exact) else 0)
        paper = next(row for row in store.list_strategy_overviews() if row.id == strategy_id)
        assert paper.realized_pnl_usd == sum((t.pnl_usd or Decimal(0) for t in trades if t.is_paper), Decimal(0))


def _is_near_tie(exact: Fraction) -> bool:
    """True if eight places cannot tell on which side of half a cent the exact value lies."""
    return abs(exact * 100 % 1 - Fraction(1, 2)) < Fraction(1, 1000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(played=st.lists(steps, min_size=5, max_size=30))
def test_the_books_agree_with_exact_arithmetic_to_the_cent(desk: Desk, store: Store, played: list[Step]) -> None:
    strategies = [desk.strategy(str(uuid4())).id for _ in range(2)]
    model = Model()

    for step in played:
        _play(desk, model, step, strategies[step.book])

    _check(store, model, strategies)
