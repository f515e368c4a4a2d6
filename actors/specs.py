"""What the supervisor needs to know of a child before there is one: frozen values, composed in one place by the CLI."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import SecretStr

Kind = Literal["actor", "service", "strategy"]


class Restart(StrEnum):
    """When a child that ended is started again.

    PERMANENT: always. TRANSIENT: only when it did not end well; ending well counts as having become ready.
    """

    PERMANENT = "permanent"
    TRANSIENT = "transient"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child.

    `entry` is ``module:function``; the function gets (settings, peers, argument) for actors and strategies, and
    (settings, argument) for services. `settings` is `Settings.sealed()` of what this child may know. Children of a
    stage start when all of the stage before are ready, and stop after all of the stages above. Deadlines and grace are
    seconds.
    """

    name: str
    entry: str
    kind: Kind
    stage: int
    settings: SecretStr
    argument: str = ""
    title: str = ""
    restart: Restart = Restart.PERMANENT
    start_deadline_s: float = 30.0
    tick_deadline_s: float = 15.0
    grace_s: float = 3.0
    memory_mb: int | None = None
    death_signal: int = signal.SIGKILL  # what the kernel sends to the child when the supervisor dies
