"""One running strategy and the actors it needs: limiter and market are real, and so is the database."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from actors import market_data, rate_limiter
from actors.messages import CycleFinished
from actors.strategy import StrategyActor, make
from engine.admin.strategy_checks import NewStrategy
from engine.deciding.schedule import build_cadence, find_next_tick
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from tests.support.clients.local_peers import LocalPeers

DAY_S, HOUR_S = 86_400.0, 3_600.0


class Scene:
    """One running strategy and the actors it needs."""

    def __init__(self, peers: LocalPeers, store: Store, settings: Settings) -> None:
        self.peers = peers
        self.store = store
        self.settings = settings
        self.actor: StrategyActor | None = None
        peers.start("limiter", lambda: rate_limiter.make(settings, peers, ""))
        peers.start("market", lambda: market_data.make(settings, peers, ""))

    def strategy(self, **changes: Any) -> UUID:
        user_id = self.store.ensure_user("owner@example.com")
        values = {"user_id": user_id, "name": "Example", "status": "running", "cadence_seconds": 1}
        row = self.store.create_strategy(
            NewStrategy.model_validate({**values, "target_assets": ("BTCUSDT",), **changes})
        )
        return row.id

    def silent_strategy(self) -> UUID:
        """One that decides once a day and not within the next hour; its id says when, so a fitting one is sought."""
        while True:
            strategy_id, now = self.strategy(cadence_seconds=DAY_S), time.monotonic()
            if find_next_tick(build_cadence(strategy_id, DAY_S), now) > now + HOUR_S:
                return strategy_id
            self.store.delete_strategy(strategy_id)

    def run(self, strategy_id: UUID) -> StrategyActor:
        made: list[StrategyActor] = []

        def remember() -> StrategyActor:
            made.append(make(self.settings, self.peers, str(strategy_id)))
            return made[0]

        self.peers.start(f"strategy-{strategy_id}", remember)
        self.actor = made[0]
        return made[0]

    def status(self, strategy_id: UUID) -> tuple[str, str | None]:
        row = self.store.get_strategy(strategy_id)
        assert row is not None
        return str(row.status), row.paused_reason

    def cycles(self, count: int, outcome: str | None = None) -> list[CycleFinished]:
        return self.peers.wait_for(CycleFinished, lambda c: outcome in (None, c.outcome), count)


MakeScene = Callable[..., Scene]
