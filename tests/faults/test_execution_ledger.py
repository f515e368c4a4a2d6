"""Ten thousand random steps of trading against exact arithmetic, twice: in long runs, and in many that shrink."""

import random
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.positions import Side
from engine.store.store import Store
from tests.engine.store.conftest import Desk
from tests.engine.store.test_ledger_model import SYMBOLS, Model, Step, _check, _play, steps

RUNS, STEPS = 25, 400


def step(dice: random.Random) -> Step:
    return Step(
        book=dice.randrange(2),
        symbol=dice.choice(SYMBOLS),
        is_paper=dice.random() < 0.5,
        wants=dice.choice((Side.LONG, Side.SHORT, None)),
        share=dice.choice((100, 100, 100, 50, 33)),
        quantity=Decimal(dice.randrange(1, 20_000)) / 1000,
        price=Decimal(dice.randrange(12_345, 7_000_000_000_000)) / 10**8,
        fee=Decimal(dice.randrange(0, 1_200_000_000)) / 10**8,
    )


@pytest.mark.parametrize("seed", range(RUNS))
def test_the_books_agree_with_exact_arithmetic_to_the_cent_after_long_trading(store: Store, seed: int) -> None:
    dice, desk, model = random.Random(seed), Desk(store), Model()
    strategies = [desk.strategy(str(uuid4())).id for _ in range(2)]
    for _ in range(STEPS):
        each = step(dice)
        _play(desk, model, each, strategies[each.book])
    _check(store, model, strategies)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(played=st.lists(steps, min_size=50, max_size=50))
def test_no_sequence_of_signals_and_prices_can_part_the_books_from_exact_arithmetic(
    store: Store, played: list[Step]
) -> None:
    desk, model = Desk(store), Model()
    strategies = [desk.strategy(str(uuid4())).id for _ in range(2)]
    for each in played:
        _play(desk, model, each, strategies[each.book])
    _check(store, model, strategies)
