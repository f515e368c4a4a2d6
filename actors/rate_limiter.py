"""Permits for requests to the model, for all strategies: the provider's limits hold for the whole host."""

import time
from typing import Any, Final
from uuid import UUID

import structlog

from actors.messages import (
    AcquirePermit,
    LimiterState,
    LlmDemand,
    LlmDemandReport,
    Permit,
    PriorLlmUsage,
    ReleasePermit,
)
from actors.runtime.actor import Actor, Peers, ReplyFuture
from actors.runtime.messages import ChildEnded, ErrorReply, Message
from actors.strategy_process_names import parse_strategy_id
from engine.domain.completion import LIMIT_WORDS
from engine.domain.provider_messages import describe_refusal
from engine.llm.model_availability import ACCOUNT, Availability
from engine.platform.errors import SkipKind
from engine.platform.settings.component_settings import RateLimiterSettings
from engine.ratelimit.capacity import Capacity, Demand, RequestTokens, compute_capacity
from engine.ratelimit.grant_log import GrantLog
from engine.ratelimit.provider_limits import ProviderLimitsFile
from engine.ratelimit.scheduler import MARGIN_S, MINUTE_S, PermitLimits, PermitRequest, PermitScheduler

logger = structlog.get_logger()

_BUSY_TICK_S: Final = 0.02
_IDLE_TICK_S: Final = 0.1
_REPORT_S: Final = 1.0
_REPLY_MARGIN_S: Final = 0.05  # so that "no permit" arrives before the asker's deadline
_PERMIT_GRACE_S: Final = 5.0  # beyond the request's own timeout; then a permit that was not released counts as lost
_MIN_REPORTED_REFUSAL_S: Final = 60.0  # shorter refusals are usual at a limit, and are only logged
_EWMA_WEIGHT: Final = 0.05  # weight of the latest request in what a request uses


class RateLimiter(Actor):
    """Replies to `AcquirePermit` when the permit is granted, or with `ErrorReply` when it cannot be granted in time."""

    def __init__(self, settings: RateLimiterSettings, peers: Peers) -> None:
        super().__init__()
        self._peers = peers
        self._hold_s = settings.sparky_llm_timeout_s + _PERMIT_GRACE_S
        self._limits = PermitLimits(
            rpm=settings.sparky_llm_rpm,
            tpm=settings.sparky_llm_tpm,
            rpd=settings.sparky_llm_rpd,
            tpd=settings.sparky_llm_tpd,
            concurrency=settings.sparky_llm_concurrency,
        )
        self._journal = GrantLog(settings.sparky_home, settings.groq_base_url)
        self._announced = ProviderLimitsFile(settings.sparky_home, settings.groq_base_url)
        self._hold_until = 0.0
        self._permits: dict[str, PermitScheduler] = {}
        self._replies: dict[tuple[str, UUID], ReplyFuture] = {}
        self._reported_at = 0.0
        self._models = settings.groq_model
        self._default_model = settings.groq_model[0]
        self._demands: tuple[LlmDemand, ...] = ()
        self._average_tokens: dict[str, dict[str, float]] = {}
        self._logged_capacity: dict[str, tuple[float, str | None, bool]] = {}
        self._model_availability = Availability()  # by model
        self._account_availability = Availability()

    def open(self) -> None:
        recent = self._journal.open()
        if not self._journal.is_whole:
            self._hold_until = time.monotonic() + MINUTE_S + MARGIN_S
        for sent in recent:
            self._get_permits(sent.model).restore(sent.at, sent.tokens, sent.requests)
        for model, limits in self._announced.load().items():
            self._get_permits(model).apply_provider_limits(limits.get_sizes(time.time()))

    def tick(self, now: float) -> float:
        for model in list(self._permits):
            self._grant_waiting(model, now)
        if now - self._reported_at >= _REPORT_S:
            self._reported_at = now
            self._report(now)
        return now + (_BUSY_TICK_S if self._replies else _IDLE_TICK_S)

    def receive(self, message: Message) -> Message | ReplyFuture | None:
        if isinstance(message, AcquirePermit):
            return self._acquire(message)
        if isinstance(message, ReleasePermit):
            self._release(message)
            return None
        if isinstance(message, LlmDemandReport):
            self._demands = message.demands
            return None
        if isinstance(message, PriorLlmUsage):
            self._count_prior_usage(message)
            return None
        if isinstance(message, ChildEnded):
            self._release_ended_strategy(message)
            return None
        return super().receive(message)

    def on_stop(self) -> None:
        """Closes the journal here, on the actor's thread: a permit released later would open it again."""
        self._journal.close()

    def _acquire(self, ask: AcquirePermit) -> Message | ReplyFuture:
        now = time.monotonic()
        permits = self._get_permits(ask.model)
        refusal = self._find_refusal(ask, permits, now)
        if refusal is not None:
            return refusal
        if ask.model in self._models:
            self._default_model = ask.model
        self._update_average_tokens(ask.model, reserved=ask.tokens)
        self._send_reply(
            ask.model, ask.strategy_id, ErrorReply(kind=SkipKind.NO_PERMIT, reason="another ask took this one's place")
        )
        reply = self._replies[ask.model, ask.strategy_id] = ReplyFuture()
        deadline = ask.deadline - _REPLY_MARGIN_S
        permits.enqueue(PermitRequest(ask.strategy_id, ask.tokens, ask.holds_position, now, deadline))
        self._grant_waiting(ask.model, now)
        return reply

    def _find_refusal(self, ask: AcquirePermit, permits: PermitScheduler, now: float) -> ErrorReply | None:
        """Why `ask` cannot be granted before its deadline, as far as that is known now; None if it may be."""
        impossible = permits.find_impossible_reason(ask.tokens)
        if impossible is not None:
            return ErrorReply(kind=SkipKind.TOO_LARGE, reason=impossible)
        hold = permits.refusal
        if hold is not None and hold.until > ask.deadline:
            until = describe_refusal(time.time() + hold.until - now, hold.reason)
            return ErrorReply(kind=SkipKind.NO_PERMIT, reason=until, retry_after_s=max(0.0, hold.until - now))
        account = self._account_availability.find_unavailable_reason(ACCOUNT, now)
        if account is not None:
            return ErrorReply(kind=SkipKind.ACCOUNT_REFUSED, reason=account)
        gone = self._model_availability.find_unavailable_reason(ask.model, now)
        return None if gone is None else ErrorReply(kind=SkipKind.MODEL_GONE, reason=gone)

    def _count_prior_usage(self, message: PriorLlmUsage) -> None:
        for asked in message.asked:
            self._get_permits(asked.model).restore(asked.at, asked.tokens, asked.requests)
            self._journal.append(asked.model, asked.at, asked.tokens, asked.requests)

    def _release_ended_strategy(self, message: ChildEnded) -> None:
        strategy_id = parse_strategy_id(message.name)
        if strategy_id is None:
            return
        for model, permits in self._permits.items():
            if permits.release_strategy(strategy_id, message.at):
                del self._replies[model, strategy_id]  # its asker has ended
            self._grant_waiting(model, time.monotonic())

    def _release(self, message: ReleasePermit) -> None:
        now = time.monotonic()
        self._update_availability(message, now)
        permits = self._get_permits(message.model)
        correction = permits.release(message.permit_id, message.tokens)
        if correction is not None:
            self._journal.append(message.model, correction.at, correction.tokens, correction.requests)
        if message.tokens:
            self._update_average_tokens(message.model, used=message.tokens)
        self._announced.update(message.model, message.requests_per_day, message.tokens_per_minute, message.limit)
        self._apply_announced_limits(message.model)
        if message.refused:
            self._back_off(message, permits, now)
        self._grant_waiting(message.model, now)

    def _apply_announced_limits(self, model: str) -> None:
        permits = self._get_permits(model)
        before = permits.limits
        permits.apply_provider_limits(self._announced.get(model).get_sizes(time.time()))
        if permits.limits != before:
            logger.info("limits_announced", model=model, **permits.limits.model_dump())

    def _update_average_tokens(self, model: str, **tokens: int) -> None:
        """Updates the exponentially weighted averages of `reserved` and `used` tokens, from the first value on."""
        averages = self._average_tokens.setdefault(model, {})
        for name, value in tokens.items():
            average = averages.get(name, float(value))
            averages[name] = average + (value - average) * _EWMA_WEIGHT

    def _back_off(self, message: ReleasePermit, permits: PermitScheduler, now: float) -> None:
        """Holds all requests to the model after a refusal. Logs it once, however many requests were under way."""
        words = LIMIT_WORDS[message.limit.name] if message.limit else message.reason or "too many requests"
        is_new = permits.back_off(now, message.retry_after_s, words)
        if is_new and permits.refusal is not None:
            wait_s = round(permits.refusal.seconds, 1)
            logger.warning(
                "provider_refused", model=message.model, by=words, retry_after_s=wait_s, reason=message.reason
            )

    def _update_availability(self, message: ReleasePermit, now: float) -> None:
        """Records what the answer says of model and account. Each change is logged once for the whole host."""
        model = message.model
        if message.gone is not None and self._model_availability.mark_unavailable(model, message.gone, now):
            advice = "name another one in GROQ_MODEL or in the rows"
            logger.error("model_gone", model=model, reason=message.gone, advice=advice)
        if message.account_refused is not None and self._account_availability.mark_unavailable(
            ACCOUNT, message.account_refused, now
        ):
            logger.error("provider_account_refused", reason=message.account_refused)
        if not message.is_served:
            return
        self._get_permits(model).on_success()
        if self._model_availability.mark_available(model):
            logger.info("model_recovered", model=model)
        if self._account_availability.mark_available(ACCOUNT):
            logger.info("provider_account_recovered", model=model)

    def _grant_waiting(self, model: str, now: float) -> None:
        permits = self._get_permits(model)
        for late in permits.expire(now):
            self._send_reply(
                model, late.strategy_id, ErrorReply(kind=SkipKind.NO_PERMIT, reason=f"no permit for {model} in time")
            )
        for grant in permits.grant_waiting(now):
            self._journal.append(model, now, grant.asker.tokens)
            self._send_reply(model, grant.asker.strategy_id, Permit(permit_id=grant.permit_id, waited_s=grant.waited_s))

    def _send_reply(self, model: str, strategy_id: UUID, message: Message) -> None:
        reply = self._replies.pop((model, strategy_id), None)
        if reply is not None:
            reply.set(message)

    def _report(self, now: float) -> None:
        demand = self._group_demand_by_model()
        for model in self._permits.keys() | demand.keys():
            permits = self._get_permits(model)
            self._apply_announced_limits(model)
            length, oldest_wait_s = permits.measure_queue(now)
            limit = permits.limits.model_dump(exclude_none=True)
            state = LimiterState(
                model=model,
                queue_length=length,
                oldest_wait_s=oldest_wait_s,
                used=permits.get_usage(now),
                limit=limit,
                gone=self._model_availability.get_last_reason(model),
                account_refused=self._account_availability.get_last_reason(ACCOUNT),
                **_build_refusal_fields(permits, now),
            )
            capacity_report = self._check_capacity(model, demand.get(model, []), permits)
            self._peers.tell("monitor", state.model_copy(update=capacity_report.model_dump()))

    def _group_demand_by_model(self) -> dict[str, list[Demand]]:
        """Demand by model. Strategies that name none ask the model of the settings that was asked last."""
        wants: dict[str, list[Demand]] = {}
        for demand in self._demands:
            want = Demand(cadence_s=demand.cadence_s, strategies=demand.strategies)
            wants.setdefault(demand.model or self._default_model, []).append(want)
        return wants

    def _check_capacity(self, model: str, wants: list[Demand], permits: PermitScheduler) -> Capacity:
        """Compares the strategies' need with the limits, and logs when the result has changed."""
        found = compute_capacity(wants, permits.limits, RequestTokens(**self._average_tokens.get(model, {})))
        verdict = (
            found.need_rpm if found.is_insufficient else 0.0,
            found.limited_by if found.is_insufficient else None,
            found.is_insufficient,
        )
        if verdict != self._logged_capacity.get(model, (0.0, None, False)):
            self._logged_capacity[model] = verdict
            figures = {key: round(value, 1) if isinstance(value, float) else value for key, value in found}
            if found.is_insufficient:
                logger.warning("capacity_exceeded", model=model, **figures)
            else:
                logger.info("capacity_sufficient", model=model, **figures)
        return found

    def _get_permits(self, model: str) -> PermitScheduler:
        if model not in self._permits:
            self._permits[model] = PermitScheduler(self._limits, self._hold_s)
            self._permits[model].hold_until(self._hold_until)
        return self._permits[model]


def _build_refusal_fields(permits: PermitScheduler, now: float) -> dict[str, Any]:
    """`refused_until` and `refused_by` of a `LimiterState`, while a long refusal of the provider holds."""
    hold = permits.refusal
    if hold is None or hold.until <= now or hold.seconds < _MIN_REPORTED_REFUSAL_S:
        return {}
    return {"refused_until": time.time() + hold.until - now, "refused_by": hold.reason}


def make(settings: RateLimiterSettings, peers: Peers, argument: str) -> RateLimiter:  # noqa: ARG001 - there is one limiter
    return RateLimiter(settings, peers)
