"""Exits that the server makes by itself: one request while as much is held, and no fault beyond its position."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from engine.domain.errors import VenueUnavailable
from engine.domain.positions import Position
from engine.platform.errors import DatabaseUnavailable
from tests.support.factories.entry_values import NOW, STRATEGY, position
from webhook_server.background.protective_exits import RETRY_WINDOW_S, ProtectiveExits
from webhook_server.execution.execution_context import Request
from webhook_server.execution.pipeline import Pipeline
from webhook_server.execution.results import Result
from webhook_server.intake.schemas import ExitTerms
from webhook_server.metrics import Metrics


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


@dataclass
class World:
    """A pipeline that fails with `error`; `requests` are those that reached it."""

    error: Exception = field(default_factory=lambda: VenueUnavailable("no answer"))
    requests: list[tuple[Request, str]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.exits = ProtectiveExits(cast("Pipeline", self), cast("Any", self.clock), self.metrics)

    def execute_once(self, request: Request, fingerprint: str) -> Result:
        self.requests.append((request, fingerprint))
        raise self.error

    def exit(self, own: Position, seconds: float = 0, reason: str = "stop_loss", terms: ExitTerms | None = None) -> str:
        """The id of the request of a round so many seconds later."""
        self.clock.at = datetime.fromtimestamp(NOW.timestamp() // RETRY_WINDOW_S * RETRY_WINDOW_S, NOW.tzinfo)
        self.clock.at += timedelta(seconds=seconds)
        self.exits.exit(own, reason, terms)
        return self.requests[-1][0].id


def test_the_request_closes_this_position_for_its_strategy_at_the_terms_of_the_market() -> None:
    world, terms = World(), ExitTerms(price=Decimal(90), at_ms=7)
    own = position()
    world.exit(own, terms=terms)
    request, _ = world.requests[0]
    signal = request.signal
    assert (signal.action, signal.symbol, signal.strategy_id, signal.is_entry) == ("CLOSE", "BTCUSDT", STRATEGY, False)
    assert (request.user_id, request.position_id, request.exit_reason) == (own.user_id, own.id, "stop_loss")
    assert signal.exit_terms == terms


def test_rounds_within_a_third_of_a_minute_make_one_request_while_as_much_is_held() -> None:
    world, own = World(), position(quantity=Decimal("0.02"))
    first = world.exit(own)
    assert world.exit(own, RETRY_WINDOW_S - 0.001) == first
    assert world.requests[0][1] == world.requests[1][1]  # the same fingerprint
    others = [
        world.exit(own, RETRY_WINDOW_S),
        world.exit(own.model_copy(update={"quantity": Decimal("0.01")})),
        world.exit(own, reason="take_profit"),
        world.exit(position(id=STRATEGY)),
    ]
    assert len({first, *others}) == 5


@pytest.mark.parametrize("error", [VenueUnavailable("no answer"), LookupError("strange")])
def test_what_cannot_be_done_now_is_left_to_a_later_round_and_counted_as_no_exit(error: Exception) -> None:
    world = World(error)
    world.exit(position())
    count = world.metrics.registry.get_sample_value("sparky_webhook_protective_exits_total", {"reason": "stop_loss"})
    assert (len(world.requests), count) == (1, None)


def test_a_database_that_is_away_ends_the_round() -> None:
    world = World(DatabaseUnavailable("gone"))
    with pytest.raises(DatabaseUnavailable):
        world.exit(position())
