"""Knows which strategies should run: reads it from the store and tells the supervisor, which never sees a database."""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import structlog

from actors.actor import Actor, Peers
from actors.messages import ChildParked, Demand, Demanded, Message, StrategyChanged, Wanted, WantedStrategy
from engine.errors import UpstreamUnavailable
from engine.settings import Settings
from engine.store.engine_rows import WantedRow
from engine.store.store import Store, open_store

logger = structlog.get_logger()


class Roster(Actor):
    """While the store is down the supervisor hears nothing and keeps running what runs."""

    def __init__(self, store: Store, peers: Peers, poll_s: float) -> None:
        super().__init__()
        self._store = store
        self._peers = peers
        self._poll_s = poll_s
        self._revisions: dict[UUID, str] = {}
        self._parked: dict[UUID, ChildParked] = {}
        self._store_is_up = True

    def tick(self, now: float) -> float:
        try:
            self._write_parked()
            self._publish()
            self._note_store(up=True)
        except UpstreamUnavailable as error:
            self._note_store(up=False, reason=str(error))
        return now + self._poll_s

    def receive(self, message: Message) -> None:
        if not isinstance(message, ChildParked):
            raise TypeError(f"the roster does not know {type(message).__name__}")
        self._parked[message.strategy_id] = message

    def wants_tick_after(self, message: Message) -> bool:
        return isinstance(message, ChildParked)

    def _write_parked(self) -> None:
        """Writes each parking into its row; one that cannot be written now is kept for the next tick."""
        for strategy_id, parked in list(self._parked.items()):
            self._store.pause_strategy(strategy_id, parked.reason, parked.traceback)
            del self._parked[strategy_id]

    def _publish(self) -> None:
        rows = self._store.running_strategies()
        wanted = tuple(
            WantedStrategy(id=row.id, name=row.name, cadence_s=float(row.cadence_seconds), revision=row.revision)
            for row in rows
        )
        self._peers.tell("supervisor", Wanted(strategies=wanted))
        self._peers.tell("limiter", Demanded(demands=_demands(rows)))
        for row in rows:
            if self._revisions.get(row.id, row.revision) != row.revision:
                self._peers.tell(f"strategy-{row.id}", StrategyChanged(revision=row.revision))
        self._revisions = {row.id: row.revision for row in rows}

    def _note_store(self, *, up: bool, reason: str | None = None) -> None:
        if up != self._store_is_up:
            self._store_is_up = up
            logger.warning("store_is_back" if up else "store_is_away", reason=reason)


def _demands(rows: Iterable[WantedRow]) -> tuple[Demand, ...]:
    counts = Counter((row.model, float(row.cadence_seconds)) for row in rows)
    return tuple(
        Demand(model=model, cadence_s=cadence_s, strategies=count) for (model, cadence_s), count in counts.items()
    )


def make(settings: Settings, peers: Peers, _argument: str) -> Roster:
    return Roster(open_store(settings, keep=True), peers, settings.sparky_roster_poll_s)
