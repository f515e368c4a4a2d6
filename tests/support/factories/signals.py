"""Signals as the engine records them, with what a test says of them."""

from decimal import Decimal
from uuid import UUID

from engine.domain.signal import SignalAction
from engine.domain.signal_payload import SignalPayload, SignalSource
from engine.store.cycles import NewSignal


def new_signal(
    user_id: UUID,
    strategy_id: UUID,
    decision_id: UUID,
    action: SignalAction = SignalAction.BUY,
    *,
    symbol: str = "BTCUSDT",
    size_usd: Decimal = Decimal(100),
    stop_loss_percent: Decimal | None = None,
    confidence: float = 0.9,
    ttl_s: float = 60,
) -> NewSignal:
    """A signal of the decision; size and stop are those of an entry, and left out of an exit."""
    is_entry = action is not SignalAction.CLOSE
    payload = SignalPayload(
        user_id=user_id,
        signal_id=decision_id,
        source=SignalSource.AI_ENGINE,
        action=action,
        exchange="aster",
        symbol=symbol,
        strategy_id=strategy_id,
        position_size_usd=size_usd if is_entry else None,
        stop_loss_percent=stop_loss_percent if is_entry else None,
        ai_confidence=confidence,
    )
    return NewSignal(payload=payload, ttl_s=ttl_s)
