"""What a supervisor stands on while it runs: its home's lock, its hands, its door, its voice and its one wait."""

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zmq

from actors.runtime.messaging import MessageClient, MessageServer
from actors.runtime.os_signals import SignalFlags, SignalPoller
from actors.runtime.process_manager import ProcessManager
from actors.runtime.state_dir import StateDirLock
from actors.runtime.supervisor_reporter import SupervisorReporter
from actors.runtime.systemd import Notifier


@dataclass(frozen=True, slots=True)
class SupervisorResources:
    lock: StateDirLock
    processes: ProcessManager
    server: MessageServer
    reporter: SupervisorReporter
    poller: SignalPoller


@contextlib.contextmanager
def open_resources(run_dir: Path, notifier: Notifier, flags: SignalFlags) -> Iterator[SupervisorResources]:
    """While entered, signals become `orders`. Raises BadConfiguration when the home is in use."""
    with StateDirLock(run_dir) as lock, contextlib.ExitStack() as closing:
        max_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max_descriptors, max_descriptors)
        )  # shared actors serve a socket for every strategy
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        closing.callback(context.destroy, linger=0)
        closing.callback(notifier.close)
        processes = ProcessManager(run_dir)
        closing.callback(processes.close)
        server = MessageServer(context, run_dir, "supervisor")
        reporter = SupervisorReporter(MessageClient(context, run_dir), notifier, run_dir)
        poller = closing.enter_context(SignalPoller(server.socket, flags))
        yield SupervisorResources(lock, processes, server, reporter, poller)
