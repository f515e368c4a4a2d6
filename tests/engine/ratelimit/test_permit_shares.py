"""The limit is used, and all who ask get their shares of it: hours of asking, on a clock of their own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from engine.deciding.schedule import build_cadence, find_next_tick
from engine.ratelimit.scheduler import Grant, PermitLimits, PermitRequest, PermitScheduler
from tests.support.factories.permits import asker, most_in_any_window


@dataclass
class World:
    """Strategies that keep asking for permits, on a clock of its own. Each request takes `latency_s`."""

    permits: PermitScheduler
    latency_s: float = 1.0
    now: float = 0.0
    grants: list[tuple[float, Grant]] = field(default_factory=list)
    out: list[tuple[float, Grant]] = field(default_factory=list)

    def run(self, until: float, step_s: float, asks: Callable[[float], list[PermitRequest]]) -> None:
        while self.now < until:
            for _, grant in [held for held in self.out if held[0] <= self.now]:
                self.permits.release(grant.permit_id, grant.asker.tokens)
            self.out = [held for held in self.out if held[0] > self.now]
            self.permits.expire(self.now)
            for wanted in asks(self.now):
                self.permits.enqueue(wanted)
            for grant in self.permits.grant_waiting(self.now):
                self.grants.append((self.now, grant))
                self.out.append((self.now + self.latency_s, grant))
            self.now += step_s


def test_a_saturated_limit_is_used_to_99_percent_and_never_exceeded() -> None:
    world = World(PermitScheduler(PermitLimits(rpm=30, tpm=100_000, concurrency=16), hold_s=25))
    world.run(0.1, 0.1, lambda now: [asker(n, now) for n in range(60)])

    def those_served(now: float) -> list[PermitRequest]:
        return [asker(grant.asker.strategy_id.int, now) for time, grant in world.grants[-30:] if abs(time - now) < 0.15]

    world.run(60.0 * 31, 0.1, those_served)
    times = [time for time, _ in world.grants]
    assert most_in_any_window(times, [1.0] * len(times), 60) <= 30
    assert sum(1 for time in times if time >= 60) >= 0.99 * 30 * 30


def jain(shares: list[int]) -> float:
    """Jain, Chiu and Hawe (1984): 1 when all have the same."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@pytest.mark.parametrize(("count", "rpm"), [(100, 30), (22, 10)])
def test_impatient_strategies_on_their_own_cadence_get_equal_shares(count: int, rpm: int) -> None:
    """45 s cadence, 40 s of patience, far more askers than the limit carries: each phase must have its turn."""
    world = World(PermitScheduler(PermitLimits(rpm=rpm, concurrency=16), hold_s=25))
    cadences = {number: build_cadence(UUID(int=number), 45.0) for number in range(count)}
    due = {number: find_next_tick(cadence, 0.0) for number, cadence in cadences.items()}

    def asks(now: float) -> list[PermitRequest]:
        ticking = [number for number, at in due.items() if at <= now]
        for number in ticking:
            due[number] = find_next_tick(cadences[number], now)
        return [asker(number, now, patience_s=40) for number in ticking]

    hours = 2
    world.run(hours * 3600.0, 0.25, asks)
    shares = dict.fromkeys(range(count), 0)
    for _, grant in world.grants:
        shares[grant.asker.strategy_id.int] += 1
    assert jain(list(shares.values())) >= 0.99
    assert len(world.grants) >= 0.95 * rpm * 60 * hours


def test_under_a_token_limit_large_and_small_requests_have_their_turns_alike() -> None:
    """Who asks for more waits until it fits; nobody slips by for being small."""
    world = World(PermitScheduler(PermitLimits(tpm=20_000, concurrency=16), hold_s=25))
    due = {number: float(number) for number in range(40)}

    def asks(now: float) -> list[PermitRequest]:
        ticking = [number for number, at in due.items() if at <= now]
        due.update({number: due[number] + 45 for number in ticking})
        return [asker(number, now, 2_500 if number % 2 else 500, patience_s=40) for number in ticking]

    world.run(2 * 3600.0, 0.25, asks)
    shares = dict.fromkeys(range(40), 0)
    for _, grant in world.grants:
        shares[grant.asker.strategy_id.int] += 1
    assert jain(list(shares.values())) >= 0.99
    tokens = [float(grant.asker.tokens) for _, grant in world.grants]
    assert most_in_any_window([time for time, _ in world.grants], tokens, 60) <= 20_000
