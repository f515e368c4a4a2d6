"""Metrics of the webhook server, on a registry of its own: it may run on another host than the monitor."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics of one server; GET /metrics shows `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP responses by route and status.", "route", "status")
        self.duration = Histogram(
            "sparky_webhook_request_duration_seconds",
            "Time from the whole request body received to the response, by route.",
            ["route"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.waiting = Gauge(
            "sparky_webhook_waiting_signals", "Signals that wait for a free execution slot.", registry=self.registry
        )
        self.fills = self._counter("fills", "Fills booked; kind is open or close, book paper or live.", "kind", "book")
        self.refusals = self._counter("risk_refusals", "Entries refused by a risk limit.", "limit_type")
        self.venue_failures = self._counter("venue_failures", "Orders that the venue did not fill.", "kind")
        self.repeats = self._counter(
            "repeats", "Repeated requests, answered with the stored response of the same signal."
        )
        self.recovered = self._counter(
            "recovered",
            "Requests that an ended server had left unfinished and this one resumed, by outcome.",
            "outcome",
        )
        self.protective_exits = self._counter(
            "protective_exits", "Stop-losses and take-profits executed, or found filled at the venue.", "reason"
        )
        self.outside_exits = self._counter(
            "outside_exits",
            "Positions, or parts of them, closed at the venue by no order of ours (liquidated, adl, closed_at_venue).",
            "reason",
        )
        self.entries_undone = Counter(
            "sparky_webhook_entries_undone_total",
            "Live entries closed again because their protection could not be placed.",
            registry=self.registry,
        )
        self.unprotected = Gauge(
            "sparky_webhook_unprotected_positions",
            "Live positions whose stop-loss or take-profit was missing at the venue, at the last check.",
            registry=self.registry,
        )
        self.protection_failures = self._counter(
            "protection_failures",
            "Protection that could not be placed: after an exit that was not (wholly) made, after an entry that could "
            "not be undone either, or after it was found missing (exit, undo, loss).",
            "after",
        )
        self.protection_replaced = Counter(
            "sparky_webhook_protection_replaced_total",
            "Live positions whose missing protection was placed again.",
            registry=self.registry,
        )
        self.orphan_orders = Counter(
            "sparky_webhook_orphan_orders_total",
            "Protective orders of closed positions that were still open at the venue, and were cancelled.",
            registry=self.registry,
        )
        self.differences = Gauge(
            "sparky_webhook_reconciliation_differences",
            "Symbols in which the books and a venue's own record differ, at the last comparison.",
            registry=self.registry,
        )
        self.funding_payments = self._counter(
            "funding_payments", "Payments of funding booked; book paper or live.", "book"
        )
        self.funding_unexplained = Counter(
            "sparky_webhook_funding_unexplained_total",
            "Payments of funding to an account in which the books held nothing of their symbol.",
            registry=self.registry,
        )
        self.is_active = Gauge(
            "sparky_webhook_active", "1 while this server executes, 0 while it stands by.", registry=self.registry
        )
        self.mark_errors = self._counter(
            "mark_errors", "Symbols for which a round of marking to market got no price.", "exchange", "symbol"
        )
        self.open_positions = Gauge(
            "sparky_webhook_open_positions", "Open positions at the last round of marking.", registry=self.registry
        )
        self.last_mark = Gauge(
            "sparky_webhook_last_mark_timestamp_seconds",
            "Unix time of the last complete round of marking positions to market.",
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sparky_webhook_{name}_total", text, labels, registry=self.registry)
