"""What a supervisor stands on while it runs: its home's lock, its hands, its door, its voice and its one wait."""

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zmq

from actors.runtime.messaging import Door, Link
from actors.runtime.os_signals import Orders, Wakeups
from actors.runtime.process_manager import Brood
from actors.runtime.state_dir import HomeLock
from actors.runtime.supervisor_reporter import Bulletin
from actors.runtime.systemd import Notifier


@dataclass(frozen=True, slots=True)
class Equipment:
    lock: HomeLock
    brood: Brood
    door: Door
    bulletin: Bulletin
    wakeups: Wakeups


@contextlib.contextmanager
def equipped(run_dir: Path, notifier: Notifier, orders: Orders) -> Iterator[Equipment]:
    """While entered, signals become `orders`. Raises BadConfiguration when the home is in use."""
    with HomeLock(run_dir) as lock, contextlib.ExitStack() as closing:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # shared actors serve a socket for every strategy
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        closing.callback(context.destroy, linger=0)
        closing.callback(notifier.close)
        brood = Brood(run_dir)
        closing.callback(brood.close)
        door = Door(context, run_dir, "supervisor")
        bulletin = Bulletin(Link(context, run_dir), notifier, run_dir)
        wakeups = closing.enter_context(Wakeups(door.socket, orders))
        yield Equipment(lock, brood, door, bulletin, wakeups)
