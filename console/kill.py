"""`sparky kill`: no entries from now on, of everybody, one person or one strategy; and out of everything, if wanted."""

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from pydantic import SecretStr

from console import composition, output
from console.naming import can_be_typed
from console.output import Column
from console.session import settings_here, store_of
from console.strategies import AsJson, find
from console.streams import encoding_of_answers
from engine import delivery
from engine.errors import SparkyError
from engine.sending import Sender
from engine.settings import Settings
from engine.store.store import Store
from engine.store.webhook_rows import UnfinishedRequest
from engine.types import Position, Signal, SignalOutcome

ATTEMPTS: Final = 5
UNDER_WAY_S: Final = 30.0  # what was begun before the switch has ended by then, or waits for its venue


def _covered(row: dict[str, Any]) -> str:
    """A strategy whose name cannot be shown has the beginning of its id here, which every command takes."""
    name = row["strategy_name"]
    if not name:
        return str(row["email"] or "everybody")
    return str(name if can_be_typed(name, encoding_of_answers()) else row["strategy_id"][:8])


SWITCHES: Final = (
    Column("since (UTC)", output.moment("created_at"), is_time=True),
    Column("entries refused to", _covered),
    Column("reason", "reason", wraps=True),
)
CLOSED: Final = (
    Column("strategy", "strategy_name"),
    Column("symbol", "symbol"),
    Column("side", "side"),
    Column("paper", "is_paper"),
    Column("outcome", "outcome"),
    Column("reason", "reason", wraps=True),
)


def kill(
    email: Annotated[str | None, typer.Option("--user", help="Only this person's entries (e-mail address).")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", "-s", help="Only this strategy's (name or id).")] = None,
    is_off: Annotated[bool, typer.Option("--off", help="Allow entries again.")] = False,
    close_all: Annotated[
        bool, typer.Option("--close-all", help="Close every open position it covers as well.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Kept with the switch.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Only say which switches are on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Refuse every entry from this moment on; exits stay open. Without --user and --strategy it is for everybody."""
    if sum((email is not None and strategy is not None, is_off and close_all)):
        raise SparkyError("Choose --user or --strategy, and --off or --close-all.")
    settings = settings_here()
    closed: list[dict[str, Any]] | None = None
    with store_of(settings) as store:
        user_id = None if email is None else _known(store, email)
        strategy_id = None if strategy is None else find(store, strategy).id
        if not show:
            store.set_kill_switch(user_id, strategy_id, is_on=not is_off, reason=reason)
        if close_all and not show:
            closed = _closed(settings, store, user_id, strategy_id)
        rows = store.kill_switches() if closed is None else ()
    if closed is not None:
        _tell_closed(closed, as_json=as_json)
        return
    output.answer(rows, SWITCHES, as_json=as_json, empty="No kill switch is on; entries are open.")


def _tell_closed(closed: list[dict[str, Any]], *, as_json: bool) -> None:
    output.answer(closed, CLOSED, as_json=as_json, empty="The kill switch is on; nothing was held.")
    if any(each["outcome"] != SignalOutcome.DELIVERED.value for each in closed):
        raise SparkyError("Not everything is closed; the kill switch stays on. Run it again.")


def _known(store: Store, email: str) -> UUID:
    user_id = store.user_of(email)
    if user_id is None:
        raise SparkyError(f"There is no person {email}.")
    return user_id


def _closed(settings: Settings, store: Store, user_id: UUID | None, strategy_id: UUID | None) -> list[dict[str, Any]]:
    """Sends a CLOSE for every open position that is covered, through the webhook server as any signal."""
    url = composition.resolve(settings).webhook_url
    if url is None:
        raise SparkyError("WEBHOOK_URL names no webhook server.")
    under_way = {row.request_id for row in store.unfinished_requests()}
    sender, seen = Sender(1), set[UUID]()
    try:
        closed = _closed_now(sender, url, store, store.held_positions(user_id, strategy_id), seen)
        waiting = _awaited(store, under_way)
        closed += _closed_now(sender, url, store, store.held_positions(user_id, strategy_id), seen)
    finally:
        sender.close()
    closed += [_unknown(row) for row in waiting if user_id in {None, row.user_id}]
    names = {row.id: row.name for row in store.list_strategies()}
    return [{"strategy_name": names.get(each["strategy_id"])} | each for each in closed]


def _closed_now(
    sender: Sender, url: str, store: Store, positions: Sequence[Position], seen: set[UUID]
) -> list[dict[str, Any]]:
    """Closes those that are not `seen`, which then are."""
    left = [position for position in positions if position.id not in seen]
    seen |= {position.id for position in left}
    return [_close(sender, url, store, position) for position in left]


def _awaited(store: Store, under_way: set[str]) -> list[UnfinishedRequest]:
    """An entry that had passed its limits before the switch came still fills: waits for it; what has not ended."""
    deadline = time.monotonic() + UNDER_WAY_S
    while left := [row for row in store.unfinished_requests() if row.request_id in under_way]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left


def _unknown(row: UnfinishedRequest) -> dict[str, Any]:
    told = {"strategy_id": row.strategy_id, "symbol": row.symbol, "side": row.action, "is_paper": None}
    return told | {"outcome": "unknown", "reason": "a signal from before the switch is still being executed"}


def _close(sender: Sender, url: str, store: Store, position: Position) -> dict[str, Any]:
    told: dict[str, Any] = {"strategy_id": position.strategy_id, "symbol": position.symbol}
    told |= {"side": position.side.value, "is_paper": position.is_paper}
    secret = store.webhook_secret(position.user_id)
    if secret is None:
        return told | {"outcome": "dead", "reason": "the person has no webhook secret"}
    attempt = _attempt(sender, url, position, secret)
    return told | {"outcome": attempt.outcome.value, "reason": attempt.reason}


def _attempt(sender: Sender, url: str, position: Position, secret: SecretStr) -> delivery.Attempt:
    now = datetime.now(UTC)
    name = uuid.uuid5(position.id, f"kill/{now.isoformat()}")
    payload = {
        "user_id": str(position.user_id),
        "exchange": position.exchange,
        "symbol": position.symbol,
        "action": "CLOSE",
        "strategy_id": None if position.strategy_id is None else str(position.strategy_id),
        "environment": "paper" if position.is_paper else "production",
        "source": "kill_switch",
        "signal_id": str(name),
    }
    row = {"id": name, "user_id": position.user_id, "strategy_id": position.strategy_id, "symbol": position.symbol}
    signal = Signal.model_validate(row | {"payload": payload, "attempts": 1, "created_at": now, "expires_at": now})
    for _ in range(ATTEMPTS):
        attempt = delivery.post(sender, url, signal, secret)
        if attempt.outcome is not SignalOutcome.RETRY:
            break
        time.sleep(min(attempt.retry_in_s or 1.0, 2.0))
    return attempt
