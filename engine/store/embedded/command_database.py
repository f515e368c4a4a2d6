"""The embedded server for one command: the supervisor's while Sparky runs, else one that the command starts.

A command never starts the server of a running Sparky, and stops its own as soon as Sparky starts.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from engine.platform import file_lock
from engine.platform.errors import ConfigurationError, SparkyError
from engine.platform.settings.settings import Settings
from engine.store.embedded.embedded_postgres import START_TIMEOUT_S, EmbeddedPostgres, build_dsn, is_answering
from engine.store.embedded.postgres_process import POLL_S
from engine.store.embedded.usage_locks import DatabaseInUse, UsageLock
from engine.store.transport.rpc import Rpc

SUPERVISED_TIMEOUT_S: Final = 5.0  # for the server of a running Sparky, which may be restarting
# For another command's server; creating a cluster takes that long on a busy machine.
_COMMAND_TIMEOUT_S: Final = 180.0
_USAGE_LOCK_TIMEOUT_S: Final = 10.0  # a call ends within that time
_HANDOVER_POLL_S: Final = 0.1


class EmbeddedServerUnavailable(SparkyError):
    """No server may be started, and none answers."""


class CommandDatabase:
    """The embedded server for one command; enter and leave it on the command's main thread.

    With `may_start` a server is started when Sparky does not run, and serves other commands too; without, it neither
    starts a server nor waits for one.
    """

    def __init__(self, settings: Settings, *, may_start: bool = True) -> None:
        self._home = settings.sparky_home
        self._is_supervised = partial(file_lock.is_held, settings.run_dir)
        self._may_start = may_start
        self._timeout_s = SUPERVISED_TIMEOUT_S
        self._server: EmbeddedPostgres | None = None
        self._lock = threading.Lock()
        self._exit_event = threading.Event()
        self._handover_thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit_event.set()
        if self._handover_thread is not None:
            self._handover_thread.join()
        self._stop_server()

    @contextmanager
    def use_server(self) -> Iterator[str]:
        """The DSN of a server that answers, and that no command stops inside the block.

        Raises EmbeddedServerUnavailable, or ConfigurationError if a server cannot be started.
        """
        usage_lock, began = UsageLock(self._home), time.monotonic()
        try:
            self._wait_for_server(usage_lock, began)
            yield build_dsn(self._home)
        finally:
            usage_lock.release()

    def _wait_for_server(self, usage_lock: UsageLock, began: float) -> None:
        try:
            if self._may_start:
                self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            while not self._try_server(usage_lock, time.monotonic() - began):
                time.sleep(POLL_S)
        except OSError as error:
            raise ConfigurationError(
                f"The embedded database cannot be used in {self._home}: {error.strerror}."
            ) from None

    def _try_server(self, usage_lock: UsageLock, waited_s: float) -> bool:
        """True when a server answers, which `usage_lock` then keeps; False to look again. Raises as `use_server`."""
        is_supervised = self._is_supervised()
        if self._try_usage_lock(usage_lock, is_supervised=is_supervised) and is_answering(build_dsn(self._home)):
            return True
        if is_supervised or not self._may_start:
            self._check_timeout(waited_s, is_supervised=is_supervised)
        elif waited_s > _COMMAND_TIMEOUT_S:
            raise DatabaseInUse(self._home)
        elif usage_lock.acquire_shared():
            with suppress(DatabaseInUse):
                self._start_server()
                return True
        usage_lock.release()
        return False

    def _try_usage_lock(self, usage_lock: UsageLock, *, is_supervised: bool) -> bool:
        """False while a command stops the server. Without `may_start` no lock is taken. Raises OSError."""
        if not self._may_start:
            return True
        try:
            return usage_lock.acquire_shared()
        except OSError:
            if is_supervised:
                return True  # no command stops that server
            raise

    def _check_timeout(self, waited_s: float, *, is_supervised: bool) -> None:
        if self._may_start and waited_s < self._timeout_s:
            return
        if is_supervised:
            raise EmbeddedServerUnavailable(
                f"Sparky runs on {self._home}, but Sparky's database does not answer now: try again in a moment."
            )
        raise EmbeddedServerUnavailable("The embedded database does not run now.")

    def _start_server(self) -> None:
        if self._server is not None:
            self._server.stop()  # it was killed meanwhile, and we hold its lock
        server = EmbeddedPostgres(self._home, lock_timeout_s=0, is_forbidden=self._is_supervised)
        server.start()
        self._server = server
        if self._handover_thread is None:
            self._handover_thread = threading.Thread(
                target=self._hand_over_to_supervisor, name="embedded-server-handover", daemon=True
            )
            self._handover_thread.start()

    def _hand_over_to_supervisor(self) -> None:
        """Stops the server that this command started as soon as a supervisor wants its own."""
        while not self._exit_event.wait(_HANDOVER_POLL_S):
            if self._is_supervised():
                self._timeout_s = START_TIMEOUT_S  # so that this command goes on with the server of Sparky
                self._stop_server()

    def _stop_server(self) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server is None:
            return
        usage_lock = UsageLock(self._home)
        with suppress(OSError):
            usage_lock.acquire_exclusive(_USAGE_LOCK_TIMEOUT_S)
        server.stop()
        usage_lock.release()


class CommandDatabaseRpc:
    """An `Rpc` that holds the embedded server for the time of each call."""

    def __init__(self, rpc: Rpc, server: CommandDatabase) -> None:
        self._rpc = rpc
        self._server = server

    def call(self, function: str, /, **arguments: object) -> Any:
        with self._server.use_server():
            return self._rpc.call(function, **arguments)

    def close(self) -> None:
        self._rpc.close()


@contextmanager
def open_database(settings: Settings) -> Iterator[str]:
    """The DSN for one piece of work: of the named database, or of the embedded server, as `CommandDatabase`."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with CommandDatabase(settings) as server, server.use_server() as address:
        yield address
