"""State of the monitor: the latest report of every process, as plain data and as metrics, with time passed in."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from prometheus_client.samples import Sample

from actors.messages import (
    CycleFinished,
    EngineState,
    LimiterState,
    LlmCalled,
    MarketFetched,
    OutboxState,
    SignalAttempted,
    UnattendedPositions,
)
from actors.monitor.problems import find_database_problems, find_provider_problems
from actors.monitor.status_totals import SavedSamples, sum_saved_samples
from actors.runtime.messages import ChildParked, ChildReport, SupervisorReport
from actors.strategy_process_names import PREFIX as STRATEGY_PREFIX
from engine.domain.signal import SignalOutcome
from engine.platform.metrics import BREAKER_STATES, OUTBOX_LASTS_S, PARKED, Metrics, label

REPORT_STALE_AFTER_S: Final = 10.0  # the supervisor reports every second; after this its silence is a fault
ENGINE_STALE_AFTER_S: Final = 15.0  # reported every second, or after a call that failed within 3 s
HEALTHY_STATES: Final = frozenset({"running", "done"})
REPORTED_RESTARTS: Final = "reported_restarts"  # in the saved file only: no metric has this name


class MonitorState:
    """Fed by the actor's thread, read by the HTTP threads. Times named `now` are CLOCK_MONOTONIC seconds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.RLock()
        self._supervisor_pid: int | None = None
        self._reported_at: float | None = None
        self._children: dict[str, ChildReport] = {}
        self._cycles: dict[str, dict[str, Any]] = {}
        self._limiter: dict[str, LimiterState] = {}
        self._outbox_pending: int | None = None
        self._engine: EngineState | None = None
        self._engine_reported_at = 0.0
        self._waiting_since: float | None = None
        self._outbox_counted_at = 0.0
        self._totals: Counter[str] = Counter()
        self._signals: Counter[str] = Counter()
        self._prior_cycles: Counter[str] = Counter()
        self._cost_usd = 0.0
        self._parked: set[str] = set()
        self._prior_restarts: dict[tuple[str, str], float] = {}

    def restore(self, saved: SavedSamples) -> None:
        """Takes over from an earlier monitor of this run: `saved` gives its samples of one name, with their labels."""
        for labels, total in saved(REPORTED_RESTARTS):
            self._prior_restarts[labels["process"], labels["reason"]] = total
        for labels, since in saved(PARKED):
            self._mark_parked(labels["strategy"], since)
        self._totals, self._signals, self._prior_cycles, self._cost_usd = sum_saved_samples(saved)

    @contextmanager
    def hold_restart_samples(self) -> Iterator[list[Sample]]:
        """The restarts of the last report, for the next monitor to count on from. No report is taken while entered."""
        with self._lock:
            reported = {
                (each.name, reason): n for each in self._children.values() for reason, n in each.restart_reasons.items()
            }
            yield [
                Sample(REPORTED_RESTARTS, {"process": process, "reason": reason}, total)
                for (process, reason), total in (reported or self._prior_restarts).items()
            ]

    # events

    def on_supervisor_report(self, report: SupervisorReport, now: float) -> None:
        """Replaces the report before. Children that are not in it any more are forgotten."""
        with self._lock:
            self._supervisor_pid, self._reported_at = report.pid, now
            children = {child.name: child for child in report.children}
            for name in self._children.keys() - children.keys():
                self._remove_series(name)
            for name, child in children.items():
                self._count_restarts(child)
                self._set_up_gauge(child)
                if child.state == "running":
                    self._clear_parked(name.removeprefix(STRATEGY_PREFIX))
                if child.memory_bytes is not None:
                    self._metrics.process_memory.labels(name).set(child.memory_bytes)
            self._children = children
            self._prior_restarts.clear()  # the first report has counted them

    def on_child_parked(self, parked: ChildParked, unix_now: float) -> None:
        """The alarm outlives the child, which the supervisor forgets as soon as its row is paused."""
        strategy = parked.name.removeprefix(STRATEGY_PREFIX)
        with self._lock:
            if strategy not in self._parked:
                self._mark_parked(strategy, unix_now)

    def _mark_parked(self, strategy: str, since: float) -> None:
        self._parked.add(strategy)
        self._metrics.parked.labels(strategy).set(since)

    def on_cycle_finished(self, cycle: CycleFinished) -> None:
        strategy, metrics = str(cycle.strategy_id), self._metrics
        metrics.cycles.labels(strategy, cycle.outcome).inc()
        metrics.cycle_duration.observe(cycle.duration_s)
        metrics.engine_duration.observe(cycle.engine_s)
        metrics.lateness.observe(max(0.0, cycle.lateness_s))
        metrics.missed_ticks.labels(strategy).inc(cycle.missed_ticks)
        metrics.failures.labels(strategy).set(cycle.failures)
        for state in BREAKER_STATES:
            metrics.breaker.labels(strategy, state).set(state == cycle.breaker)
        if cycle.probe_at is not None:
            metrics.breaker_probe.labels(strategy).set(cycle.probe_at)
        else:
            metrics.breaker_probe.remove(strategy)
        if cycle.waited_permit_s is not None:
            metrics.limiter_wait.observe(cycle.waited_permit_s)
        if cycle.action is not None:
            metrics.decisions.labels(strategy, cycle.action).inc()
            metrics.last_decision.labels(strategy).set(cycle.at)
            if cycle.confidence is not None:
                metrics.confidence.observe(cycle.confidence)
        with self._lock:
            self._record_cycle(strategy, cycle)

    def _record_cycle(self, strategy: str, cycle: CycleFinished) -> None:
        before = self._cycles.get(strategy, {})
        if before.get("name") != cycle.name:
            if before:
                self._metrics.strategy_info.remove(strategy, label(before["name"]))
            self._metrics.strategy_info.labels(strategy, label(cycle.name)).set(1)
        facts = cycle.model_dump(mode="json", exclude={"strategy_id", "action", "symbol", "confidence", "signal_id"})
        if cycle.breaker != before.get("breaker", "closed"):
            self._metrics.breaker_turns.labels(strategy, cycle.breaker).inc()
        facts["cycles"] = before.get("cycles", self._prior_cycles[strategy]) + 1
        facts["missed_ticks"] += before.get("missed_ticks", 0)
        facts["signals"] = before.get("signals", {})
        decision = cycle.model_dump(mode="json", include={"action", "symbol", "confidence", "signal_id", "at"})
        facts["last_decision"] = decision if cycle.action is not None else before.get("last_decision")
        self._cycles[strategy] = facts
        self._totals["cycles"] += 1
        self._totals["decisions"] += cycle.action is not None
        self._totals["faults"] += cycle.outcome == "fault"

    def on_llm_called(self, call: LlmCalled) -> None:
        strategy, metrics = str(call.strategy_id), self._metrics
        metrics.llm_requests.labels(label(call.model), call.outcome).inc()
        metrics.llm_duration.observe(call.duration_s)
        metrics.llm_tokens.labels(strategy, "prompt").inc(call.prompt_tokens)
        metrics.llm_tokens.labels(strategy, "cached").inc(call.cached_tokens)
        metrics.llm_tokens.labels(strategy, "completion").inc(call.completion_tokens)
        metrics.llm_cost.labels(strategy).inc(float(call.cost_usd))
        with self._lock:
            self._totals["llm_requests"] += 1
            self._totals["llm_tokens"] += call.prompt_tokens + call.completion_tokens
            self._cost_usd += float(call.cost_usd)

    def on_signal_attempted(self, attempt: SignalAttempted) -> None:
        self._metrics.signals.labels(attempt.outcome).inc()
        if attempt.outcome == SignalOutcome.DELIVERED:
            self._metrics.delivery.observe(max(0.0, attempt.age_s))
        with self._lock:
            self._signals[attempt.outcome] += 1
            facts = self._cycles.get(str(attempt.strategy_id))
            if facts is not None:
                facts["signals"][attempt.outcome] = facts["signals"].get(attempt.outcome, 0) + 1

    def on_outbox_state(self, state: OutboxState, now: float) -> None:
        self._metrics.outbox_pending.set({(): state.pending})
        with self._lock:
            self._outbox_pending, self._outbox_counted_at = state.pending, now

    def on_engine_state(self, state: EngineState, now: float) -> None:
        self._metrics.engine_held.set(state.is_held)
        if state.epoch is not None:
            self._metrics.engine_epoch.set(state.epoch)
        with self._lock:
            self._engine, self._engine_reported_at = state, now
            self._waiting_since = None if state.state != "waiting" else self._waiting_since or now

    def on_unattended_positions(self, counted: UnattendedPositions) -> None:
        self._metrics.unattended.set({("paper",): counted.paper, ("live",): counted.live})

    def on_limiter_state(self, state: LimiterState) -> None:
        model = label(state.model)
        for limit, used in state.used.items():
            self._metrics.limiter_used.labels(model, label(limit)).set(used)
        for limit, value in state.limit.items():
            self._metrics.limiter_limit.labels(model, label(limit)).set(value)
        if state.need_rpm is not None:
            self._metrics.limiter_need.labels(model).set(state.need_rpm)
        if state.limit_rpm is not None:
            self._metrics.limiter_capacity.labels(model).set(state.limit_rpm)
        with self._lock:
            self._limiter[state.model] = state
            self._metrics.limiter_queue.set(sum(each.queue_length for each in self._limiter.values()))
            self._metrics.limiter_oldest.set(max(each.oldest_wait_s for each in self._limiter.values()))

    def on_market_fetched(self, fetch: MarketFetched) -> None:
        self._metrics.fetches.labels(label(fetch.venue), label(fetch.symbol), fetch.outcome).inc()
        self._metrics.fetch_duration.observe(fetch.duration_s)

    # readings

    def find_problems(self, now: float, unix_now: float) -> list[str]:
        """One sentence per fault of the shared processes, the database or the provider; empty when all is well."""
        with self._lock:
            if self._reported_at is None:
                return ["the supervisor has not reported yet"]
            silence_s = now - self._reported_at
            if silence_s > REPORT_STALE_AFTER_S:
                return [f"the supervisor has not reported for {silence_s:.0f} s"]
            shared = (child for child in self._children.values() if child.kind != "strategy")
            is_waiting = self._engine is not None and not self._engine.is_held
            healthy = HEALTHY_STATES | {"waiting"} if is_waiting else HEALTHY_STATES  # for the lease
            unhealthy = [f"{child.name} is {child.state}" for child in shared if child.state not in healthy]
            database = find_database_problems(self._engine, self._waiting_since, now)
            return unhealthy + database + find_provider_problems(self._limiter, unix_now)

    def build_status(self, now: float, unix_now: float) -> dict[str, Any]:
        """The JSON of /status. A value that was not reported, or not lately, is null."""
        with self._lock:
            problems = self.find_problems(now, unix_now)
            return {
                "at": unix_now,
                "healthy": not problems,
                "problems": problems,
                "supervisor": {
                    "pid": self._supervisor_pid,
                    "report_age_s": None if self._reported_at is None else round(now - self._reported_at, 3),
                },
                "children": self._build_children_status(),
                "strategies": {
                    key: self._build_strategy_status(facts, unix_now) for key, facts in self._cycles.items()
                },
                "engine": self._build_engine_status(now),
                "limiter": self._build_limiter_status(),
                "outbox_pending": self._outbox_pending if now - self._outbox_counted_at <= OUTBOX_LASTS_S else None,
                "totals": {
                    **self._build_totals(),
                    "signals": dict(self._signals),
                    "llm_cost_usd": round(self._cost_usd, 8),
                },
            }

    def _build_children_status(self) -> list[dict[str, Any]] | None:
        return None if self._reported_at is None else [each.model_dump(mode="json") for each in self._children.values()]

    def _build_limiter_status(self) -> dict[str, dict[str, Any]] | None:
        return {model: each.model_dump(exclude={"model"}) for model, each in self._limiter.items()} or None

    def _build_engine_status(self, now: float) -> dict[str, Any] | None:
        """None when the engine lease has not reported lately."""
        if self._engine is None or now - self._engine_reported_at > ENGINE_STALE_AFTER_S:
            return None
        return self._engine.model_dump()

    def _build_totals(self) -> dict[str, int]:
        return {name: self._totals[name] for name in ("cycles", "decisions", "faults", "llm_requests", "llm_tokens")}

    @staticmethod
    def _build_strategy_status(facts: dict[str, Any], unix_now: float) -> dict[str, Any]:
        decision = facts["last_decision"]
        if decision is not None:
            decision = decision | {"age_s": round(unix_now - decision["at"], 3)}
        return facts | {"signals": dict(facts["signals"]), "last_decision": decision}

    # upkeep of series

    def _set_up_gauge(self, child: ChildReport) -> None:
        """A child that waits for the database's lease has no series: it is neither up nor down, and no alarm is due."""
        if child.state == "waiting" and self._engine is not None and not self._engine.is_held:
            with suppress(KeyError):
                self._metrics.process_up.remove(child.name)
        else:
            self._metrics.process_up.labels(child.name).set(child.state in HEALTHY_STATES)

    def _count_restarts(self, child: ChildReport) -> None:
        """Adds the report's totals to a counter that never falls, also when a child was forgotten meanwhile."""
        before = self._children.get(child.name)
        known = before.restart_reasons if before is not None else {}
        for reason, total in child.restart_reasons.items():
            last = known.get(reason, self._prior_restarts.get((child.name, reason), 0))
            self._metrics.process_restarts.labels(child.name, reason).inc(total - last if total >= last else total)

    def _clear_parked(self, strategy: str) -> None:
        if strategy in self._parked:
            self._parked.remove(strategy)
            self._metrics.parked.remove(strategy)

    def _remove_series(self, name: str) -> None:
        """Removes the gauges of a child that is gone; its counters stay, since they must not fall."""
        for gauge in (self._metrics.process_up, self._metrics.process_memory):
            with suppress(KeyError):
                gauge.remove(name)
        strategy = name.removeprefix(STRATEGY_PREFIX)
        facts = self._cycles.pop(strategy, None)
        if facts is None:
            return
        for gauge in (self._metrics.last_decision, self._metrics.failures, self._metrics.breaker_probe):
            gauge.remove(strategy)
        for state in BREAKER_STATES:
            self._metrics.breaker.remove(strategy, state)
        self._metrics.strategy_info.remove(strategy, label(facts["name"]))
