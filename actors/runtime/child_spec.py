"""What the supervisor needs to know of a child before there is one: frozen values, composed in one place by the CLI."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import SecretStr

from actors.runtime.messages import DesiredStrategy

ChildKind = Literal["actor", "service", "strategy"]


class RestartPolicy(StrEnum):
    """When a child that ended is started again.

    PERMANENT: always. TRANSIENT: only when it did not end well; ending well counts as having become ready.
    """

    PERMANENT = "permanent"
    TRANSIENT = "transient"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child.

    `entry` is ``module:function``; the function gets (settings, peers, argument) for actors and strategies, and
    (settings, argument) for services. `settings` is `Settings.sealed()` of what this child may know, `restart_key` the
    part of them that it uses: specs that differ in nothing but the rest are equal, and so is a child that has been
    renamed. Children of a stage start when all of the stage before are ready, and stop after all of the stages above;
    `stop_stage` names another stage to stop in. Who `needs_lease` runs only while this engine holds the database's.
    Deadlines and grace are seconds.
    """

    name: str
    entry: str
    kind: ChildKind
    stage: int
    settings: SecretStr = field(compare=False)
    argument: str = ""
    title: str = field(default="", compare=False)
    restart: RestartPolicy = RestartPolicy.PERMANENT
    start_deadline_s: float = 30.0
    tick_deadline_s: float = 15.0
    grace_s: float = 3.0
    memory_mb: int | None = None
    death_signal: int = signal.SIGKILL  # what the kernel sends to the child when the supervisor dies
    restart_key: SecretStr | None = None
    stop_stage: int | None = None
    needs_lease: bool = False

    @property
    def strategy_id(self) -> UUID:
        """Of a strategy, whose argument begins with it."""
        return UUID(self.argument.partition("/")[0])

    @property
    def effective_stop_stage(self) -> int:
        return self.stage if self.stop_stage is None else self.stop_stage


@dataclass(frozen=True, slots=True)
class SupervisionPlan:
    """Who is to run: the fixed children, and how the spec of a strategy is made that the roster wants."""

    fixed: tuple[ChildSpec, ...]
    build_strategy_spec: Callable[[DesiredStrategy], ChildSpec]
