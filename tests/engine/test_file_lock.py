"""Locks on files: shared and exclusive, and a wait for one that ends in time."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.platform.file_lock import acquire_lock, try_lock


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[tuple[int, int]]:
    opened = tuple(os.open(tmp_path / "a.lock", os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2))
    yield opened[0], opened[1]
    for descriptor in opened:
        os.close(descriptor)


def test_shared_locks_stand_beside_each_other_and_an_exclusive_one_stands_alone(descriptors: tuple[int, int]) -> None:
    first, second = descriptors
    assert try_lock(first, is_shared=True)
    assert try_lock(second, is_shared=True)
    assert not try_lock(second)


def test_a_wait_ends_at_its_timeout_and_reports_how_long_it_lasts(descriptors: tuple[int, int]) -> None:
    first, second = descriptors
    waits: list[float] = []
    assert try_lock(first)
    assert not acquire_lock(second, 0.1, waits.append)
    assert waits == sorted(waits)
    assert all(0 <= waited_s <= 0.1 for waited_s in waits)


def test_a_lock_that_becomes_free_meanwhile_is_taken(descriptors: tuple[int, int], tmp_path: Path) -> None:
    holder = os.open(tmp_path / "a.lock", os.O_RDWR)
    assert try_lock(holder)
    closed: list[float] = []

    def close_once(waited_s: float) -> None:
        if not closed:
            os.close(holder)
            closed.append(waited_s)

    assert acquire_lock(descriptors[0], 60.0, close_once)
    assert len(closed) == 1


def test_without_a_timeout_one_attempt_is_made(descriptors: tuple[int, int]) -> None:
    assert try_lock(descriptors[0])
    assert not acquire_lock(descriptors[1], 0.0)
