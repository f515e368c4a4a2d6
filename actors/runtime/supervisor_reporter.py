"""Reports of the supervisor: to systemd, to the children that the plan names, and into the log."""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from actors.runtime import restart_policy
from actors.runtime.child_spec import ReportRecipients
from actors.runtime.messages import ChildEnded, ChildParked, Message, SupervisorReport
from actors.runtime.messaging import MessageClient
from actors.runtime.restart_policy import Child
from actors.runtime.state_dir import read_crash_report
from actors.runtime.systemd import Notifier

logger = structlog.get_logger()

REPORT_EVERY_S: Final = 1.0


class SupervisorReporter:
    """Tells and never waits: a report that cannot be sent now is dropped, so that no child can stall the supervisor."""

    def __init__(self, peers: MessageClient, recipients: ReportRecipients, notifier: Notifier, run_dir: Path) -> None:
        self._peers = peers
        self._recipients = recipients
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
        self._tell(self._recipients.states, SupervisorReport(pid=os.getpid(), children=rows))

    def report_ended(self, child: Child) -> None:
        """So that no other process keeps anything for one that has ended."""
        if child.spec.is_dynamic:
            self._tell(self._recipients.ended, ChildEnded(name=child.spec.name, at=time.monotonic()))

    def log_crash(self, child: Child, status: int) -> None:
        # A child that exited by itself has logged its reason; one that was killed has only its crash report.
        crash_report = None if os.WIFEXITED(status) else read_crash_report(self._run_dir, child.spec.name)
        logger.warning(
            "child_died",
            child=child.spec.name,
            reason=child.cause,
            crashes=len(child.crash_times),
            crash_report=crash_report,
        )

    def report_parked(self, child: Child) -> None:
        """Called again while the child is parked and still desired: the message may have been dropped."""
        reason = restart_policy.describe_parking(child)
        crash_report = read_crash_report(self._run_dir, child.spec.name)
        message = ChildParked(name=child.spec.name, revision=child.revision, reason=reason, traceback=crash_report)
        self._tell(self._recipients.parked, message)

    def _tell(self, names: tuple[str, ...], message: Message) -> None:
        for name in names:
            self._peers.tell(name, message)

    @staticmethod
    def log_children(children: Collection[Child]) -> None:
        """Every child's state into the log."""
        for child in children:
            logger.info("child", **restart_policy.build_report(child, time.monotonic()).model_dump())
