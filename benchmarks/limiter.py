"""What 30 requests a minute mean to 10, 22 and 100 strategies, and what a day of deciding costs by model.

    .venv/bin/python -m benchmarks.limiter [--small]

The limiter's own policy on virtual time, nothing else: waiting is for a permit; a missed cycle is one that got none
within its deadline.
"""

import argparse
import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import fmean
from typing import Final
from uuid import UUID

from engine.deciding.schedule import Cadence, build_cadence, find_next_tick
from engine.domain.completion import Usage
from engine.llm.llm_call import compute_cost_usd
from engine.platform.settings.settings import Settings
from engine.ratelimit.capacity import Demand, RequestTokens, compute_capacity
from engine.ratelimit.scheduler import PermitLimits, PermitRequest, PermitScheduler

RPM: Final = 30
CADENCE_S: Final = 45.0
CALL_S: Final = (0.6, 2.5)
PERMIT_TIMEOUT_S: Final = (
    34.0 - 5.0
)  # of a cycle's 40 s: what is left for waiting beside the record and the shortest call
WARM_UP_S: Final = 600.0
MEASURED_S: Final = 4 * 3_600.0
COUNTS: Final = (10, 22, 100)
CYCLES_A_DAY: Final = 86_400 / CADENCE_S
# A prompt about one symbol by the stricter count, of which the static part may be cached; an answer with low reasoning.
PROMPT_TOKENS: Final = 1_160
STATIC_TOKENS: Final = 560
ANSWER_TOKENS: Final = 120


@dataclass
class Strategy:
    id: UUID
    cadence: Cadence
    missed: int = 0
    waits: list[float] = field(default_factory=list)


class Simulation:
    """`count` strategies that tick, ask, call and tick again."""

    def __init__(self, count: int, measured_s: float, seed: int = 1) -> None:
        self.measured_s = measured_s
        self.rng = random.Random(seed)
        self.permits = PermitScheduler(PermitLimits(rpm=RPM, concurrency=16), hold_s=25.0)
        ids = [UUID(int=self.rng.getrandbits(128), version=4) for _ in range(count)]
        self.strategies = {each: Strategy(each, build_cadence(each, CADENCE_S)) for each in ids}
        self.ticks: list[tuple[float, UUID]] = []
        self.ends: list[tuple[float, UUID, UUID]] = []
        self.grants: list[float] = []
        for strategy_id in ids:
            self.schedule_tick(strategy_id, 0.0)

    def schedule_tick(self, strategy_id: UUID, now: float) -> None:
        heapq.heappush(self.ticks, (find_next_tick(self.strategies[strategy_id].cadence, now), strategy_id))

    def run(self) -> None:
        now = 0.0
        while now < WARM_UP_S + self.measured_s:
            now = self.find_next_event(now)
            self.end_calls(now)
            self.request_permits(now)
            self.grant_permits(now)

    def find_next_event(self, now: float) -> float:
        grant_at = self.permits.find_next_grant_at(now)
        heads = [queue[0][0] for queue in (self.ticks, self.ends) if queue]
        granting = [] if grant_at is None else [max(grant_at, now + 1e-6)]
        return min(at for at in (*heads, *granting, now + 1.0) if at > now)

    def end_calls(self, now: float) -> None:
        while self.ends and self.ends[0][0] <= now:
            _, permit_id, strategy_id = heapq.heappop(self.ends)
            self.permits.release(permit_id, PROMPT_TOKENS)
            self.schedule_tick(strategy_id, now)

    def request_permits(self, now: float) -> None:
        while self.ticks and self.ticks[0][0] <= now:
            _, strategy_id = heapq.heappop(self.ticks)
            asker = PermitRequest(
                strategy_id, PROMPT_TOKENS, holds_position=False, asked_at=now, deadline=now + PERMIT_TIMEOUT_S
            )
            self.permits.enqueue(asker)

    def grant_permits(self, now: float) -> None:
        is_measured = now > WARM_UP_S
        for late in self.permits.expire(now):
            self.strategies[late.strategy_id].missed += is_measured
            self.schedule_tick(late.strategy_id, now)
        for grant in self.permits.grant_waiting(now):
            self.grants.append(now)
            if is_measured:
                self.strategies[grant.asker.strategy_id].waits.append(grant.waited_s)
            end = now + self.rng.uniform(*CALL_S)
            heapq.heappush(self.ends, (end, grant.permit_id, grant.asker.strategy_id))


def max_per_minute(grants: list[float]) -> int:
    most = start = 0
    for end, at in enumerate(grants):
        while at - grants[start] >= 60.0:
            start += 1
        most = max(most, end - start + 1)
    return most


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def jain_index(values: list[int]) -> float:
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


def print_waiting_table(counts: Sequence[int], measured_s: float) -> None:
    print(f"{RPM} requests a minute, a cadence of {CADENCE_S:g} s, {measured_s / 3600:g} h of virtual time\n")
    print("strategies  need/min  use   most/60s  p50 s  p95 s  max s  missed  one in s  told     Jain")
    for count in counts:
        simulation = Simulation(count, measured_s)
        simulation.run()
        strategies = simulation.strategies.values()
        waits = [wait for each in strategies for wait in each.waits]
        granted, missed = [len(each.waits) for each in strategies], sum(each.missed for each in strategies)
        report = compute_capacity(
            [Demand(cadence_s=CADENCE_S, strategies=count)], PermitLimits(rpm=RPM, concurrency=16), RequestTokens()
        )
        print(
            f"{count:>10}  {report.need_rpm:>8.1f}  {sum(granted) / (RPM * measured_s / 60):>4.0%}  "
            f"{max_per_minute(simulation.grants):>8}  {percentile(waits, 0.5):>5.2f}  {percentile(waits, 0.95):>5.1f}  "
            f"{max(waits):>5.1f}  {missed / (missed + sum(granted)):>6.0%}  {measured_s / fmean(granted):>8.1f}  "
            f"{report.effective_cadence_s or CADENCE_S:>6.1f}  {jain_index(granted):>7.4f}"
        )


def print_cost_table() -> None:
    fresh = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=ANSWER_TOKENS)
    cached = fresh.model_copy(update={"cached_tokens": STATIC_TOKENS // 128 * 128})
    print(f"\na day at {CADENCE_S:g} s: {CYCLES_A_DAY:.0f} decisions of {PROMPT_TOKENS} tokens in, {ANSWER_TOKENS} out")
    print("\nmodel                  USD a decision  USD a day, nothing cached  USD a day, static part cached")
    for model, price in Settings().sparky_llm_prices.items():
        each, day = compute_cost_usd(cached, price), Decimal(round(CYCLES_A_DAY))
        print(f"{model:<22} {each:>14.6f}  {compute_cost_usd(fresh, price) * day:>25.2f}  {each * day:>29.2f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two strategies for ten minutes, to see that it runs")
    is_small = parser.parse_args(arguments).small
    print_waiting_table((2,) if is_small else COUNTS, WARM_UP_S if is_small else MEASURED_S)
    print_cost_table()


if __name__ == "__main__":
    main()
