"""Through how many of our files one paper entry with a stop goes: what a reader of it must open, and how often.

    .venv/bin/python -m benchmarks.entry_path [-v] [--small]

A real webhook server over HTTP, an embedded PostgreSQL and a simulated market on this host; a profile function on the
thread that executes the signal, from the call of `SignalReceiver.receive` to its return. A first entry in another
symbol fills the caches of listings. Counted are Python calls (a generator that goes on is one) of functions in
`engine` and `webhook_server`, without what the client does that fetches prices (`OUTSIDE`):

- files: those of which at least one function was called;
- jumps: calls whose file is not that of the call before.

With -v every call is printed in order, indented by the depth of our frames; `>` marks a jump.
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from uuid import UUID

import psycopg
import requests
from pydantic import SecretStr

from engine.admin.demo_data import generate_webhook_secret
from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.embedded.embedded_postgres import EmbeddedPostgres, build_dsn
from engine.store.schema.migrate import migrate
from engine.store.store import Store, open_store
from simulator.aster.aster_app import HEALTH, create_aster
from simulator.market.candles import create_synthetic_series
from simulator.service import open_venue
from tests.support.factories.keys import ENCRYPTION_KEY
from webhook_server.admission.signal_receiver import SignalReceiver
from webhook_server.app import build
from webhook_server.clock import SystemClock
from webhook_server.http.routes import LIVE_PATH
from webhook_server.venue_registry import VenueRegistry

ROOT = Path(__file__).parents[1]
ROOMS = ("engine", "webhook_server")
OUTSIDE = ("engine/platform/http/", "engine/venues/ccxt_client/", "engine/venues/market_data/")
ENTRY = {"exchange": "aster", "action": "BUY", "position_size_usd": 1000, "stop_loss_percent": 2}


@dataclass
class EntryPath:
    """Profile function that records between the call of `first` and its return, on the thread that called it."""

    first: CodeType
    calls: list[tuple[int, str, str]] = field(default_factory=list)  # depth, file, function
    _frame: FrameType | None = None
    _thread_id: int | None = None

    @property
    def files(self) -> set[str]:
        return {file for _, file, _ in self.calls}

    @property
    def jumps(self) -> int:
        return sum(before[1] != after[1] for before, after in pairwise(self.calls))

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and self._frame is None and frame.f_code is self.first:
            self._frame, self._thread_id = frame, threading.get_ident()
        if self._frame is None or event not in ("call", "return") or threading.get_ident() != self._thread_id:
            return
        if event == "call":
            self._record_call(frame)
        elif frame is self._frame:
            self._frame = None

    def _record_call(self, frame: FrameType) -> None:
        files = list(self._own_files(frame))
        if files[0] is not None and not any(file.startswith(OUTSIDE) for file in files if file is not None):
            self.calls.append((sum(file is not None for file in files) - 1, files[0], frame.f_code.co_qualname))

    def _own_files(self, frame: FrameType) -> Iterator[str | None]:
        """Of `frame` and of those above it, up to the first."""
        above: FrameType | None = frame
        while above is not None:
            yield get_own_file(above)
            above = None if above is self._frame else above.f_back


def get_own_file(frame: FrameType) -> str | None:
    """Path below the root of the code that `frame` runs; None for code that is not ours."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    below = path.relative_to(ROOT)
    return str(below) if below.parts[0] in ROOMS else None


@contextmanager
def serve() -> Iterator[tuple[str, Store]]:
    """URL of a webhook server, and its store."""
    with ExitStack() as stack:
        # Names of sockets below it must be short.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s", dir="/tmp")))
        database = EmbeddedPostgres(home, {"fsync": "off"})
        stack.callback(database.stop)
        database.start()
        with psycopg.connect(build_dsn(home, "postgres"), autocommit=True) as connection:
            connection.execute("create database measured")
        dsn = build_dsn(home, "measured")
        migrate(dsn)
        market = HttpService(create_aster(open_venue(create_synthetic_series(1), 1.0)), "127.0.0.1", 0, "none", HEALTH)
        stack.callback(market.stop, 1)
        market.start()
        settings = Settings(
            database_url=SecretStr(dsn),
            sparky_market="aster",
            sparky_market_url=market.url,
            sparky_encryption_key=ENCRYPTION_KEY,
        )
        store = stack.enter_context(open_store(settings, keep=True))
        server = build(settings, store, VenueRegistry(settings), SystemClock())
        stack.callback(server.workers.shutdown)
        http = HttpService(server.app, "127.0.0.1", 0, "none", LIVE_PATH)
        stack.callback(http.stop, 5)
        http.start()
        yield http.url, store


def send_entry(url: str, user_id: UUID, secret: SecretStr, symbol: str) -> None:
    """One paper entry with a stop. Raises HTTPError when it is refused."""
    body = {**ENTRY, "symbol": symbol, "user_id": str(user_id), "secret": secret.get_secret_value()}
    answer = requests.post(f"{url}/webhook", json=body, timeout=60)
    if not answer.ok:
        raise requests.HTTPError(f"{answer.status_code}: {answer.text}")


def measure() -> EntryPath:
    """The path of one entry through a server that has executed another one before."""
    path = EntryPath(SignalReceiver.receive.__code__)
    profile_where_wanted = Profiler(path)
    threading.setprofile(profile_where_wanted)  # before the server makes its threads
    try:
        with serve() as (url, store):
            user_id, secret = store.ensure_user("reader@example.com"), generate_webhook_secret()
            store.set_webhook_secret(user_id, secret)
            send_entry(url, user_id, secret, "ETHUSDT")
            profile_where_wanted.is_on = True
            send_entry(url, user_id, secret, "BTCUSDT")
            profile_where_wanted.is_on = False
    finally:
        threading.setprofile(None)
    return path


@dataclass
class Profiler:
    """Hands events on to `path` while it is on."""

    path: EntryPath
    is_on: bool = False

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if self.is_on:
            self.path(frame, event, argument)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="every jump in order")
    parser.add_argument("--small", action="store_true", help="changes nothing: it is one entry in any case")
    is_verbose = parser.parse_args(arguments).verbose
    path = measure()
    last = ""
    for depth, file, function in path.calls if is_verbose else ():
        print(f"{' ' if file == last else '>'} {'  ' * depth}{file}: {function}")
        last = file
    print(f"{len(path.files)} files, {path.jumps} jumps between them, {len(path.calls)} calls")


if __name__ == "__main__":
    main()
