"""What the supervisor tells others: systemd, the monitor, the roster, and whoever asks for a dump by signal."""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from actors.runtime import restart_policy
from actors.runtime.messages import StrategyEnded, StrategyParked, SupervisorReport
from actors.runtime.messaging import MessageClient
from actors.runtime.restart_policy import Child
from actors.runtime.state_dir import read_crash_report
from actors.runtime.systemd import Notifier

logger = structlog.get_logger()

REPORT_EVERY_S: Final = 1.0


class SupervisorReporter:
    def __init__(self, link: MessageClient, notifier: Notifier, run_dir: Path) -> None:
        self._peers = link
        self._notifier = notifier
        self._run_dir = run_dir
        self._reported_at = float("-inf")

    def notify_systemd(self, children: Collection[Child], *, is_stopping: bool, is_leased: bool) -> None:
        """After every completed turn of the supervisor's loop."""
        is_ready, status = restart_policy.summarize(children, is_leased=is_leased)
        if is_stopping:
            self._notifier.notify_stopping()
        self._notifier.notify(is_ready=is_ready, status=status)

    def is_report_due(self) -> bool:
        return time.monotonic() - self._reported_at >= REPORT_EVERY_S

    def send_report(self, children: Collection[Child]) -> None:
        self._reported_at = now = time.monotonic()
        rows = tuple(restart_policy.build_report(child, now) for child in children)
        self._peers.tell("monitor", SupervisorReport(pid=os.getpid(), children=rows))

    def report_strategy_ended(self, child: Child) -> None:
        """So that the limiter keeps nothing for a process that is no more."""
        if child.spec.is_dynamic:
            message = StrategyEnded(strategy_id=child.spec.strategy_id, at=time.monotonic())
            self._peers.tell("limiter", message)

    def log_crash(self, child: Child, status: int) -> None:
        # A child that could still speak has told its reason itself.
        crash_report = None if os.WIFEXITED(status) else read_crash_report(self._run_dir, child.spec.name)
        logger.warning(
            "child_died", child=child.spec.name, reason=child.cause, deaths=len(child.crash_times), said=crash_report
        )

    def report_parked(self, child: Child) -> None:
        """The roster writes it into the row, the monitor raises the alarm. Repeated until the row says so."""
        reason = restart_policy.describe_parking(child)
        crash_report = read_crash_report(self._run_dir, child.spec.name)
        message = StrategyParked(
            strategy_id=child.spec.strategy_id, revision=child.revision, reason=reason, traceback=crash_report
        )
        for name in ("roster", "monitor"):
            self._peers.tell(name, message)

    @staticmethod
    def log_children(children: Collection[Child]) -> None:
        """Every child's state into the log."""
        for child in children:
            logger.info("child", **restart_policy.build_report(child, time.monotonic()).model_dump())
