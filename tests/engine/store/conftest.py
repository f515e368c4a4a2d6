"""A strategy to work with, and short ways to say what the tests do to it."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.domain.signal import SignalAction
from engine.domain.strategy import StrategyStatus
from engine.store.admin_rows import StrategyRow
from engine.store.cycles import DecisionRecord, RecordedDecision
from engine.store.store import Store
from engine.store.webhook_rows import BookedFill, Fill
from tests.support.factories.signals import new_signal

ACTION = {Action.LONG: SignalAction.BUY, Action.SHORT: SignalAction.SELL, Action.CLOSE: SignalAction.CLOSE}


class Desk:
    """One user with strategies, and the verbs of their life."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.user_id = store.ensure_user("trader@example.org")
        self._fills = 0

    def strategy(self, name: str = "one", **values: object) -> StrategyRow:
        fields = {"user_id": self.user_id, "name": name, "status": StrategyStatus.RUNNING, **values}
        return self.store.create_strategy(NewStrategy.from_input(fields))

    def decide(
        self,
        strategy_id: UUID,
        action: Action = Action.LONG,
        symbol: str = "BTCUSDT",
        *,
        ttl_s: float = 60,
        decision_id: UUID | None = None,
        cost_usd: Decimal = Decimal("0.0001"),
    ) -> RecordedDecision:
        size = Decimal("123.45")
        record = DecisionRecord(action=action, symbol=symbol, size_usd=size, confidence=0.7, cost_usd=cost_usd)
        decision_id, signal = decision_id or uuid4(), None
        if action is not Action.HOLD:
            signal = new_signal(
                self.user_id, strategy_id, decision_id, ACTION[action], symbol=symbol, size_usd=size, ttl_s=ttl_s
            )
        return self.store.record_decision(decision_id, strategy_id, record, signal)

    def begin(self, request_id: str, strategy_id: UUID | None = None, fingerprint: str = "f") -> str:
        began = self.store.begin_execution(
            None,
            request_id,
            self.user_id,
            strategy_id,
            "aster",
            "BTCUSDT",
            "BUY",
            fingerprint,
            {"size": 1},
            is_paper=True,
        )
        return began.state

    def fill(
        self,
        kind: str,
        price: str,
        quantity: str = "1",
        *,
        side: Side = Side.LONG,
        fee: str = "0",
        strategy_id: UUID | None = None,
        symbol: str = "BTCUSDT",
        is_paper: bool = True,
        request_id: str | None = None,
    ) -> BookedFill:
        """Begins a request and books its one fill."""
        self._fills += 1
        request_id = request_id or f"request-{self._fills}"
        self.begin(request_id, strategy_id)
        fill = Fill.model_validate(
            {
                "kind": kind,
                "exchange": "aster",
                "symbol": symbol,
                "side": side,
                "quantity": Decimal(quantity),
                "price": Decimal(price),
                "fee_usd": Decimal(fee),
                "is_paper": is_paper,
                "strategy_id": strategy_id,
            }
        )
        return self.store.book_fill(request_id, self.user_id, fill, 200, {"success": True})


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)
