"""Cycles on the wire: the real Groq client against a server that answers as told; all else is in memory."""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from engine.deciding.cycle_interface import CycleOutcome
from engine.domain.strategy import StrategyContext
from engine.llm.groq_client import GroqClient
from engine.platform.settings.settings import Settings
from tests.engine.deciding.cycle_world import World
from tests.engine.deciding.examples import a_context
from tests.support.servers.groq_double import Answer, GroqDouble, ok

KEY = "gsk_compatibility0123456789"


class Cycle(NamedTuple):
    """What a cycle came to, and the world that it was played in."""

    outcome: CycleOutcome
    world: World
    requests: list[dict[str, Any]]

    @property
    def signals(self) -> list[str]:
        return [signal.payload.action.value for signal in self.world.signals if signal is not None]

    @property
    def cost_usd(self) -> Decimal:
        return sum((call.cost_usd for call in self.outcome.calls), Decimal(0))


PlayCycle = Callable[..., Cycle]


@pytest.fixture(scope="module")
def server() -> Iterator[GroqDouble]:
    with GroqDouble(ok("{}")) as running:
        yield running


@pytest.fixture
def play(server: GroqDouble) -> Iterator[PlayCycle]:
    """Plays one cycle on these answers, the last of which is repeated; the client lives as long as the test."""
    clients: dict[str, GroqClient] = {}

    def play_cycle(*answers: Answer, context: StrategyContext | None = None, **settings: Any) -> Cycle:
        known = repr(sorted(settings.items()))
        if known not in clients:
            given = Settings(groq_api_key=SecretStr(KEY), groq_base_url=server.url, **settings)
            clients[known] = GroqClient(given)
        if answers:
            server.answers = list(answers)
        before = len(server.requests)
        world = World(context=context or a_context(), now=time.monotonic(), permit_wait_s=0.0)
        return Cycle(world.run(model=clients[known]), world, server.requests[before:])

    yield play_cycle
    for client in clients.values():
        client.close()
