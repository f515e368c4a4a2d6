"""Totals of /status since the supervisor began, read from the samples that an earlier monitor saved."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

SavedSamples = Callable[[str], Iterable[tuple[dict[str, str], float]]]

_COUNTED_TOKEN_KINDS: Final = ("prompt", "completion")  # cached ones are among the prompt's


class StatusTotals(NamedTuple):
    """`totals` by name, `signals` by outcome, `cycles` by strategy."""

    totals: Counter[str]
    signals: Counter[str]
    cycles: Counter[str]
    cost_usd: float


def sum_saved_samples(saved: SavedSamples) -> StatusTotals:
    """`saved` gives the samples of one name, with their labels."""
    totals, signals, cycles = Counter[str](), Counter[str](), Counter[str]()
    for labels, number in saved("sparky_cycles_total"):
        cycles[labels["strategy"]] += int(number)
        totals["cycles"] += int(number)
        totals["faults"] += int(number) * (labels["outcome"] == "fault")
    for labels, number in saved("sparky_llm_tokens_total"):
        totals["llm_tokens"] += int(number) * (labels["kind"] in _COUNTED_TOKEN_KINDS)
    for labels, number in saved("sparky_signals_total"):
        signals[labels["outcome"]] += int(number)
    totals["decisions"] = int(_sum_samples(saved, "sparky_decisions_total"))
    totals["llm_requests"] = int(_sum_samples(saved, "sparky_llm_requests_total"))
    return StatusTotals(totals, signals, cycles, _sum_samples(saved, "sparky_llm_cost_usd_total"))


def _sum_samples(saved: SavedSamples, name: str) -> float:
    return sum(number for _, number in saved(name))
