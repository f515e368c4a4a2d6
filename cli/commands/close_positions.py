"""Closes positions by signals to the webhook server, and checks the books afterwards."""

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic import SecretStr

from cli.output import Column, to_json_data
from cli.run import process_plan
from engine.domain.positions import Position
from engine.domain.signal import SignalOutcome
from engine.domain.signal_payload import SignalSource, build_exit_payload
from engine.outbox import delivery
from engine.platform.errors import ConfigurationError, SealedElsewhere, SparkyError
from engine.platform.http.deadline_session import DeadlineSession
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from engine.store.webhook_rows import UnfinishedRequest

MAX_ATTEMPTS: Final = 5
IN_FLIGHT_TIMEOUT_S: Final = 30.0  # requests that began before have ended by then, or wait for their venue
DELIVERED: Final = SignalOutcome.DELIVERED.value
STILL_OPEN: Final = "still_open"
_UNSIGNED: Final = "the person has no webhook secret; `sparky credentials set webhook` gives it one"

COLUMNS: Final = (
    Column("strategy", "strategy_name"),
    Column("symbol", "symbol"),
    Column("side", "side"),
    Column("paper", "is_paper"),
    Column("outcome", "outcome"),
    Column("reason", "reason", wraps=True),
)


class ClosingResult(NamedTuple):
    """The outcome of each position (and of each unfinished request), and the positions that are still open."""

    closed: list[dict[str, Any]]
    still_open: list[dict[str, Any]]

    @property
    def is_complete(self) -> bool:
        return not self.still_open and all(each["outcome"] == DELIVERED for each in self.closed)

    def hint(self, settings: Settings) -> str:
        """What a person does first if no webhook server answered; else empty."""
        if any(each.get("is_unanswered") for each in self.closed):
            url = process_plan.resolve_endpoints(settings).webhook_url
            return f" No webhook server answers at {url}: `sparky serve` (or `sparky up`) starts it."
        return ""


def close_positions(settings: Settings, store: Store, user_id: UUID | None, strategy_id: UUID | None) -> ClosingResult:
    """Sends a CLOSE for every open position of the person or strategy (of all when both are None).

    Entries must be refused already. Waits for entries that had been accepted before, and closes those too. May be
    interrupted and repeated. Raises SparkyError without WEBHOOK_URL.
    """
    url = process_plan.resolve_endpoints(settings).webhook_url
    if url is None:
        raise SparkyError("WEBHOOK_URL names no webhook server.")

    def is_covered(row: UnfinishedRequest) -> bool:
        return user_id in {None, row.user_id} and strategy_id in {None, row.strategy_id}

    under_way = {row.request_id for row in store.list_unfinished_requests() if is_covered(row)}
    sender, seen = DeadlineSession(1), dict[UUID, dict[str, Any]]()
    try:
        _close_new(sender, url, store, store.list_held_positions(user_id, strategy_id), seen)
        waiting = _wait_for_requests(store, under_way)
        _close_new(sender, url, store, store.list_held_positions(user_id, strategy_id), seen)
    finally:
        sender.close()
    still_open = store.list_held_positions(user_id, strategy_id)
    for position in still_open:
        if (
            seen.setdefault(position.id, _position_fields(position) | _outcome_fields(DELIVERED, None))["outcome"]
            == DELIVERED
        ):
            reason = seen[position.id]["reason"] or "opened meanwhile"
            seen[position.id] |= _outcome_fields(STILL_OPEN, f"it is still in the books ({reason})")
    names: dict[UUID | None, str] = {row.id: row.name for row in store.list_strategies()}
    closed = [{"strategy_name": names.get(each["strategy_id"])} | each for each in seen.values()]
    closed += [{"strategy_name": names.get(row.strategy_id)} | _unfinished_fields(row) for row in waiting]
    return ClosingResult([to_json_data(each) for each in closed], [to_json_data(each) for each in still_open])


def _close_new(
    sender: DeadlineSession, url: str, store: Store, positions: Sequence[Position], seen: dict[UUID, dict[str, Any]]
) -> None:
    for position in positions:
        if position.id not in seen:
            seen[position.id] = _position_fields(position) | _close_position(sender, url, store, position)


def _wait_for_requests(store: Store, under_way: set[str]) -> list[UnfinishedRequest]:
    """Waits for the requests `under_way`; returns those that have not ended in time."""
    deadline = time.monotonic() + IN_FLIGHT_TIMEOUT_S
    while left := [row for row in store.list_unfinished_requests() if row.request_id in under_way]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left


def _position_fields(position: Position) -> dict[str, Any]:
    fields: dict[str, Any] = {"strategy_id": position.strategy_id, "symbol": position.symbol}
    return fields | {"side": str(position.side), "is_paper": position.is_paper}


def _outcome_fields(outcome: str, reason: str | None, *, is_unanswered: bool = False) -> dict[str, Any]:
    """`is_unanswered`: no webhook server answered the last attempt."""
    return {"outcome": outcome, "reason": reason, "is_unanswered": is_unanswered}


def _unfinished_fields(row: UnfinishedRequest) -> dict[str, Any]:
    fields = {"strategy_id": row.strategy_id, "symbol": row.symbol, "side": row.action, "is_paper": None}
    return fields | _outcome_fields("unknown", "a signal from before is still being executed")


def _close_position(sender: DeadlineSession, url: str, store: Store, position: Position) -> dict[str, Any]:
    """How one position's exit ended. Unreadable keys are an outcome, so that positions of others are still closed."""
    try:
        secret = store.get_webhook_secret(position.user_id)
        if secret is None:
            return _outcome_fields(SignalOutcome.DEAD.value, _UNSIGNED)
        attempt = _send_close(sender, url, position, secret)
    except (ConfigurationError, SealedElsewhere, ValueError) as error:
        return _outcome_fields(SignalOutcome.DEAD.value, str(error))
    return _outcome_fields(attempt.outcome.value, attempt.reason, is_unanswered=attempt.status is None)


def _send_close(sender: DeadlineSession, url: str, position: Position, secret: SecretStr) -> delivery.DeliveryAttempt:
    """Raises UnsendableSignal."""
    signal_id = uuid.uuid5(position.id, f"kill/{datetime.now(UTC).isoformat()}")
    body = build_exit_payload(position, signal_id, SignalSource.KILL_SWITCH).to_json()
    for _ in range(MAX_ATTEMPTS):
        attempt = delivery.post_body(sender, url, signal_id, body, secret)
        if attempt.outcome is not SignalOutcome.RETRY:
            break
        time.sleep(min(attempt.retry_in_s or 1.0, 2.0))
    return attempt
