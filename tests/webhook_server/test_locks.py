"""Turns of a key are taken in the order in which they were asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.webhook_server.conftest import until
from webhook_server.locks import KeyedLocks, LockTimeout


def test_who_gives_a_turn_back_and_asks_again_stands_behind_who_waited() -> None:
    locks, order = KeyedLocks(), list[str]()
    first_waits = threading.Event()

    def wait_once() -> None:
        first_waits.set()
        with locks.hold("key", 30):
            order.append("second")

    with ThreadPoolExecutor(1) as threads:
        with locks.hold("key", 30):
            waiting = threads.submit(wait_once)
            assert first_waits.wait(30)
            until(lambda: locks.count_waiting("key") == 1)
        with locks.hold("key", 30):
            order.append("first again")
        waiting.result(30)
    assert order == ["second", "first again"]


def test_turns_are_taken_in_the_order_of_asking() -> None:
    locks, order = KeyedLocks(), list[int]()

    def take(number: int) -> None:
        with locks.hold("key", 30):
            order.append(number)

    with ThreadPoolExecutor(20) as threads, locks.hold("key", 30):
        for number in range(20):
            threads.submit(take, number)
            until(lambda wanted=number + 1: locks.count_waiting("key") == wanted)  # type: ignore[misc]
    assert order == list(range(20))
    assert len(locks) == 0


def test_who_waited_too_long_is_in_nobodys_way() -> None:
    locks = KeyedLocks()
    with locks.hold("key", 0):
        with pytest.raises(LockTimeout), locks.hold("key", 0.01):
            pass
        with locks.hold("another key", 0):
            assert locks.count_waiting("key") == 0
    with locks.hold("key", 0):
        pass
    assert len(locks) == 0


def test_a_turn_that_ends_with_an_error_is_given_on() -> None:
    locks = KeyedLocks()
    with pytest.raises(ZeroDivisionError), locks.hold("key", 0):
        1 / 0  # noqa: B018 - whatever goes wrong within
    with locks.hold("key", 0):
        pass
