"""Market data and rate limiter for a strategy's cycle, asked as peers in other processes."""

from uuid import UUID

from actors.messages import AcquirePermit, GetSnapshot, Permit, ReleasePermit, Snapshot
from actors.runtime.actor import Peers
from engine.domain.errors import LlmUnavailable, ModelUnavailable, StrategyFault
from engine.domain.market import MarketSnapshot
from engine.llm.llm_call import LlmCall, LlmOutcome
from engine.llm.retry import PermitGrant
from engine.platform.errors import CycleSkipped, SkipKind, SparkyError

_STRATEGY_FAULT_KINDS = frozenset({SkipKind.UNKNOWN_SYMBOL, SkipKind.TOO_LARGE})


class SharedServicesClient:
    """One strategy's client of the shared actors. A refusal raises CycleSkipped, or StrategyFault."""

    def __init__(self, peers: Peers, strategy_id: UUID) -> None:
        self._peers = peers
        self._id = strategy_id

    def snapshot(self, venue: str, symbol: str, interval: str, deadline: float) -> MarketSnapshot:
        """The latest snapshot. `deadline` is monotonic seconds.

        Raises CycleSkipped when there is no usable data by then, StrategyFault for a symbol that does not exist.
        """
        ask = GetSnapshot(venue=venue, symbol=symbol, interval=interval, deadline=deadline)
        try:
            return self._peers.ask("market", ask, Snapshot).snapshot
        except CycleSkipped as skip:
            raise _to_domain_error(skip) from None

    def acquire(self, model: str, tokens: int, *, holds_position: bool, deadline: float) -> PermitGrant:
        """A permit for one request of at most `tokens`, by the monotonic `deadline`.

        Raises CycleSkipped when there is none by then, StrategyFault when there can never be one, and ModelUnavailable
        or LlmUnavailable when the provider does not serve the model or refuses the account.
        """
        ask = AcquirePermit(
            strategy_id=self._id, model=model, tokens=tokens, holds_position=holds_position, deadline=deadline
        )
        try:
            permit = self._peers.ask("limiter", ask, Permit)
        except CycleSkipped as skip:
            raise _to_domain_error(skip) from None
        return PermitGrant(permit.permit_id, permit.waited_s, tokens)

    def release(self, granted: PermitGrant, call: LlmCall) -> None:
        """Returns the permit. A request whose use is unknown counts with all tokens that were reserved."""
        used = granted.tokens if call.tokens is None else call.tokens
        message = ReleasePermit(
            permit_id=granted.permit_id,
            model=call.model,
            tokens=used if call.sent else None,
            refused=call.outcome is LlmOutcome.RATE_LIMITED,
            limit=call.limit,
            reason=call.reason,
            account_refused=call.account_refusal,
            gone=call.reason or "gone" if call.outcome is LlmOutcome.MODEL_GONE else None,
            is_served=call.completion is not None or call.outcome in (LlmOutcome.UNUSABLE, LlmOutcome.CUT),
            requests_per_day=call.requests_per_day,
            tokens_per_minute=call.tokens_per_minute,
            retry_after_s=call.retry_after_s,
        )
        self._peers.tell("limiter", message)


def _to_domain_error(skip: CycleSkipped) -> SparkyError:
    if skip.kind is SkipKind.MODEL_GONE:
        return ModelUnavailable(str(skip))
    if skip.kind is SkipKind.ACCOUNT_REFUSED:
        return LlmUnavailable(str(skip), skip.retry_after_s)
    return StrategyFault(str(skip)) if skip.kind in _STRATEGY_FAULT_KINDS else skip
