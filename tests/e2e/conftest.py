"""Homes for whole runs of the product."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sparky import Sparky

SparkyMaker = Callable[..., Sparky]


@pytest.fixture
def sparky_at() -> Iterator[SparkyMaker]:
    """Makes a `Sparky` with further settings; all that were made are stopped in the end."""
    root = Path(tempfile.mkdtemp(prefix="sparky-e2e-", dir="/tmp"))
    made: list[Sparky] = []

    def make(**more: str) -> Sparky:
        made.append(Sparky(root / f"home{len(made)}", **more))
        return made[-1]

    yield make
    for sparky in made:
        sparky.close()
    shutil.rmtree(root, ignore_errors=True)
