"""Whatever is killed whenever: every signal has one end and at most one effect, and the books equal the venue's record.

A whole `sparky up`: live strategies (real V3 signatures to the simulated Aster) and paper ones side by side. While
signals are recorded, the processes they pass through are killed at random moments, alone and together, the database
too, and the venue loses answers to orders that it accepted. FAULT_SEED chooses the moments, FAULT_SIGNALS how many
signals there are.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
import requests

from tests.support.clients.book_checks import check_books
from tests.support.clients.trading import all_settled, check_signals, people, record
from tests.support.processes.sparky import Sparky

VICTIMS = (
    *(("webhook",), ("dispatcher",)) * 8,
    *(("webhook", "dispatcher"),) * 4,
    *(("sim-aster",),) * 3,
    *(("postgres",),) * 2,
)
SIGNALS_A_KILL = 20
LOST_ANSWERS: tuple[dict[str, object], ...] = (
    {"kind": "status", "status": 503, "path": "/order", "method": "POST", "accept": True},
    {"kind": "reset", "path": "/order", "method": "POST", "accept": True},
    {"kind": "reset", "path": "/order", "method": "POST"},
)
SEED = int(os.environ.get("FAULT_SEED", "5"))
SIGNALS = int(os.environ.get("FAULT_SIGNALS", "500"))
EVERY_S = 0.06
SETTLED_S = 600.0


class Killer:
    """Kills whoever is next, if there is anybody by that name just now, and has the venue lose answers."""

    def __init__(self, sparky: Sparky, dice: random.Random) -> None:
        self._sparky = sparky
        self._dice = dice
        self._next: list[tuple[str, ...]] = []
        self.killed: Counter[str] = Counter()

    def strike(self) -> None:
        self._next = self._next or self._dice.sample(VICTIMS, len(VICTIMS))
        names = self._next.pop()
        victims = {name: self._sparky.process_of(name) for name in names}
        for name, victim in victims.items():
            if victim is not None:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    self.killed[name] += 1
        self._lose_answers(self._dice.choice(LOST_ANSWERS))

    def _lose_answers(self, fault: dict[str, object]) -> None:
        with suppress(requests.RequestException):  # it has just been killed
            self._sparky.control("aster", "faults", [fault])
            self.killed["answers"] += 1


@pytest.mark.parametrize("seed", [SEED])
def test_every_signal_ends_once_and_the_books_equal_the_venues_record(
    product: Sparky, seed: int, measured: Callable[[str], None]
) -> None:
    dice, killer = random.Random(seed), Killer(product, random.Random(seed + 1))
    strikes = set(dice.sample(range(SIGNALS), SIGNALS // SIGNALS_A_KILL))
    began = time.monotonic()
    with product.store() as store:
        _, strategies = people(store)
        for number in range(SIGNALS):
            record(product, store, dice.choice(strategies), dice)
            time.sleep(EVERY_S)
            if number in strikes:
                killer.strike()
        product.wait_for(lambda: all_settled(store), "every signal and request having ended", SETTLED_S)
        check_signals(store, SIGNALS)
        live = check_books(product, store, least=SIGNALS // 4)
        ends = Counter(row.status for row in store.list_signals(limit=10_000))
    measured(
        f"{SIGNALS} signals, killed {dict(killer.killed)}: {dict(ends)}, {live} live fills in the books as in the "
        f"venue's record, {time.monotonic() - began:.0f} s (seed {seed})"
    )
