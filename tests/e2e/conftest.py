"""Homes for whole runs of the product."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes.directories import short_directory
from tests.support.processes.sparky import Sparky

SparkyMaker = Callable[..., Sparky]


@pytest.fixture
def home() -> Iterator[Path]:
    """A state directory whose path is short enough for sockets."""
    with short_directory() as path:
        yield path


@pytest.fixture
def sparky_at() -> Iterator[SparkyMaker]:
    """Makes a `Sparky` with further settings; all that were made are stopped in the end."""
    made: list[Sparky] = []
    with short_directory() as root:

        def make(**more: str) -> Sparky:
            made.append(Sparky(root / f"home{len(made)}", **more))
            return made[-1]

        yield make
        for sparky in made:
            sparky.close()
