"""What the supervisor tells others: systemd, the monitor, the roster, and whoever asks for a dump by signal."""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from actors.runtime import restart_policy
from actors.runtime.messages import ChildParked, StrategyEnded, SupervisorReport
from actors.runtime.messaging import Link
from actors.runtime.restart_policy import Child
from actors.runtime.state_dir import read_last_words
from actors.runtime.systemd import Notifier

logger = structlog.get_logger()

REPORT_EVERY_S: Final = 1.0


class Bulletin:
    def __init__(self, link: Link, notifier: Notifier, run_dir: Path) -> None:
        self._link = link
        self._notifier = notifier
        self._run_dir = run_dir
        self._reported_at = float("-inf")

    def turned(self, children: Collection[Child], *, is_stopping: bool, is_leased: bool) -> None:
        """After every completed turn of the supervisor's loop."""
        is_ready, status = restart_policy.summary(children, is_leased=is_leased)
        if is_stopping:
            self._notifier.stopping()
        self._notifier.turned(is_ready=is_ready, status=status)

    def is_report_due(self) -> bool:
        return time.monotonic() - self._reported_at >= REPORT_EVERY_S

    def report(self, children: Collection[Child]) -> None:
        self._reported_at = now = time.monotonic()
        rows = tuple(restart_policy.report(child, now) for child in children)
        self._link.tell("monitor", SupervisorReport(pid=os.getpid(), children=rows))

    def ended(self, child: Child) -> None:
        """So that the limiter keeps nothing for a process that is no more."""
        if child.spec.kind == "strategy":
            message = StrategyEnded(strategy_id=child.spec.strategy_id, at=time.monotonic())
            self._link.tell("limiter", message)

    def died(self, child: Child, status: int) -> None:
        # A child that could still speak has told its reason itself.
        words = None if os.WIFEXITED(status) else read_last_words(self._run_dir, child.spec.name)
        logger.warning("child_died", child=child.spec.name, reason=child.cause, deaths=len(child.deaths), said=words)

    def parked(self, child: Child) -> None:
        """The roster writes it into the row, the monitor raises the alarm. Repeated until the row says so."""
        reason = restart_policy.reason_to_park(child)
        words = read_last_words(self._run_dir, child.spec.name)
        message = ChildParked(
            strategy_id=child.spec.strategy_id, revision=child.revision, reason=reason, traceback=words
        )
        for name in ("roster", "monitor"):
            self._link.tell(name, message)

    @staticmethod
    def dump(children: Collection[Child]) -> None:
        """Every child's state into the log."""
        for child in children:
            logger.info("child", **restart_policy.report(child, time.monotonic()).model_dump())
