"""What the supervisor knows of a child before it runs: frozen values, composed in one place by the command line."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from actors.runtime.messages import DesiredChild
from engine.platform.settings.process_settings import ProcessSettings

ChildKind = Literal["actor", "service"]  # how its entry point is called


class RestartPolicy(StrEnum):
    """When a child that ended is started again.

    PERMANENT: always. TRANSIENT: only when it did not end well; ending well counts as having become ready.
    """

    PERMANENT = "permanent"
    TRANSIENT = "transient"


class ExhaustedRestarts(StrEnum):
    """What happens when a child has used up its restarts, or cannot run as it is configured.

    PARK: it alone stays down until its revision changes. STOP_ALL: the supervisor stops, since nothing works without
    this child; once the child has served, it is restarted for ever instead.
    """

    PARK = "park"
    STOP_ALL = "stop_all"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child. Deadlines and grace are seconds, `memory_mb` is MiB of private memory.

    `entry` is ``module:function``; the function gets (settings, peers, argument) for actors, and (settings, argument)
    for services. `settings` is the child's own model, which it gets as JSON: what it reads, and nothing else. A child
    gets a new process when its spec changes; a changed `title` alone does not count. Children of a stage start when all
    of the stage before are ready, and stop after all of the stages above; `stop_stage` names another stage to stop in.
    A child that `needs_lease` runs only while this engine holds the database's lease. A child that `is_dynamic` runs
    while messages to the supervisor ask for it; the readiness of the whole does not depend on it. `group` is what
    reports call its kind, where that is not `kind`.
    """

    name: str
    entry: str
    kind: ChildKind
    stage: int
    settings: ProcessSettings
    argument: str = ""
    title: str = field(default="", compare=False)
    restart: RestartPolicy = RestartPolicy.PERMANENT
    on_exhausted: ExhaustedRestarts = ExhaustedRestarts.STOP_ALL
    is_dynamic: bool = False
    group: str = ""
    start_deadline_s: float = 30.0
    tick_deadline_s: float = 15.0
    grace_s: float = 3.0
    memory_mb: int | None = None
    death_signal: int = signal.SIGKILL  # what the kernel sends to the child when the supervisor dies
    stop_stage: int | None = None
    needs_lease: bool = False

    @property
    def effective_stop_stage(self) -> int:
        return self.stage if self.stop_stage is None else self.stop_stage


@dataclass(frozen=True, slots=True)
class ReportRecipients:
    """Names of the children that the supervisor tells of ends and parkings of dynamic children, and of all states."""

    ended: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SupervisionPlan:
    """What runs: the fixed children, and how the spec of a dynamic child is made that a message asks for.

    `recipients` and `warm_up` stay those that the supervisor began with. `warm_up` is a ``module:function`` without
    arguments that a fork server calls before it forks; empty for none.
    """

    fixed: tuple[ChildSpec, ...]
    build_dynamic_spec: Callable[[DesiredChild], ChildSpec]
    recipients: ReportRecipients = ReportRecipients()
    warm_up: str = ""
