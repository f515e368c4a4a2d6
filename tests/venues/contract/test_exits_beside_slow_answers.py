"""An exit waits for nothing that is asked beside it, for the books or for another's entry, and is not answered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from tests.venues.conftest import PATIENT, Floor
from tests.venues.contract.test_fees_in_a_coin import coin_market
from tests.venues.contract.test_funding import FIRST_S, hourly, let_the_price_be_old, rounds

MARGIN_PATHS = {"aster": "/positionRisk", "binance": "/symbolConfig"}


@contextmanager
def hanging(floor: Floor, path: str, job: Callable[[], object]) -> Iterator[list[bool]]:
    """Within, `job` waits for an answer of `path`, however long that takes; the list is filled when it has ended."""
    ended: list[bool] = []

    def run() -> None:
        job()
        ended.append(True)

    floor.misbehave({"kind": "hold", "path": path, "times": 1})
    worker = threading.Thread(target=run)
    worker.start()
    while not _has_begun(floor):
        assert worker.is_alive(), f"nothing asked for {path}"
        time.sleep(0.01)
    try:
        yield ended
    finally:
        floor.misbehave()
        worker.join()


def _has_begun(floor: Floor) -> bool:
    return not requests.get(f"{floor.venue_url}/_control/faults", timeout=30).json()


def close_while(floor: Floor, path: str, job: Callable[[], object], **fields: Any) -> None:
    with hanging(floor, path, job) as ended:
        told = floor.send(action="close", **fields)
        assert (told.get("action"), ended) == ("closed", []), told
    assert floor.booked() == 0


def test_a_live_exit_does_not_wait_for_the_income_of_its_account(floor: Floor) -> None:
    hourly(floor)
    floor.send()
    rounds(floor)
    floor.hands.now += FIRST_S
    close_while(floor, "/income", floor.server.funding.run)
    floor.check_books()


@pytest.mark.parametrize("wait_limits", [PATIENT._replace(catch_up_s=0.5, recent_catch_up_s=0.5)], ids=["catch-up"])
def test_a_paper_exit_does_not_wait_for_the_candles_of_a_round_of_marks(floor: Floor) -> None:
    floor.send(environment="paper", stop_loss_percent=2)
    floor.hands.now += 300
    let_the_price_be_old(floor)
    close_while(floor, "/klines", floor.server.mark_to_market.run_once, environment="paper")


@pytest.mark.parametrize("what", ["leverage", "margin_mode", "change"])
def test_a_live_exit_does_not_wait_for_what_the_entry_of_another_strategy_arranges(floor: Floor, what: str) -> None:
    floor.exchange.markets["ETHUSDT"] = coin_market()
    floor.send()
    owner = floor.strategy(margin_mode=None if what == "leverage" else "isolated")
    margin_path = "/marginType" if what == "change" else MARGIN_PATHS[floor.simulated.name]
    path = "/leverage" if what == "leverage" else margin_path
    close_while(floor, path, lambda: floor.send(strategy_id=owner, symbol="ETHUSDT", leverage=3))
    assert floor.net() == 0
