"""The bytes of every response: `response_bodies.txt` has each one's name, status, headers and body, a line each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import UUID

import pytest

from engine.domain.positions import MarginMode, Position, Side
from engine.platform.errors import DatabaseUnavailable
from engine.risk.limit_breach import LimitBreach, LimitType, build_unreadable_breach
from engine.risk.sizing import ReducedBy
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from webhook_server.execution.results import (
    OVERLOAD,
    Booked,
    Closed,
    Conflict,
    EntryResult,
    Failed,
    Invalid,
    Opened,
    Pnl,
    Refused,
    Rejected,
    Repeated,
    Result,
    Retryable,
    Skipped,
    Stamp,
    Undone,
    Unprotected,
)
from webhook_server.http import responses
from webhook_server.http.health import Health
from webhook_server.http.responses import WebhookResponse
from webhook_server.http.routes import list_positions, to_response
from webhook_server.metrics import Metrics

NOW: Final = datetime(2026, 11, 28, 9, 30, 0, 5, UTC)
STAMP: Final = Stamp("signal-1", 17)
ID: Final = UUID("00000000-0000-4000-8000-000000000001")
POSITION: Final = Position(
    id=ID,
    user_id=ID,
    strategy_id=None,
    exchange="aster",
    symbol="BTCUSDT",
    side=Side.LONG,
    quantity=Decimal("0.0390000000"),
    entry_price=Decimal("25005.1234567890123"),
    entry_time=NOW,
    position_size_usd=Decimal("975.19981481"),
    is_paper=True,
)


def fill(kind: str = "open", **fields: Any) -> Fill:
    given = {
        "kind": kind,
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "quantity": Decimal("0.039"),
        "price": Decimal("25005.0"),
        "fee_usd": Decimal("0.3413"),
        "leverage": 3,
        "is_paper": True,
        "order_id": "order-7",
    }
    return Fill.model_validate(given | fields)


def entry(**fields: Any) -> EntryResult:
    given = {"fill": fill(), "before": None, "requested_usd": Decimal(1000), "allowed_usd": Decimal("975.50")}
    return EntryResult(**given | fields)


BREACH: Final = LimitBreach(LimitType.DAILY_LOSS, "The loss today is 12.50 USD", Decimal("12.5000"), Decimal(12))
REST: Final = LimitBreach(LimitType.RESTING_SYMBOL, "rests", NOW, NOW + timedelta(hours=1))
CLOSED: Final = Closed(fill("close", order_id="order-6"), Decimal("0.039"), STAMP, is_paper=True)
BOOKED_CLOSED: Final = Closed(
    fill("close", order_id=None, quantity=Decimal("1E+1"), fee_usd=Decimal("1E-8")),
    Decimal(10),
    STAMP,
    is_paper=True,
    pnl=Pnl(Decimal("19.845"), Decimal("-2.005")),
)
PROTECTED: Final = POSITION.model_copy(
    update={"stop_loss_price": Decimal("24000.10"), "take_profit_price": Decimal(26000)}
)
UNDO: Final = fill("undo", quantity=Decimal("0.030"), price=Decimal("24999.9"), order_id="order-8")
RESULTS: Final[dict[str, Result]] = {
    "opened": Opened(entry(), STAMP, is_paper=True),
    "opened, reduced": Opened(
        entry(reduced_by=(ReducedBy.MAX_POSITION_USD, ReducedBy.LOT_STEP), before=POSITION), STAMP, is_paper=False
    ),
    "opened, as booked": Opened(entry(closed=BOOKED_CLOSED), STAMP, is_paper=True, position=PROTECTED),
    "opened with protection": Opened(
        entry(fill=fill(stop_loss_price=Decimal("24000.5")), before=PROTECTED, closed=CLOSED), STAMP, is_paper=False
    ),
    "closed": CLOSED,
    "closed, booked": BOOKED_CLOSED,
    "closed in part": Closed(
        fill("close", side="SHORT", quantity=Decimal("0.009")), Decimal("0.039"), STAMP, is_paper=False
    ),
    "closed with dust": Closed(fill("close", dust=Decimal("0.0004")), Decimal("0.0394"), STAMP, is_paper=False),
    "dust": Closed(fill("dust", order_id=None), Decimal("0.039"), STAMP, is_paper=False),
    "closed beside another": Closed(
        fill("close"), Decimal("0.039"), STAMP, is_paper=True, still_open=(POSITION, POSITION)
    ),
    "reversal refused by a limit": Closed(fill("close"), Decimal("0.039"), STAMP, is_paper=True, refusal=BREACH),
    "reversal refused by the venue": Closed(
        fill("close"),
        Decimal("0.039"),
        STAMP,
        is_paper=True,
        refusal="t\u00f6o small",
        pnl=Pnl(Decimal(1), Decimal("0.5")),
    ),
    "skipped": Skipped("nothing is open", STAMP),
    "skipped on paper": Skipped("full", STAMP, is_paper=True, closed=BOOKED_CLOSED),
    "rejected": Rejected("symbol is not listed", STAMP),
    "rejected live": Rejected("insufficient margin \u2026 \ud800", STAMP, is_paper=False, closed=CLOSED),
    "undone": Undone(fill(), UNDO, "too close", STAMP, is_paper=False),
    "undone after an exit": Undone(fill(), UNDO, "too close", STAMP, is_paper=False, closed=BOOKED_CLOSED),
    "unprotected": Unprotected(fill(), "too close", STAMP, is_paper=False),
    "unprotected after an exit": Unprotected(fill(), "too close", STAMP, is_paper=False, closed=CLOSED),
    "refused": Refused(BREACH),
    "refused until a moment": Refused(REST),
    "refused unread": Refused(build_unreadable_breach("drawdown")),
    "refused by a flag": Refused(LimitBreach(LimitType.KILL_SWITCH, "The kill switch is on", "on", "off")),
    "refused by a float": Refused(LimitBreach(LimitType.DRAWDOWN, "drawdown", 12.5, 10)),
    "invalid": Invalid("symbol", "is missing"),
    "invalid, several": Invalid("symbol", "is missing; action: is missing", "a hint", ("symbol", "action")),
    "conflict": Conflict("signal-1"),
    "retryable": Retryable("The venue aster is unavailable", 7),
    "overload": OVERLOAD,
    "failed": Failed(3),
    "booked": Booked(CLOSED, {"pnl": {"usd": 1.5, "percent": 2}, "success": True, "action": "closed", "else": None}),
    "repeated": Repeated(429, {"success": False, "n": 1.5}),
}
REFUSALS: Final[dict[str, WebhookResponse]] = {
    "no proof": responses.render_authentication_failure("No webhook secret was sent"),
    "no proof of a reader": responses.render_authentication_failure("Invalid", responses.READ_AUTHENTICATION_HINT),
    "too large": responses.render_body_too_large(65536),
    "too slow": responses.render_body_timeout(2.5),
    "too many": responses.render_rate_limited(0.2),
}


@dataclass
class FixedClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 93784.5

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing sleeps {seconds} s to answer a read")


@dataclass
class Rows:
    """What a store answers to reads; None is a database that is away."""

    running: tuple[int, ...] | None = ()
    decided_at: datetime | str | None = None
    is_read_only: bool = False

    def get_database_health(self) -> SimpleNamespace:
        self._raise_when_away()
        return SimpleNamespace(read_only=self.is_read_only)

    def list_running_strategies(self) -> list[SimpleNamespace]:
        self._raise_when_away()
        return [SimpleNamespace(cadence_seconds=each) for each in self.running or ()]

    def list_decisions(self, _strategy_id: None, _limit: int) -> list[SimpleNamespace]:
        return [] if self.decided_at is None else [SimpleNamespace(created_at=self.decided_at)]

    def count_pending_signals(self) -> int:
        return 2

    def find_user_by_secret_digest(self, _digest: str) -> UUID:
        return ID

    def list_open_positions(self, *, user_id: UUID) -> tuple[Position, ...]:
        self._raise_when_away()
        live = {"margin_mode": MarginMode.CROSS, "liquidation_price": Decimal("12000.5"), "strategy_id": user_id}
        return POSITION, PROTECTED.model_copy(update=live | {"side": Side.SHORT, "current_price": Decimal("24999.99")})

    def _raise_when_away(self) -> None:
        if self.running is None:
            raise DatabaseUnavailable("is away")


def read(rows: Rows, *, is_active: bool = True, open_positions: int | None = None) -> Health:
    clock, metrics = FixedClock(), Metrics()
    if open_positions is not None:
        metrics.open_positions.set(open_positions)
        metrics.last_mark.set(NOW.timestamp())
    return Health(cast("Store", rows), clock, metrics, lambda: is_active)


AWAY: Final = Rows(running=None)
READS: Final[dict[str, WebhookResponse]] = {
    "positions": list_positions(cast("Store", Rows()), "secret"),
    "positions of nobody": list_positions(cast("Store", Rows()), None),
    "positions while the database is away": list_positions(cast("Store", AWAY), "secret"),
    "health": read(Rows(), open_positions=3).check_server(),
    "health without a count": read(Rows()).check_server(),
    "health of a database that is away": read(AWAY, open_positions=3).check_server(),
    "health of a standby database": read(Rows(is_read_only=True), open_positions=3).check_server(),
    "executing": read(Rows()).check_lease(),
    "standing by": read(Rows(), is_active=False).check_lease(),
    "engine is idle": read(Rows()).check_engine(),
    "engine waits": read(Rows((60,))).check_engine(),
    "engine is well": read(Rows((60, 45), NOW)).check_engine(),
    "engine stands": read(Rows((60,), NOW - timedelta(hours=1))).check_engine(),
    "engine decided at no moment that Python has": read(Rows((60,), "infinity")).check_engine(),
    "engine is not known": read(AWAY).check_engine(),
}
RESPONSES: Final = {name: responses.render(result) for name, result in RESULTS.items()} | REFUSALS | READS
FILE: Final = Path(__file__).with_name("response_bodies.txt")


def describe(response: WebhookResponse) -> str:
    sent = to_response(response)
    return f"{response.status} {json.dumps(dict(response.headers))} {bytes(sent.body).decode('ascii')}"


def load_expected() -> Mapping[str, str]:
    lines = FILE.read_text("ascii").splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_has_the_bytes_that_senders_know(name: str) -> None:
    assert describe(RESPONSES[name]) == load_expected()[name]


def test_every_known_response_is_rendered_by_a_case() -> None:
    assert list(load_expected()) == list(RESPONSES)
    assert {type(result) for result in RESULTS.values()} == {*Result.__subclasses__(), *Retryable.__subclasses__()}


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_stored_for_a_repetition_is_what_is_sent(name: str) -> None:
    stored = responses.encode_for_store(RESULTS[name])
    assert (stored.status, json.dumps(stored.body)) == (RESPONSES[name].status, json.dumps(dict(RESPONSES[name].body)))
