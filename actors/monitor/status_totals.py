"""What `/status` has counted since the supervisor began, read from the samples that an earlier monitor left."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

Left = Callable[[str], Iterable[tuple[dict[str, str], float]]]

_TOKENS_IN_ALL: Final = ("prompt", "completion")  # cached ones are among the prompt's


class Counts(NamedTuple):
    """`totals` by name, `signals` by outcome, `cycles` by strategy."""

    totals: Counter[str]
    signals: Counter[str]
    cycles: Counter[str]
    cost_usd: float


def counted(left: Left) -> Counts:
    """`left` gives the samples of one name, with their labels."""
    totals, signals, cycles = Counter[str](), Counter[str](), Counter[str]()
    for labels, number in left("sparky_cycles_total"):
        cycles[labels["strategy"]] += int(number)
        totals["cycles"] += int(number)
        totals["faults"] += int(number) * (labels["outcome"] == "fault")
    for labels, number in left("sparky_llm_tokens_total"):
        totals["llm_tokens"] += int(number) * (labels["kind"] in _TOKENS_IN_ALL)
    for labels, number in left("sparky_signals_total"):
        signals[labels["outcome"]] += int(number)
    totals["decisions"] = int(_sum(left, "sparky_decisions_total"))
    totals["llm_requests"] = int(_sum(left, "sparky_llm_requests_total"))
    return Counts(totals, signals, cycles, _sum(left, "sparky_llm_cost_usd_total"))


def _sum(left: Left, name: str) -> float:
    return sum(number for _, number in left(name))
