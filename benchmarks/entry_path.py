"""Through how many of our files one paper entry with a stop goes: what a reader of it must open, and how often.

    .venv/bin/python -m benchmarks.entry_path [-v]

A real webhook server over HTTP, an embedded PostgreSQL and a simulated market on this host; a profile function on the
thread that executes the signal, from the call of `SignalReceiver.receive` to its return. A first entry in another
symbol fills the caches of listings. Counted are Python calls (a generator that goes on is one) on this thread:

- files: those of `actors`, `engine` and `webhook_server` of which at least one function was called;
- jumps: calls from a frame in one of our files to a frame in another one. A call that comes through a library is none.
  Loops repeat jumps, so the different ones (file, file, function) are counted as well.

With -v every jump is printed in order, indented by the depth of our frames.
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from uuid import UUID

import psycopg
import requests
from pydantic import SecretStr

from engine.platform.http.service import HttpService
from engine.platform.settings.settings import Settings
from engine.store.demo_data import generate_webhook_secret
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
ROOMS = ("actors", "engine", "webhook_server")
ENTRY = {"exchange": "aster", "action": "BUY", "position_size_usd": 1000, "stop_loss_percent": 2}


@dataclass
class EntryPath:
    """Profile function that records between the call of `first` and its return, on the thread that called it."""

    first: CodeType
    files: set[str] = field(default_factory=set)
    jumps: list[tuple[int, str, str, str]] = field(
        default_factory=list
    )  # depth, caller's file, callee's file, function
    _frame: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and self._frame is None and frame.f_code is self.first:
            self._frame = frame
        if self._frame is None or event not in ("call", "return"):
            return
        if not self._is_below_first(frame):
            return  # another thread
        if event == "call":
            self._record_call(frame)
        elif frame is self._frame:
            self._frame = None

    def _is_below_first(self, frame: FrameType) -> bool:
        above: FrameType | None = frame
        while above is not None and above is not self._frame:
            above = above.f_back
        return above is not None

    def _record_call(self, frame: FrameType) -> None:
        callee = get_own_file(frame)
        if callee is None:
            return
        self.files.add(callee)
        caller = get_own_file(frame.f_back)
        if frame is not self._frame and caller is not None and caller != callee:
            self.jumps.append((self._count_own_frames(frame), caller, callee, frame.f_code.co_qualname))

    def _count_own_frames(self, frame: FrameType) -> int:
        depth, above = 0, frame
        while above is not self._frame and above.f_back is not None:
            above = above.f_back
            depth += get_own_file(above) is not None
        return depth


def get_own_file(frame: FrameType | None) -> str | None:
    """Path below the root of the code that `frame` runs; None for code that is not ours."""
    if frame is None:
        return None
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
    is_verbose = parser.parse_args(arguments).verbose
    path = measure()
    if is_verbose:
        for depth, caller, callee, function in path.jumps:
            print(f"{'  ' * depth}{caller} -> {callee}: {function}")
    different = {jump[1:] for jump in path.jumps}
    print(f"{len(path.files)} files, {len(path.jumps)} jumps between them, {len(different)} of them different")


if __name__ == "__main__":
    main()
