"""Messages of the runtime itself: frozen, validated types that travel as JSON, never as pickles."""

import time

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


class ChildEnded(Message):
    """From the supervisor: the process of the dynamic child `name` was gone at `at` (monotonic seconds), however it
    ended."""

    name: str
    at: float


class DesiredChild(Frozen):
    """A dynamic child that should run.

    `name` is that of its process, of its socket and of its files. `title` is for people. `revision` changes whenever
    what it is to do has changed: a parked child of another revision is started afresh.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")
    title: str
    revision: str


class DesiredChildren(Message):
    """To the supervisor: exactly these dynamic children should run."""

    children: tuple[DesiredChild, ...]


class LeaseDeadline(Message):
    """To the supervisor: children that need the lease may run until `stop_by` (monotonic seconds), and no longer.

    0 once the lease is lost.
    """

    stop_by: float


class ChildParked(Message):
    """From the supervisor: this dynamic child will not be restarted, for `reason`; `traceback` is its crash report.

    `revision` is the one that it ran by; a child that has another one by now is not meant.
    """

    name: str
    revision: str
    reason: str
    traceback: str | None = None


class RestartChild(Ask):
    """To the supervisor: stop the process of the child `name`, and start it again."""

    name: str


class ChildReport(Frozen):
    """One child as the supervisor sees it. `kind` is the group that its spec names: actor, service or another.

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
    """From the supervisor, every second: all of its children as they are now."""

    pid: int
    children: tuple[ChildReport, ...]
