"""The shared limiter: every request to the model passes here, so that the provider's limits hold for the whole host."""

import time
from typing import Final
from uuid import UUID

import structlog

from actors.actor import Actor, Peers, Reply
from actors.messages import AcquirePermit, Failed, LimiterState, Message, Permit, ReleasePermit
from engine.permit_journal import PermitJournal
from engine.permits import Asker, PermitLimits, Permits
from engine.settings import Settings

logger = structlog.get_logger()

_BUSY_TICK_S: Final = 0.02
_IDLE_TICK_S: Final = 0.1
_REPORT_S: Final = 1.0
_LATE_REPLY_S: Final = 0.05  # so that "there is no permit" arrives before the asker stops listening
_HOLDER_GRACE_S: Final = 5.0


class Limiter(Actor):
    """Replies to `AcquirePermit` when the permit is granted, or with `Failed` when its time is up."""

    def __init__(self, settings: Settings, peers: Peers) -> None:
        super().__init__()
        self._peers = peers
        self._hold_s = settings.sparky_llm_timeout_s + _HOLDER_GRACE_S
        self._limits = PermitLimits(
            rpm=settings.sparky_llm_rpm,
            tpm=settings.sparky_llm_tpm,
            rpd=settings.sparky_llm_rpd,
            tpd=settings.sparky_llm_tpd,
            concurrency=settings.sparky_llm_concurrency,
        )
        self._journal = PermitJournal(settings.sparky_home)
        self._permits: dict[str, Permits] = {}
        self._replies: dict[tuple[str, UUID], Reply] = {}
        self._reported_at = 0.0

    def open(self) -> None:
        for sent in self._journal.open():
            self._of(sent.model).count(sent.at, sent.tokens, sent.requests)

    def tick(self, now: float) -> float:
        for model in list(self._permits):
            self._serve(model, now)
        if now - self._reported_at >= _REPORT_S:
            self._reported_at = now
            self._report(now)
        return now + (_BUSY_TICK_S if self._replies else _IDLE_TICK_S)

    def receive(self, message: Message) -> Message | Reply | None:
        if isinstance(message, AcquirePermit):
            return self._acquire(message)
        if isinstance(message, ReleasePermit):
            self._release(message)
            return None
        return super().receive(message)

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - every grant is in the file already
        self._journal.close()

    def _acquire(self, ask: AcquirePermit) -> Message | Reply:
        now = time.monotonic()
        permits = self._of(ask.model)
        impossible = permits.too_large(ask.tokens)
        if impossible is not None:
            return Failed(kind="too_large", reason=impossible)
        self._answer(ask.model, ask.strategy_id, Failed(kind="no_permit", reason="another ask took this one's place"))
        reply = self._replies[ask.model, ask.strategy_id] = Reply()
        deadline = ask.deadline - _LATE_REPLY_S
        permits.ask(Asker(ask.strategy_id, ask.tokens, ask.holds_position, now, deadline))
        self._serve(ask.model, now)
        return reply

    def _release(self, message: ReleasePermit) -> None:
        now = time.monotonic()
        permits = self._of(message.model)
        permits.release(message.permit_id, message.tokens)
        before = permits.limits
        permits.announced(message.requests_per_day, message.tokens_per_minute)
        if permits.limits != before:
            logger.info("limits_announced", model=message.model, **permits.limits.model_dump())
        if message.retry_after_s is not None:
            logger.warning("provider_refused", model=message.model, retry_after_s=message.retry_after_s)
            permits.refused(now, message.retry_after_s)
        self._serve(message.model, now)

    def _serve(self, model: str, now: float) -> None:
        permits = self._of(model)
        for late in permits.expire(now):
            self._answer(model, late.strategy_id, Failed(kind="no_permit", reason=f"no permit for {model} in time"))
        for grant in permits.grants(now):
            self._journal.sent(model, now, grant.asker.tokens)
            self._answer(model, grant.asker.strategy_id, Permit(permit_id=grant.permit_id, waited_s=grant.waited_s))

    def _answer(self, model: str, strategy_id: UUID, message: Message) -> None:
        reply = self._replies.pop((model, strategy_id), None)
        if reply is not None:
            reply.set(message)

    def _report(self, now: float) -> None:
        for model, permits in self._permits.items():
            length, oldest_wait_s = permits.queue(now)
            limit = permits.limits.model_dump(exclude_none=True)
            state = LimiterState(
                model=model, queue_length=length, oldest_wait_s=oldest_wait_s, used=permits.used(now), limit=limit
            )
            self._peers.tell("monitor", state)

    def _of(self, model: str) -> Permits:
        if model not in self._permits:
            self._permits[model] = Permits(self._limits, self._hold_s)
        return self._permits[model]


def make(settings: Settings, peers: Peers, argument: str) -> Limiter:  # noqa: ARG001 - there is one limiter
    return Limiter(settings, peers)
