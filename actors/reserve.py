"""Descriptors held back, so that a supervisor that has run out of them can still log, reap and restart."""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

_HELD: Final = 24  # a new fork server takes 9 at once, a child's last words and its memory one each


class Reserve:
    """Holds descriptors that point nowhere."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._fill()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Within, the reserve is free to be used; afterwards it is filled again as far as that can be done."""
        self.close()
        try:
            yield
        finally:
            self._fill()

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _fill(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._held) < _HELD:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
