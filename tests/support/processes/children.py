"""Actors with one known habit each, for the supervisor to run as real processes."""

import ctypes
import os
import subprocess
import threading
import time
from pathlib import Path

from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import Ack, ChildParked, DesiredChild, DesiredChildren, Message
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings


class Steady(Actor):
    """Ticks five times a second."""

    tick_every_s = 0.2


class Crashing(Actor):
    """Raises on its first tick."""

    def tick(self, now: float) -> float:
        raise RuntimeError(f"as it was told to at {now:.0f}")


class Stuck(Actor):
    """Completes one tick and never completes the second."""

    tick_every_s = 0.1

    def __init__(self) -> None:
        super().__init__()
        self._ticks = 0

    def tick(self, now: float) -> float:
        self._ticks += 1
        if self._ticks > 1:
            self.get_stuck()
        return super().tick(now)

    def get_stuck(self) -> None:
        """Never returns."""
        raise NotImplementedError


class Spinning(Stuck):
    def get_stuck(self) -> None:
        while True:
            pass


class Blocked(Stuck):
    """In one C call that keeps the interpreter's lock."""

    def get_stuck(self) -> None:
        ctypes.PyDLL(None).sleep(600)


class Deadlocked(Stuck):
    def get_stuck(self) -> None:
        lock = threading.Lock()
        with lock:
            lock.acquire()


class Misconfigured(Actor):
    def open(self) -> None:
        raise ConfigurationError("port 1 is taken; set another one")


class Finishing(Actor):
    def tick(self, now: float) -> float:
        self.is_done = True
        return super().tick(now)


class Deaf(Steady):
    """Does not end when it is asked to."""

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - it does not care
        time.sleep(600)


class Slow(Steady):
    """Needs a second and a half to end, and writes the monotonic time at which it has ended into a file."""

    def __init__(self, told: Path) -> None:
        super().__init__()
        self._told = told

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - its grace is longer
        time.sleep(1.5)
        self._told.write_text(str(time.monotonic()))


class Hungry(Steady):
    """Takes 200 MiB and keeps them."""

    def open(self) -> None:
        self._kept = bytearray(os.urandom(1024)) * (200 * 1024)


class Leaking(Steady):
    """Opens files and keeps them."""

    tick_every_s = 0.05

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[int] = []

    def tick(self, now: float) -> float:
        self._kept.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(20))
        return super().tick(now)


class Hog(Steady):
    """Takes a gigabyte at once."""

    tick_every_s = 0.05

    def tick(self, now: float) -> float:
        if self._is_open:
            self._kept = bytearray(2**30)
        return super().tick(now)


class CrashingLater(Steady):
    """Raises on its fifth tick."""

    def __init__(self) -> None:
        super().__init__()
        self._left = 5

    def tick(self, now: float) -> float:
        self._left -= 1
        if self._left == 0:
            raise RuntimeError(f"as it was told to at {now:.0f}")
        return super().tick(now)


class SlowToStart(Steady):
    """Its process is there long before its first tick is complete."""

    def open(self) -> None:
        time.sleep(0.5)


class NeverReady(Steady):
    def open(self) -> None:
        time.sleep(600)


class Parent(Steady):
    """Has a process of its own, whose pid it writes into a file."""

    def __init__(self, told: Path) -> None:
        super().__init__()
        self._told = told

    def open(self) -> None:
        child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
        self._told.write_text(str(child.pid))


class FileWatcher(Actor):
    """Wants the strategies named in a file, one ``uuid revision`` a line, and appends parkings to another."""

    tick_every_s = 0.1

    def __init__(self, peers: Peers, wanted: Path) -> None:
        super().__init__()
        self._peers = peers
        self._wanted = wanted

    def tick(self, now: float) -> float:
        rows = [line.split() for line in self._wanted.read_text().splitlines()]
        wanted = tuple(_desired(*row) for row in rows)
        self._peers.tell("supervisor", DesiredChildren(children=wanted))
        return super().tick(now)

    def receive(self, message: Message) -> Message | None:
        if isinstance(message, ChildParked):
            with self._wanted.with_suffix(".parked").open("a") as file:
                file.write(message.model_dump_json() + "\n")
            return None
        return Ack()


def _desired(strategy_id: str, revision: str) -> DesiredChild:
    return DesiredChild(name=f"strategy-{strategy_id}", title=strategy_id[:4], revision=revision)


def make_steady(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Steady()


def make_crashing(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Crashing()


def make_spinning(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Spinning()


def make_blocked(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Blocked()


def make_deadlocked(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Deadlocked()


def make_misconfigured(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Misconfigured()


def make_finishing(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Finishing()


def make_deaf(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Deaf()


def make_slow(_settings: Settings, _peers: Peers, argument: str) -> Actor:
    return Slow(Path(argument))


def make_hungry(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Hungry()


def make_leaking(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Leaking()


def make_hog(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return Hog()


def make_crashing_later(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return CrashingLater()


def make_slow_to_start(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return SlowToStart()


def make_never_ready(_settings: Settings, _peers: Peers, _argument: str) -> Actor:
    return NeverReady()


def make_file_watcher(_settings: Settings, peers: Peers, argument: str) -> Actor:
    return FileWatcher(peers, Path(argument))


def make_parent(_settings: Settings, _peers: Peers, argument: str) -> Actor:
    return Parent(Path(argument))


def make_slow_to_make(_settings: Settings, _peers: Peers, argument: str) -> Actor:
    """Tells in a file that its process is there, and then never gets as far as to listen to anything."""
    Path(argument).touch()
    time.sleep(600)
    return Steady()


def make_limiter(settings: Settings, peers: Peers, argument: str) -> Actor:
    """The real one with one permit at a time; `argument` is its home. Imported here: no other child has to wait."""
    from actors import rate_limiter

    more = {"sparky_home": Path(argument), "sparky_llm_concurrency": 1}
    return rate_limiter.make(settings.model_copy(update=more), peers, "")
