"""Every Prometheus metric of the product, by name, on a registry that the caller owns.

Base units throughout: seconds, bytes, USD, ratios. Labels stay few: `strategy` is the id (names change; the info metric
joins them), `process` is the name of a process, as in `sparky status`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from engine.platform.plain_text import one_line

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_MAX_LABEL: Final = 100
_CONFIDENCE: Final = tuple(step / 10 for step in range(1, 11))

# Kept for the next monitor process, as counters are: the alarm must not end because the monitor was restarted.
PARKED: Final = "sparky_strategy_parked_timestamp_seconds"
BREAKER_STATES: Final = ("closed", "open", "half_open")


OUTBOX_LASTS_S: Final = 30.0  # the dispatcher counts every second while the database answers
UNATTENDED_LASTS_S: Final = 60.0  # they are counted every 15 s


def label(text: str) -> str:
    """A label's value from text of unknown origin, made safe before it is counted: cleaned at the scrape instead, two
    series could become the same one twice, which Prometheus refuses."""
    return one_line(text, _MAX_LABEL)


class LastCount(Collector):
    """A gauge that is set now and then: it has no series before the first count, and none when the last is too old.

    An ordinary gauge would show the last count for ever, and 0 before the first: an alert could not see that nothing is
    counted. `lasts_s` is how long a count is shown, `clock` gives monotonic seconds.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...], lasts_s: float, clock: Callable[[], float]):
        self._name, self._text, self._labels = name, text, labels
        self._lasts_s, self._clock = lasts_s, clock
        self._last: tuple[float, Mapping[tuple[str, ...], float]] | None = None  # replaced whole: threads read it

    def set(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Replaces all counts, by the values of the labels."""
        self._last = self._clock(), values

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family, last = GaugeMetricFamily(self._name, self._text, labels=self._labels), self._last
        if last is not None and self._clock() - last[0] <= self._lasts_s:
            for labels, value in last[1].items():
                family.add_metric(labels, value)
        yield family


class Metrics:
    """All metrics; one instance per registry. `clock` gives monotonic seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        # Creation times would double the number of series, and nothing of ours reads them.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the library's
        self.registry = registry
        self._clock = clock
        self._strategies()
        self._model()
        self._signals()
        self._processes()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _last_count(self, name: str, text: str, lasts_s: float, *labels: str) -> LastCount:
        made = LastCount(name, text, labels, lasts_s, self._clock)
        self.registry.register(made)
        return made

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def _strategies(self) -> None:
        self.strategy_info = self._gauge(
            "sparky_strategy_info", "Always 1; maps a strategy's id to its name.", "strategy", "name"
        )
        self.cycles = self._counter("sparky_cycles_total", "Cycles by how they ended.", "strategy", "outcome")
        self.cycle_duration = self._histogram(
            "sparky_cycle_duration_seconds", "Duration of a cycle, from its start to its end.", _SLOW
        )
        self.engine_duration = self._histogram(
            "sparky_cycle_engine_seconds",
            "Part of a cycle that was not spent waiting for other processes or servers.",
            _FAST,
        )
        self.lateness = self._histogram("sparky_tick_lateness_seconds", "Start of a cycle after it was due.", _FAST)
        self.missed_ticks = self._counter(
            "sparky_ticks_missed_total", "Ticks dropped since they were over when the cycle before ended.", "strategy"
        )
        self.breaker = self._gauge(
            "sparky_breaker_state",
            "1 for the state of the strategy's circuit breaker, 0 for the others.",
            "strategy",
            "state",
        )
        self.breaker_turns = self._counter(
            "sparky_breaker_transitions_total",
            "Changes of the circuit breaker into each state.",
            "strategy",
            "state",
        )
        self.breaker_probe = self._gauge(
            "sparky_breaker_probe_timestamp_seconds",
            "Unix time of the next cycle of a strategy whose circuit breaker is not closed; absent while it is closed.",
            "strategy",
        )
        self.failures = self._gauge(
            "sparky_consecutive_failures", "Failed cycles since the last successful one.", "strategy"
        )
        self.decisions = self._counter("sparky_decisions_total", "Recorded decisions.", "strategy", "action")
        self.confidence = self._histogram("sparky_decision_confidence", "Confidence of decisions, 0 to 1.", _CONFIDENCE)
        self.last_decision = self._gauge(
            "sparky_last_decision_timestamp_seconds", "Unix time of the last recorded decision.", "strategy"
        )

        self.parked = self._gauge(
            PARKED,
            "Unix time at which a strategy was parked after repeated crashes; absent once it runs again.",
            "strategy",
        )

    def _model(self) -> None:
        self.llm_requests = self._counter(
            "sparky_llm_requests_total", "Requests to the model by outcome.", "model", "outcome"
        )
        self.llm_duration = self._histogram(
            "sparky_llm_request_duration_seconds", "Duration of a request to the model.", _SLOW
        )
        self.llm_tokens = self._counter(
            "sparky_llm_tokens_total", "Tokens by kind: prompt, cached, completion.", "strategy", "kind"
        )
        self.llm_cost = self._counter(
            "sparky_llm_cost_usd_total",
            "Cost of requests to the model, in USD, at the prices in the settings.",
            "strategy",
        )
        self.limiter_wait = self._histogram(
            "sparky_limiter_wait_seconds", "Time that a strategy waited for a permit.", _SLOW
        )
        self.limiter_queue = self._gauge("sparky_limiter_queue_length", "Strategies waiting for a permit.")
        self.limiter_oldest = self._gauge(
            "sparky_limiter_oldest_wait_seconds", "Wait of the strategy that has waited longest for a permit, now."
        )
        self.limiter_used = self._gauge(
            "sparky_limiter_used", "Requests or tokens counted against a limit now.", "model", "limit"
        )
        self.limiter_limit = self._gauge(
            "sparky_limiter_limit", "Requests or tokens that a limit allows.", "model", "limit"
        )
        self.limiter_need = self._gauge(
            "sparky_limiter_need_rpm", "Requests per minute that all running strategies need.", "model"
        )
        self.limiter_capacity = self._gauge(
            "sparky_limiter_capacity_rpm", "Requests per minute that all limits together allow.", "model"
        )

    def _signals(self) -> None:
        self.signals = self._counter("sparky_signals_total", "Delivery attempts by outcome.", "outcome")
        self.delivery = self._histogram(
            "sparky_signal_delivery_seconds", "Time from a decision to the delivery of its signal.", _SLOW
        )
        self.outbox_pending = self._last_count(
            "sparky_outbox_pending",
            "Signals not delivered, refused or expired yet; absent while they cannot be counted.",
            OUTBOX_LASTS_S,
        )
        self.unattended = self._last_count(
            "sparky_unattended_positions",
            "Open positions without a running strategy, by book (paper, live); absent while they cannot be counted.",
            UNATTENDED_LASTS_S,
            "book",
        )
        self.fetches = self._counter(
            "sparky_market_fetches_total", "Fetches of market data by outcome.", "venue", "symbol", "outcome"
        )
        self.fetch_duration = self._histogram(
            "sparky_market_fetch_duration_seconds", "Duration of a fetch of market data.", _SLOW
        )

    def _processes(self) -> None:
        self.engine_held = self._gauge("sparky_engine_lease_held", "1 while this engine holds the database's lease.")
        self.engine_epoch = self._gauge(
            "sparky_engine_epoch", "How often the lease of this database's engine has changed hands."
        )
        self.process_up = self._gauge("sparky_process_up", "1 while the process is ready, 0 otherwise.", "process")
        self.process_restarts = self._counter(
            "sparky_process_restarts_total", "Restarts of the process, by reason.", "process", "reason"
        )
        self.process_memory = self._gauge(
            "sparky_process_memory_bytes", "Private memory of the process, without shared pages.", "process"
        )
