"""Messages of the runtime itself: frozen, validated types that travel as JSON, never as pickles."""

import time
from uuid import UUID

from pydantic import Field

from engine.platform.errors import CycleSkipped, SkipKind
from engine.platform.values import Frozen


class Message(Frozen):
    """Base of all messages. An actor that gets a type it does not know raises."""

    @classmethod
    def find_class(cls, name: str) -> "type[Message] | None":
        """The message class of that name among those that this process has imported; None when it knows none."""
        classes = [cls]
        for each in classes:
            if each.__name__ == name:
                return each
            classes.extend(each.__subclasses__())
        return None


class Ask(Message):
    """A message that wants a reply. `deadline` is CLOCK_MONOTONIC seconds, the same in every process of one host."""

    deadline: float

    def is_late(self) -> bool:
        return time.monotonic() > self.deadline


class Tick(Message):
    """The child's own loop asks its actor to do what is due; the reply is the monotonic time of the next tick."""


class ErrorReply(Message):
    """Reply to an ask that could not be served: a `CycleSkipped` that travels to the process that asked."""

    kind: SkipKind
    reason: str
    retry_after_s: float | None = None

    def to_exception(self) -> CycleSkipped:
        return CycleSkipped(self.kind, self.reason, self.retry_after_s)


class Ack(Message):
    """Reply that only says that it happened."""


class StrategyEnded(Message):
    """Supervisor to limiter: the strategy's process was gone at `at` (monotonic seconds), however it ended."""

    strategy_id: UUID
    at: float


# roster and supervisor


class DesiredStrategy(Frozen):
    id: UUID
    name: str
    cadence_s: float
    revision: str  # changes whenever the row does


class DesiredStrategies(Message):
    """Roster to supervisor: exactly these strategies should run."""

    strategies: tuple[DesiredStrategy, ...]


class LeaseDeadline(Message):
    """Lease actor to supervisor: whoever needs the lease may run until `stop_by` (monotonic seconds), then no more.

    0 once it is lost.
    """

    stop_by: float


class StrategyParked(Message):
    """Supervisor to roster: this strategy will not be restarted; write the reason into its row.

    `revision` is that of the row by which it ran: a row that has changed since is not meant.
    """

    strategy_id: UUID
    revision: str
    reason: str
    traceback: str | None = None


class RestartStrategy(Ask):
    """CLI to supervisor: stop the strategy's process; its supervisor starts it again."""

    strategy_id: UUID


class ChildReport(Frozen):
    """One child as the supervisor sees it. `kind` is its group: actor, service or strategy.

    `state` is starting, running, stopping, backoff, parked or done.
    """

    name: str
    kind: str
    title: str
    state: str
    pid: int | None
    restarts: int
    restart_reasons: dict[str, int] = Field(default_factory=dict)
    memory_bytes: int | None
    uptime_s: float | None


class SupervisorReport(Message):
    """Supervisor to monitor, every second or two."""

    pid: int
    children: tuple[ChildReport, ...]
