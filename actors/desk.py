"""The market and the limiter as a cycle sees them, reached as peers."""

from uuid import UUID

from actors.actor import Peers
from actors.messages import AcquirePermit, GetSnapshot, Permit, ReleasePermit, Snapshot
from engine.attempts import Granted
from engine.calls import Call, Outcome
from engine.errors import ModelGone, Skip, SparkyError, StrategyFault
from engine.types import MarketSnapshot

# A refusal without a wish that makes sense still asks everybody to hold back for a moment.
_LEAST_REFUSAL_S = 1.0
_OWN_DOING = frozenset({"unknown_symbol", "too_large"})


class PeersDesk:
    """One strategy's way to the shared actors. A refusal is a Skip, or a StrategyFault if it is the row's own doing."""

    def __init__(self, peers: Peers, strategy_id: UUID) -> None:
        self._peers = peers
        self._id = strategy_id

    def snapshot(self, venue: str, symbol: str, interval: str, deadline: float) -> MarketSnapshot:
        """Raises Skip when there is no usable data by `deadline`, StrategyFault for a symbol that does not exist."""
        ask = GetSnapshot(venue=venue, symbol=symbol, interval=interval, deadline=deadline)
        try:
            return self._peers.ask("market", ask, Snapshot).snapshot
        except Skip as skip:
            raise _as_it_is(skip) from None

    def acquire(self, model: str, tokens: int, *, holds_position: bool, deadline: float) -> Granted:
        """Raises Skip when there is no permit by `deadline`, StrategyFault when there can never be one.

        Raises ModelGone when the provider told somebody else that it does not serve the model any more.
        """
        ask = AcquirePermit(
            strategy_id=self._id, model=model, tokens=tokens, holds_position=holds_position, deadline=deadline
        )
        try:
            permit = self._peers.ask("limiter", ask, Permit)
        except Skip as skip:
            raise _as_it_is(skip) from None
        return Granted(permit.permit_id, permit.waited_s, tokens)

    def release(self, granted: Granted, call: Call) -> None:
        """Unknown use counts as all that was reserved."""
        used = granted.tokens if call.tokens is None else call.tokens
        is_refused = call.outcome is Outcome.RATE_LIMITED
        is_gone = call.outcome is Outcome.MODEL_GONE
        message = ReleasePermit(
            permit_id=granted.permit_id,
            model=call.model,
            tokens=used if call.sent else None,
            gone=call.reason or call.outcome.value if is_gone else None,
            is_served=call.outcome in (Outcome.OK, Outcome.UNUSABLE),
            requests_per_day=call.requests_per_day,
            tokens_per_minute=call.tokens_per_minute,
            retry_after_s=max(call.retry_after_s or 0.0, _LEAST_REFUSAL_S) if is_refused else None,
        )
        self._peers.tell("limiter", message)


def _as_it_is(skip: Skip) -> SparkyError:
    if skip.kind == "model_gone":
        return ModelGone(str(skip))
    return StrategyFault(str(skip)) if skip.kind in _OWN_DOING else skip
