"""The shared limiter: every request to the model passes here, so that the provider's limits hold for the whole host."""

import time
from typing import Any, Final
from uuid import UUID

import structlog

from actors.messages import (
    AcquirePermit,
    AskedElsewhere,
    Demand,
    Demanded,
    LimiterState,
    Permit,
    ReleasePermit,
)
from actors.runtime.actor import Actor, Peers, Reply
from actors.runtime.messages import Failed, Message, StrategyEnded
from engine.domain.completion import LIMIT_WORDS
from engine.domain.provider_messages import refusal_until
from engine.llm.model_availability import ACCOUNT, Availability
from engine.platform.settings.settings import Settings
from engine.ratelimit.capacity import Capacity, RequestTokens, Want, capacity
from engine.ratelimit.grant_log import PermitJournal
from engine.ratelimit.provider_limits import AnnouncedLimits
from engine.ratelimit.scheduler import MARGIN_S, MINUTE_S, Asker, PermitLimits, Permits

logger = structlog.get_logger()

_BUSY_TICK_S: Final = 0.02
_IDLE_TICK_S: Final = 0.1
_REPORT_S: Final = 1.0
_LATE_REPLY_S: Final = 0.05  # so that "there is no permit" arrives before the asker stops listening
_HOLDER_GRACE_S: Final = 5.0
_SHOWN_REFUSAL_S: Final = 60.0  # a shorter refusal is the ordinary way of a limit, and told in the log alone
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
        self._journal = PermitJournal(settings.sparky_home, settings.groq_base_url)
        self._announced = AnnouncedLimits(settings.sparky_home, settings.groq_base_url)
        self._hold_until = 0.0
        self._permits: dict[str, Permits] = {}
        self._replies: dict[tuple[str, UUID], Reply] = {}
        self._reported_at = 0.0
        self._models = settings.groq_model
        self._default = settings.groq_model[0]
        self._demands: tuple[Demand, ...] = ()
        self._tokens: dict[str, dict[str, float]] = {}
        self._told: dict[str, tuple[float, str | None, bool]] = {}
        self._available = Availability()  # by model
        self._account = Availability()

    def open(self) -> None:
        recent = self._journal.open()
        if not self._journal.is_whole:
            self._hold_until = time.monotonic() + MINUTE_S + MARGIN_S
        for sent in recent:
            self._of(sent.model).count(sent.at, sent.tokens, sent.requests)
        for model, limits in self._announced.load().items():
            self._of(model).announced(limits.by_name(time.time()))

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
        if isinstance(message, AskedElsewhere):
            self._count(message)
            return None
        if isinstance(message, StrategyEnded):
            self._free(message)
            return None
        return super().receive(message)

    def on_stop(self) -> None:
        """On the thread that writes: a permit that comes back meanwhile would open the journal again."""
        self._journal.close()

    def _acquire(self, ask: AcquirePermit) -> Message | Reply:
        now = time.monotonic()
        permits = self._of(ask.model)
        refusal = self._refusal(ask, permits, now)
        if refusal is not None:
            return refusal
        if ask.model in self._models:
            self._default = ask.model
        self._note_tokens(ask.model, reserved=ask.tokens)
        self._answer(ask.model, ask.strategy_id, Failed(kind="no_permit", reason="another ask took this one's place"))
        reply = self._replies[ask.model, ask.strategy_id] = Reply()
        deadline = ask.deadline - _LATE_REPLY_S
        permits.ask(Asker(ask.strategy_id, ask.tokens, ask.holds_position, now, deadline))
        self._serve(ask.model, now)
        return reply

    def _refusal(self, ask: AcquirePermit, permits: Permits, now: float) -> Failed | None:
        """Why there can be no permit for `ask`, as far as is known at once."""
        impossible = permits.too_large(ask.tokens)
        if impossible is not None:
            return Failed(kind="too_large", reason=impossible)
        hold = permits.refusal
        if hold is not None and hold.until > ask.deadline:
            until = refusal_until(time.time() + hold.until - now, hold.reason)
            return Failed(kind="no_permit", reason=until)
        account = self._account.reason_not_to_ask(ACCOUNT, now)
        if account is not None:
            return Failed(kind="account_refused", reason=account)
        gone = self._available.reason_not_to_ask(ask.model, now)
        return None if gone is None else Failed(kind="model_gone", reason=gone)

    def _count(self, message: AskedElsewhere) -> None:
        for asked in message.asked:
            self._of(asked.model).count(asked.at, asked.tokens, asked.requests)
            self._journal.sent(asked.model, asked.at, asked.tokens, asked.requests)

    def _free(self, message: StrategyEnded) -> None:
        for model, permits in self._permits.items():
            if permits.ended(message.strategy_id, message.at):
                del self._replies[model, message.strategy_id]  # nobody is there to hear it
            self._serve(model, time.monotonic())

    def _release(self, message: ReleasePermit) -> None:
        now = time.monotonic()
        self._note_whether_served(message, now)
        permits = self._of(message.model)
        correction = permits.release(message.permit_id, message.tokens)
        if correction is not None:
            self._journal.sent(message.model, correction.at, correction.tokens, correction.requests)
        if message.tokens:
            self._note_tokens(message.model, used=message.tokens)
        self._announced.note(message.model, message.requests_per_day, message.tokens_per_minute, message.limit)
        self._apply_announced(message.model)
        if message.refused:
            self._back_off(message, permits, now)
        self._serve(message.model, now)

    def _apply_announced(self, model: str) -> None:
        permits = self._of(model)
        before = permits.limits
        permits.announced(self._announced.of(model).by_name(time.time()))
        if permits.limits != before:
            logger.info("limits_announced", model=model, **permits.limits.model_dump())

    def _note_tokens(self, model: str, **tokens: int) -> None:
        """Moves the averages of `reserved` and `used` tokens towards the latest request's; the first is an average."""
        averages = self._tokens.setdefault(model, {})
        for name, value in tokens.items():
            average = averages.get(name, float(value))
            averages[name] = average + (value - average) * _NEWS

    def _back_off(self, message: ReleasePermit, permits: Permits, now: float) -> None:
        """Everybody waits; told once, however many were under way."""
        words = LIMIT_WORDS[message.limit.name] if message.limit else message.reason or "too many requests"
        is_news = permits.back_off(now, message.retry_after_s, words)
        if is_news and permits.refusal is not None:
            wait_s = round(permits.refusal.seconds, 1)
            logger.warning(
                "provider_refused", model=message.model, by=words, retry_after_s=wait_s, reason=message.reason
            )

    def _note_whether_served(self, message: ReleasePermit, now: float) -> None:
        """Each change is told once for the whole host, however many strategies want the model."""
        model = message.model
        if message.gone is not None and self._available.refused(model, message.gone, now):
            advice = "name another one in GROQ_MODEL or in the rows"
            logger.error("model_gone", model=model, reason=message.gone, advice=advice)
        if message.account_refused is not None and self._account.refused(ACCOUNT, message.account_refused, now):
            logger.error("provider_refuses_account", reason=message.account_refused)
        if not message.is_served:
            return
        self._of(model).on_success()
        if self._available.served(model):
            logger.info("model_is_back", model=model)
        if self._account.served(ACCOUNT):
            logger.info("provider_accepts_account", model=model)

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
            self._apply_announced(model)
            length, oldest_wait_s = permits.queue(now)
            limit = permits.limits.model_dump(exclude_none=True)
            state = LimiterState(
                model=model,
                queue_length=length,
                oldest_wait_s=oldest_wait_s,
                used=permits.used(now),
                limit=limit,
                gone=self._available.reason(model),
                account_refused=self._account.reason(ACCOUNT),
                **_refusal_fields(permits, now),
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
        found = capacity(wants, permits.limits, RequestTokens(**self._tokens.get(model, {})))
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
            self._permits[model].hold_until(self._hold_until)
        return self._permits[model]


def _refusal_fields(permits: Permits, now: float) -> dict[str, Any]:
    """`refused_until` and `refused_by` of a `LimiterState`, while a long refusal of the provider holds."""
    hold = permits.refusal
    if hold is None or hold.until <= now or hold.seconds < _SHOWN_REFUSAL_S:
        return {}
    return {"refused_until": time.time() + hold.until - now, "refused_by": hold.reason}


def make(settings: Settings, peers: Peers, argument: str) -> Limiter:  # noqa: ARG001 - there is one limiter
    return Limiter(settings, peers)
