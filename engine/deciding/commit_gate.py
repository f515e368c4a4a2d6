"""Lets a strategy that is stopped abandon a cycle in its model call, yet finish one between decision and record."""

import threading
from types import TracebackType
from typing import Self

from engine.platform.errors import CycleSkipped, SkipKind


class CommitGate:
    """Entered around the record of a decision; closed once, from another thread, when the process is asked to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        """Raises CycleSkipped (STOPPING) when the gate is closed: nothing is recorded any more."""
        self._lock.acquire()
        if self._closed.is_set():
            self._lock.release()
            raise CycleSkipped(SkipKind.STOPPING, "the strategy is being stopped")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def close(self, within_s: float) -> bool:
        """Closes the gate and waits for a record in progress; False if that takes longer than `within_s` seconds."""
        self._closed.set()
        if not self._lock.acquire(timeout=max(0.0, within_s)):
            return False
        self._lock.release()
        return True

    def sleep(self, seconds: float) -> None:
        """Waits for `seconds`. Raises CycleSkipped (STOPPING) as soon as the gate is closed."""
        if self._closed.wait(seconds):
            raise CycleSkipped(SkipKind.STOPPING, "the strategy is being stopped")
