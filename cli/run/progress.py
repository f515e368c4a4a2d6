"""Logs the progress of the children for a person: which is ready after how long, which stops, which is parked; the
supervisor itself logs crashes."""

import time
from collections.abc import Collection
from pathlib import Path

import structlog

from actors.runtime import restart_policy
from actors.runtime.restart_policy import Child, ChildState
from actors.runtime.state_dir import read_crash_report

logger = structlog.get_logger()


class StartupProgress:
    """A listener of the supervisor. `fixed` are the names of all children but strategies; `reason` is the crash report
    of a parked one."""

    def __init__(self, fixed: Collection[str], run_dir: Path) -> None:
        self._missing = set(fixed)
        self._run_dir = run_dir
        self._began_at = time.monotonic()
        self.reason: str | None = None  # why a child could not run, when one gave up

    def __call__(self, child: Child) -> None:
        name, title = child.spec.name, child.spec.title or child.spec.name
        if child.state is (ChildState.DONE if restart_policy.is_task(child) else ChildState.RUNNING):
            logger.info("ready", actor=title, took_s=round(time.monotonic() - child.started_at, 2))
            self._mark_ready(name)
        elif child.state is ChildState.PARKED:
            self.reason = read_crash_report(self._run_dir, name)
            logger.error("parked", actor=title, reason=child.cause)
        elif child.state is ChildState.STOPPING:
            logger.info("stopping", actor=title, reason=child.cause)

    def _mark_ready(self, name: str) -> None:
        if name not in self._missing:
            return
        self._missing.discard(name)
        if not self._missing:
            logger.info("all_running", took_s=round(time.monotonic() - self._began_at, 2))
