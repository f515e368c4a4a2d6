"""A person with strategies on a running product, their signals, and what must be true of each once all is settled."""

import random
import time
from collections import Counter
from decimal import Decimal
from uuid import UUID, uuid4

from engine.admin.demo_data import generate_webhook_secret
from engine.admin.strategy_checks import NewStrategy
from engine.deciding.schedule import build_cadence, find_next_tick
from engine.domain.decision import Action
from engine.domain.errors import Superseded
from engine.domain.signal import SignalAction
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import UpstreamUnavailable
from engine.risk.entry_rules import UNRESTRICTED
from engine.store.cycles import DecisionRecord
from engine.store.store import Store
from tests.support.factories.keys import aster_keys
from tests.support.factories.signals import new_signal
from tests.support.processes.sparky import Sparky, named_for_engine

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
PROTECTIVE = ("STOP_MARKET", "TAKE_PROFIT_MARKET")
LIVE, PAPER = 4, 3
DAY_S, SILENT_S = 86_400, 3_600
ENDS = {"delivered", "refused", "expired", "dead"}


def people(store: Store) -> tuple[UUID, list[UUID]]:
    """One person with an account at the venue and a webhook secret; live strategies first, then paper ones."""
    user = store.ensure_user("trader@example.org")
    store.set_webhook_secret(user, generate_webhook_secret())
    store.put_credentials(user, "aster", aster_keys())
    return user, [silent(store, user, f"s{number}", is_paper=number >= LIVE) for number in range(LIVE + PAPER)]


def silent(store: Store, user_id: UUID, name: str, *, is_paper: bool) -> UUID:
    """A running strategy whose signals are all the test's. Even a daily one decides by itself at an hour that its id
    gives, which is now and then this one: such a row is made anew."""
    while True:
        before = time.monotonic()
        row = store.create_strategy(
            NewStrategy(
                user_id=user_id,
                name=name,
                status=StrategyStatus.RUNNING,
                is_paper_trading=is_paper,
                cadence_seconds=DAY_S,
                max_drawdown_percent=90,
                **UNRESTRICTED.model_dump(),
            )
        )
        if find_next_tick(build_cadence(row.id, DAY_S), before) > before + SILENT_S:
            return row.id
        store.delete_strategy(row.id)


def record(product: Sparky, store: Store, strategy_id: UUID, dice: random.Random) -> SignalAction:
    """One decision with its signal, now and then recorded twice as by a strategy that lost the answer; while the
    database is away it is tried again, as the same decision."""
    action = dice.choice((SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE))
    symbol = dice.choice(SYMBOLS)
    stop = dice.choice((None, Decimal(20))) if action is not SignalAction.CLOSE else None
    decided = DecisionRecord(action=Action.LONG, symbol=symbol, size_usd=Decimal(100), confidence=0.9)
    decision_id = uuid4()

    def is_recorded() -> bool:
        try:
            row = store.get_strategy(strategy_id)
            assert row is not None
            signal = new_signal(
                row.user_id, strategy_id, decision_id, action, symbol=symbol, stop_loss_percent=stop, ttl_s=600
            )
            store.record_decision(decision_id, strategy_id, decided, signal)
        except UpstreamUnavailable:
            return False
        except Superseded:  # the engine was killed meanwhile, and another one runs
            named_for_engine(store)
            return False
        return True

    for _ in range(dice.choice((1, 1, 1, 2))):
        product.wait_for(is_recorded, "the database taking a decision")
    return action


def all_settled(store: Store) -> bool:
    return store.count_pending_signals() == 0 and not store.list_unfinished_requests()


def check_signals(store: Store, count: int) -> None:
    """There are `count`, and each has one end, with a trace of every attempt."""
    rows = store.list_signals(limit=10_000)
    assert len(rows) == count, Counter(row.strategy_name for row in rows)
    for row in rows:
        history = store.get_signal(row.id)
        assert history is not None
        assert row.status in ENDS, row
        ends = [each for each in history.history if each.outcome != "retry"]
        assert len(ends) == 1, history
        assert {each.attempt for each in history.history} >= set(range(1, row.attempts + 1)), history
