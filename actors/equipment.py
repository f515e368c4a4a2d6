"""What a supervisor stands on while it runs: its home's lock, its hands, its door, its voice and its one wait."""

import contextlib
import resource
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq

from actors.brood import Brood
from actors.bulletin import Bulletin
from actors.home import HomeLock
from actors.link import Door, Link
from actors.systemd import Notifier
from actors.wakeups import Handler, Wakeups


@dataclass(frozen=True, slots=True)
class Equipment:
    brood: Brood
    door: Door
    bulletin: Bulletin
    wakeups: Wakeups


@contextlib.contextmanager
def equipped(run_dir: Path, notifier: Notifier, handlers: Mapping[signal.Signals, Handler]) -> Iterator[Equipment]:
    """While entered, `handlers` answer their signals. Raises BadConfiguration when the home is in use."""
    with HomeLock(run_dir), contextlib.ExitStack() as closing:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # shared actors serve a socket for every strategy
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        closing.callback(context.destroy, linger=0)
        brood = Brood(run_dir)
        closing.callback(brood.close)
        door = Door(context, run_dir, "supervisor")
        bulletin = Bulletin(Link(context, run_dir), notifier, run_dir)
        wakeups = closing.enter_context(Wakeups(door.socket, handlers))
        yield Equipment(brood, door, bulletin, wakeups)
