"""Ten thousand random steps of trading against exact arithmetic: the quick test's books, in longer runs."""

import random
from decimal import Decimal
from uuid import uuid4

import pytest

from engine.store.store import Store
from engine.types import Side
from tests.engine.store.conftest import Desk
from tests.engine.store.test_ledger_model import SYMBOLS, Model, Step, _check, _play

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
