"""The one child that ends by itself: it makes the database ready for all that come after it."""

import structlog

from actors.actor import Actor, Peers
from engine.settings import Settings
from engine.store.migrate import migrate
from engine.store.seed import SYMBOLS, seed_demo
from engine.store.store import open_store
from simulator.candle_file import symbol_of

logger = structlog.get_logger()


class PrepareActor(Actor):
    """Does the tasks it is given, once: ``migrate`` brings the schema up to date, ``demo`` seeds an empty database."""

    def __init__(self, settings: Settings, tasks: frozenset[str]) -> None:
        super().__init__()
        self._settings = settings
        self._tasks = tasks

    def open(self) -> None:
        """Raises BadConfiguration or UpstreamUnavailable when the database cannot be made ready."""
        if "migrate" in self._tasks:
            self._migrate()
        if "demo" in self._tasks:
            self._seed()
        self.finished = True

    def _migrate(self) -> None:
        if self._settings.database_url is None:
            return  # Supabase's schema comes with its own command; the doctor says when it is behind
        applied = migrate(self._settings.database_url.get_secret_value())
        logger.info("schema_is_current", migrations_applied=len(applied))

    def _seed(self) -> None:
        with open_store(self._settings, keep=False) as store:
            names = seed_demo(store, self._settings, self._symbols())
        if names:
            logger.info("demo_strategies_created", strategies=", ".join(names))

    def _symbols(self) -> tuple[str, ...]:
        """What the demo trades: all that is simulated, which with candles from a file is its one symbol."""
        path = self._settings.sparky_candles
        return SYMBOLS if path is None else (symbol_of(path),)


def make(settings: Settings, peers: Peers, argument: str) -> PrepareActor:  # noqa: ARG001 - every actor is made alike
    return PrepareActor(settings, frozenset(argument.split(",")))
