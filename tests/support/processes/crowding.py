"""How much longer things take on a crowded machine; what is promised in seconds is promised of a free one."""

import os
import threading
import time
from pathlib import Path
from typing import Self

BEAT_S = 0.02
PAUSE_S = 5.0  # for which a crowded machine may not run a process at all
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, in microseconds of each period: "200000 100000", "max 100000"


def slowed(seconds: float) -> float:
    """`seconds` and one pause when a core is free, more in proportion to how many wait for each one just now."""
    return seconds * max(1.0, 2 * os.getloadavg()[0] / cores()) + PAUSE_S


def cores() -> float:
    """How many this process may use; a container on a large host sees more of them."""
    count = float(len(os.sched_getaffinity(0)))
    quota, _, period = QUOTA.read_text().strip().partition(" ") if QUOTA.exists() else ("max", "", "")
    return min(count, int(quota) / int(period)) if quota.isdigit() and period.isdigit() else count


class Metronome:
    """Wakes up every 20 ms while it is entered, and remembers by how much the machine made it late at worst."""

    def __init__(self) -> None:
        self.latest_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _beat(self) -> None:
        due = time.monotonic() + BEAT_S
        while not self._is_over.wait(due - time.monotonic()):
            self.latest_s = max(self.latest_s, time.monotonic() - due)
            due = time.monotonic() + BEAT_S
