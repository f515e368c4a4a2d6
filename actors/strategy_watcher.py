"""Reads from the store which strategies should run, and tells the supervisor, which has no database."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import structlog

from actors.messages import LlmDemand, LlmDemandReport, StrategyChanged, UnattendedPositions
from actors.runtime.actor import Actor, Peers
from actors.runtime.messages import ChildParked, DesiredChild, DesiredChildren, Message
from actors.strategy_process_names import build_process_name, parse_strategy_id
from engine.domain.errors import Superseded
from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.platform.settings.component_settings import StrategyWatcherSettings
from engine.platform.settings.setting_values import model_name
from engine.store.cycles import RunnableStrategy
from engine.store.store import Store, open_store

logger = structlog.get_logger()

UNATTENDED_EVERY_S: Final = 15.0
_MAX_WRITE_S: Final = 5.0  # of one tick: a thousand rows to pause must not take longer than the tick's deadline


class StrategyWatcher(Actor):
    """While the store is away it sends nothing, so that the supervisor goes on with the strategies that run."""

    def __init__(self, store: Store, peers: Peers, poll_s: float) -> None:
        super().__init__()
        self._store = store
        self._peers = peers
        self._poll_s = poll_s
        self._revisions: dict[UUID, str] = {}
        self._parked: dict[UUID, ChildParked] = {}
        self._store_is_up = True
        self._next_count_at = 0.0
        self._can_count_unattended = True

    def tick(self, now: float) -> float:
        try:
            rows = self._store.list_running_strategies()
            parked = self._pause_parked(rows, now + _MAX_WRITE_S)
            self._publish([row for row in rows if row.id not in parked])
            self._count_unattended(now)
            self._log_store_state(up=True)
        except (UpstreamUnavailable, Superseded) as error:
            self._log_store_state(up=False, reason=str(error))
        return now + self._poll_s

    def receive(self, message: Message) -> None:
        if not isinstance(message, ChildParked):
            raise TypeError(f"the strategy watcher does not know {type(message).__name__}")
        strategy_id = parse_strategy_id(message.name)
        if strategy_id is not None:
            self._parked[strategy_id] = message

    def should_tick_now(self, message: Message) -> bool:
        return isinstance(message, ChildParked)

    def _pause_parked(self, rows: Iterable[RunnableStrategy], until: float) -> set[UUID]:
        """Pauses the rows of parked strategies, and returns the ids of those that were paused.

        What cannot be written before `until` (monotonic seconds) is kept for the next tick. A row that has changed
        since its strategy was parked is left alone: the supervisor starts it afresh.
        """
        revisions = {row.id: row.revision for row in rows}
        written = set()
        for strategy_id, parked in list(self._parked.items()):
            if time.monotonic() > until:
                break
            if revisions.get(strategy_id) == parked.revision:
                self._store.pause_strategy(strategy_id, parked.reason, parked.traceback)
                written.add(strategy_id)
            del self._parked[strategy_id]
        return written

    def _publish(self, rows: Sequence[RunnableStrategy]) -> None:
        wanted = tuple(
            DesiredChild(name=build_process_name(row.id), title=row.name, revision=row.revision) for row in rows
        )
        self._peers.tell("supervisor", DesiredChildren(children=wanted))
        self._peers.tell("limiter", LlmDemandReport(demands=_build_demands(rows)))
        for row in rows:
            if self._revisions.get(row.id, row.revision) != row.revision:
                self._peers.tell(build_process_name(row.id), StrategyChanged(revision=row.revision))
        revisions = {row.id: row.revision for row in rows}
        if revisions != self._revisions:
            self._next_count_at = 0.0  # positions of a strategy that was stopped may be unattended now
        self._revisions = revisions

    def _count_unattended(self, now: float) -> None:
        """Tells the monitor the number of unattended positions, every 15 s and when the running rows have changed.

        A schema that lacks the function, which came with a migration, is logged once: strategies run without it.
        """
        if now < self._next_count_at:
            return
        try:
            books = Counter(each.is_paper for each in self._store.list_unattended_positions())
        except ConfigurationError as error:
            if self._can_count_unattended:
                logger.warning("unattended_positions_not_counted", reason=str(error))
            self._can_count_unattended, self._next_count_at = False, now + UNATTENDED_EVERY_S
            return
        self._can_count_unattended, self._next_count_at = True, now + UNATTENDED_EVERY_S
        self._peers.tell("monitor", UnattendedPositions(paper=books[True], live=books[False]))

    def _log_store_state(self, *, up: bool, reason: str | None = None) -> None:
        if up != self._store_is_up:
            self._store_is_up = up
            if up:
                logger.info("store_recovered")
            else:
                logger.warning("store_unavailable", reason=reason)


def _build_demands(rows: Iterable[RunnableStrategy]) -> tuple[LlmDemand, ...]:
    """Groups rows by model and cadence. Rows with an invalid model name are left out: their strategies never ask."""
    counts = Counter((row.model, float(row.cadence_seconds)) for row in rows if _is_valid_model(row.model))
    return tuple(
        LlmDemand(model=model, cadence_s=cadence_s, strategies=count) for (model, cadence_s), count in counts.items()
    )


def _is_valid_model(model: str | None) -> bool:
    try:
        return model is None or bool(model_name(model))
    except ValueError:
        return False


def make(settings: StrategyWatcherSettings, peers: Peers, argument: str) -> StrategyWatcher:
    """`argument` is the id of the engine's run."""
    return StrategyWatcher(
        open_store(settings, keep=True, engine=UUID(argument)), peers, settings.sparky_strategy_poll_s
    )
