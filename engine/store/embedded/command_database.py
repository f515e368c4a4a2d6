"""The embedded server for one command: Sparky's own while Sparky runs, else one that is started for the while.

A command never starts the server that a running Sparky owns, and hands its own over as soon as Sparky starts.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from engine.platform import file_lock
from engine.platform.errors import BadConfiguration, SparkyError
from engine.platform.settings.settings import Settings
from engine.store.embedded.embedded_postgres import START_TIMEOUT_S, Embedded, answers, dsn
from engine.store.embedded.usage_locks import POLL_S, OwnedByAnother, Users
from engine.store.transport.rpc import Rpc

PATIENCE_S: Final = 5.0  # with the server of a running Sparky, which may be starting again
# With another command, which may be making the cluster, for as long as that takes on a busy machine.
_SHARED_PATIENCE_S: Final = 180.0
_USERS_PATIENCE_S: Final = 10.0  # a call ends within that time
_WATCH_EVERY_S: Final = 0.1


class ServerAway(SparkyError):
    """No server may be started, and none answers."""


class Borrowed:
    """What one command uses the embedded server by; entered and left by the command's main thread.

    With `may_start` a server is started when Sparky does not run, and serves other commands too; without, nothing is
    waited for either.
    """

    def __init__(self, settings: Settings, *, may_start: bool = True) -> None:
        self._home = settings.sparky_home
        self._is_supervised = partial(file_lock.is_held, settings.run_dir)
        self._may_start = may_start
        self._patience_s = PATIENCE_S
        self._server: Embedded | None = None
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        if self._watch is not None:
            self._watch.join()
        self._give_up()

    @contextmanager
    def in_use(self) -> Iterator[str]:
        """The address of a server that answers, and is not stopped by any command meanwhile.

        Raises ServerAway, or BadConfiguration if a server cannot be started.
        """
        users, began = Users(self._home), time.monotonic()
        try:
            self._find(users, began)
            yield dsn(self._home)
        finally:
            users.leave()

    def _find(self, users: Users, began: float) -> None:
        try:
            if self._may_start:
                self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            while not self._is_found(users, time.monotonic() - began):
                time.sleep(POLL_S)
        except OSError as error:
            raise BadConfiguration(f"The embedded database cannot be used in {self._home}: {error.strerror}.") from None

    def _is_found(self, users: Users, waited_s: float) -> bool:
        """True when a server answers, which `users` then keeps; False to look again. Raises as `in_use`."""
        is_supervised = self._is_supervised()
        if self._is_entered(users, is_supervised=is_supervised) and answers(dsn(self._home)):
            return True
        if is_supervised or not self._may_start:
            self._check_patience(waited_s, is_supervised=is_supervised)
        elif waited_s > _SHARED_PATIENCE_S:
            raise OwnedByAnother(self._home)
        elif users.enter():
            with suppress(OwnedByAnother):
                self._start()
                return True
        users.leave()
        return False

    def _is_entered(self, users: Users, *, is_supervised: bool) -> bool:
        """False while the server is being stopped by a command. Who only looks holds up nobody. Raises OSError."""
        if not self._may_start:
            return True
        try:
            return users.enter()
        except OSError:
            if is_supervised:
                return True  # no command stops that server
            raise

    def _check_patience(self, waited_s: float, *, is_supervised: bool) -> None:
        if self._may_start and waited_s < self._patience_s:
            return
        if is_supervised:
            raise ServerAway(
                f"Sparky runs on {self._home}, but Sparky's database does not answer now: try again in a moment."
            )
        raise ServerAway("The embedded database does not run now.")

    def _start(self) -> None:
        if self._server is not None:
            self._server.stop()  # it was killed meanwhile, and we hold its lock
        server = Embedded(self._home, patience_s=0, is_forbidden=self._is_supervised)
        server.start()
        self._server = server
        if self._watch is None:
            self._watch = threading.Thread(target=self._hand_over, name="hand-over", daemon=True)
            self._watch.start()

    def _hand_over(self) -> None:
        """Stops the server that this command started as soon as a supervisor wants its own."""
        while not self._ends.wait(_WATCH_EVERY_S):
            if self._is_supervised():
                self._patience_s = START_TIMEOUT_S  # what this command began shall go on, on the server of Sparky
                self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server is None:
            return
        users = Users(self._home)
        with suppress(OSError):
            users.enter_alone(time.monotonic() + _USERS_PATIENCE_S)
        server.stop()
        users.leave()


class BorrowedRpc:
    """An `Rpc` whose every call has a server, and keeps it."""

    def __init__(self, rpc: Rpc, server: Borrowed) -> None:
        self._rpc = rpc
        self._server = server

    def call(self, function: str, /, **arguments: object) -> Any:
        with self._server.in_use():
            return self._rpc.call(function, **arguments)

    def close(self) -> None:
        self._rpc.close()


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The DSN for one piece of work: of the named database, or of the embedded server, as `Borrowed`."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with Borrowed(settings) as server, server.in_use() as address:
        yield address
