"""The shared limiter: every request to the model passes here, so that the provider's limits hold for the whole host."""

import time
from typing import Final
from uuid import UUID

import structlog

from actors.actor import Actor, Peers, Reply
from actors.messages import (
    AcquirePermit,
    Demand,
    Demanded,
    Failed,
    LimiterState,
    Message,
    Permit,
    ReleasePermit,
    StrategyEnded,
)
from engine.announced_limits import AnnouncedLimits
from engine.capacity import FIRST_TOKENS_PER_REQUEST, Capacity, Want, capacity
from engine.gone_models import GoneModels
from engine.permit_journal import PermitJournal
from engine.permits import MARGIN_S, MINUTE_S, Asker, PermitLimits, Permits
from engine.settings import Settings

logger = structlog.get_logger()

_BUSY_TICK_S: Final = 0.02
_IDLE_TICK_S: Final = 0.1
_REPORT_S: Final = 1.0
_LATE_REPLY_S: Final = 0.05  # so that "there is no permit" arrives before the asker stops listening
_HOLDER_GRACE_S: Final = 5.0
_NEWS: Final = 0.05  # weight of the latest request in what a request uses


class Limiter(Actor):
    """Replies to `AcquirePermit` when the permit is granted, or with `Failed` when its time is up or the model gone."""

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
        self._announced = AnnouncedLimits(settings.sparky_home)
        self._held_back_until = 0.0
        self._permits: dict[str, Permits] = {}
        self._replies: dict[tuple[str, UUID], Reply] = {}
        self._reported_at = 0.0
        self._models = settings.groq_model
        self._default = settings.groq_model[0]
        self._demands: tuple[Demand, ...] = ()
        self._tokens: dict[str, float] = {}
        self._told: dict[str, tuple[float, str | None, bool]] = {}
        self._gone = GoneModels()

    def open(self) -> None:
        recent = self._journal.open()
        if not self._journal.is_whole:
            self._held_back_until = time.monotonic() + MINUTE_S + MARGIN_S
        for sent in recent:
            self._of(sent.model).count(sent.at, sent.tokens, sent.requests)
        for model, limits in self._announced.load().items():
            self._of(model).announced(limits.requests_per_day, limits.tokens_per_minute)

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
        if isinstance(message, Demanded):
            self._demands = message.demands
            return None
        if isinstance(message, StrategyEnded):
            self._free(message)
            return None
        return super().receive(message)

    def close(self, grace_s: float) -> None:  # noqa: ARG002 - every grant is in the file already
        self._journal.close()

    def _acquire(self, ask: AcquirePermit) -> Message | Reply:
        now = time.monotonic()
        gone = self._gone.reason_not_to_ask(ask.model, now)
        if gone is not None:
            return Failed(kind="model_gone", reason=gone)
        if ask.model in self._models:
            self._default = ask.model
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

    def _free(self, message: StrategyEnded) -> None:
        for model, permits in self._permits.items():
            if permits.ended(message.strategy_id, message.at):
                del self._replies[model, message.strategy_id]  # nobody is there to hear it
            self._serve(model, time.monotonic())

    def _release(self, message: ReleasePermit) -> None:
        now = time.monotonic()
        self._note_whether_served(message, now)
        permits = self._of(message.model)
        permits.release(message.permit_id, message.tokens)
        if message.tokens:
            before_it = self._tokens.get(message.model, float(message.tokens))
            self._tokens[message.model] = before_it + (message.tokens - before_it) * _NEWS
        before = permits.limits
        permits.announced(message.requests_per_day, message.tokens_per_minute)
        self._announced.note(message.model, message.requests_per_day, message.tokens_per_minute)
        if permits.limits != before:
            logger.info("limits_announced", model=message.model, **permits.limits.model_dump())
        if message.retry_after_s is not None:
            logger.warning("provider_refused", model=message.model, retry_after_s=message.retry_after_s)
            permits.refused(now, message.retry_after_s)
        self._serve(message.model, now)

    def _note_whether_served(self, message: ReleasePermit, now: float) -> None:
        """Each change is told once for the whole host, however many strategies want the model."""
        model = message.model
        if message.gone is not None and self._gone.gone(model, message.gone, now):
            advice = "name another one in GROQ_MODEL or in the rows"
            logger.error("model_gone", model=model, reason=message.gone, advice=advice)
        elif message.is_served and self._gone.served(model):
            logger.info("model_is_back", model=model)

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
        wants = self._wants()
        for model in self._permits.keys() | wants.keys():
            permits = self._of(model)
            length, oldest_wait_s = permits.queue(now)
            limit = permits.limits.model_dump(exclude_none=True)
            state = LimiterState(
                model=model,
                queue_length=length,
                oldest_wait_s=oldest_wait_s,
                used=permits.used(now),
                limit=limit,
                gone=self._gone.known(model),
            )
            carried = self._carried(model, wants.get(model, []), permits)
            self._peers.tell("monitor", state.model_copy(update=carried.model_dump()))

    def _wants(self) -> dict[str, list[Want]]:
        """By model. Who names none asks the settings' model that was asked last: another one may be gone."""
        wants: dict[str, list[Want]] = {}
        for demand in self._demands:
            want = Want(cadence_s=demand.cadence_s, strategies=demand.strategies)
            wants.setdefault(demand.model or self._default, []).append(want)
        return wants

    def _carried(self, model: str, wants: list[Want], permits: Permits) -> Capacity:
        """Need against limit, told in the log whenever the verdict is another."""
        found = capacity(wants, permits.limits, self._tokens.get(model, FIRST_TOKENS_PER_REQUEST))
        verdict = (
            found.need_rpm if found.is_short else 0.0,
            found.limited_by if found.is_short else None,
            found.is_short,
        )
        if verdict != self._told.get(model, (0.0, None, False)):
            self._told[model] = verdict
            figures = {key: round(value, 1) if isinstance(value, float) else value for key, value in found}
            if found.is_short:
                logger.warning("limit_cannot_carry_all", model=model, **figures)
            else:
                logger.info("limit_carries_all", model=model, **figures)
        return found

    def _of(self, model: str) -> Permits:
        if model not in self._permits:
            self._permits[model] = Permits(self._limits, self._hold_s)
            self._permits[model].refused(self._held_back_until, 0.0)
        return self._permits[model]


def make(settings: Settings, peers: Peers, argument: str) -> Limiter:  # noqa: ARG001 - there is one limiter
    return Limiter(settings, peers)
