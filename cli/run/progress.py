"""What a person sees while Sparky runs: who is ready after how long, who stops, who is given up (deaths are the
supervisor's own news)."""

import time
from collections.abc import Collection
from pathlib import Path

import structlog

from actors.runtime import restart_policy
from actors.runtime.restart_policy import Child, ChildState
from actors.runtime.state_dir import read_crash_report

logger = structlog.get_logger()


class StartupProgress:
    """Listens to the supervisor. `fixed` are the names of the children that make the system."""

    def __init__(self, fixed: Collection[str], run_dir: Path) -> None:
        self._missing = set(fixed)
        self._run_dir = run_dir
        self._began_at = time.monotonic()
        self.reason: str | None = None  # why a child could not run, when one gave up

    def __call__(self, child: Child) -> None:
        name, who = child.spec.name, child.spec.title or child.spec.name
        if child.state is (ChildState.DONE if restart_policy.is_task(child) else ChildState.RUNNING):
            logger.info("ready", actor=who, took_s=round(time.monotonic() - child.started_at, 2))
            self._note_ready(name)
        elif child.state is ChildState.PARKED:
            self.reason = read_crash_report(self._run_dir, name)
            logger.error("parked", actor=who, reason=child.cause)
        elif child.state is ChildState.STOPPING:
            logger.info("stopping", actor=who, reason=child.cause)

    def _note_ready(self, name: str) -> None:
        if name not in self._missing:
            return
        self._missing.discard(name)
        if not self._missing:
            logger.info("all_running", took_s=round(time.monotonic() - self._began_at, 2))
