"""The one child that ends by itself: it prepares the database for the children of later stages."""

import time
from typing import Final

import structlog

from actors.runtime.actor import Actor, Peers
from engine.admin.demo_data import DEMO_SYMBOLS, seed_demo
from engine.platform.errors import UpstreamUnavailable
from engine.platform.settings.component_settings import PrepareSettings
from engine.store.schema.migrate import migrate
from engine.store.store import open_store
from engine.store.transport.postgres import connect
from simulator.market.candle_file import parse_symbol

logger = structlog.get_logger()


RETRY_S: Final = 1.0


class PrepareActor(Actor):
    """Runs its tasks once: ``migrate`` brings the schema up to date, ``demo`` seeds an empty database.

    It waits for a database that is away without a limit, since every later child would only wait too; it fails for
    faults that a person must repair.
    """

    def __init__(self, settings: PrepareSettings, tasks: frozenset[str]) -> None:
        super().__init__()
        self._settings = settings
        self._tasks = tasks
        self._is_waiting = False

    def tick(self, now: float) -> float:
        """Makes one attempt. Raises ConfigurationError when the database cannot be prepared."""
        try:
            self._prepare()
        except UpstreamUnavailable as error:
            if not self._is_waiting:
                logger.warning("waiting_for_database", reason=str(error))
            self._is_waiting = True
            return time.monotonic() + RETRY_S
        self.is_done = True
        return now + self.tick_every_s

    def _prepare(self) -> None:
        if "migrate" in self._tasks:
            self._migrate()
        if "demo" in self._tasks:
            self._seed()

    def _migrate(self) -> None:
        if self._settings.database_url is None:
            return  # Supabase applies migrations by its own command; `sparky doctor` reports pending ones
        url = self._settings.database_url.get_secret_value()
        with connect(url):  # fails within 10 s when the database is away, while a migration has more time
            pass
        applied = migrate(url)
        logger.info("schema_is_current", migrations_applied=len(applied))

    def _seed(self) -> None:
        with open_store(self._settings, keep=False) as store:
            names = seed_demo(store, self._settings, self._list_symbols())
        if names:
            logger.info("demo_strategies_created", strategies=", ".join(names))

    def _list_symbols(self) -> tuple[str, ...]:
        """The symbols that the demo trades: all simulated ones; with a file of candles the file's one symbol."""
        path = self._settings.sparky_candles
        return DEMO_SYMBOLS if path is None else (parse_symbol(path),)


def make(settings: PrepareSettings, peers: Peers, argument: str) -> PrepareActor:  # noqa: ARG001 - every actor is made alike
    return PrepareActor(settings, frozenset(argument.split(",")))
