"""A signal that an engine of the version before recorded is delivered by this one, with the very body."""

import json
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr

from actors.messages import SignalAttempted
from engine.admin.strategy_checks import NewStrategy
from engine.domain.signal import SignalAction
from engine.domain.strategy import StrategyStatus
from engine.store.schema.migrate import migrate, read_migrations
from engine.store.store import Store
from engine.store.transport.postgres import PostgresRpc
from tests.actors.test_dispatcher import SECRET, Running
from tests.support.factories.keys import vault
from tests.support.servers.receiver import receiving
from webhook_server.intake.json_body import parse_object
from webhook_server.intake.schemas import AiSignal
from webhook_server.intake.signal_parser import parse_signal

AS_THE_VERSION_BEFORE_CALLED = {
    "action": "BUY",
    "symbol": "BTCUSDT",
    "exchange": "aster",
    "size_usd": "250.00",
    "confidence": 0.8,
    "reasoning": "up",
    "stop_loss_percent": 2.0,
    "take_profit_percent": None,
    "ttl_s": 60.0,
}


def test_a_row_of_the_version_before_is_delivered_with_the_body_that_it_would_have_sent(
    empty_database_url: str, tmp_path: Path
) -> None:
    for migration in takewhile(lambda each: not each.name.endswith("_signal_payloads.sql"), read_migrations()):
        (tmp_path / migration.name).write_text(migration.text)
    migrate(empty_database_url, tmp_path)
    with Store(PostgresRpc(SecretStr(empty_database_url), keep=True), vault()) as store:
        user = store.ensure_user("trader@example.org")
        store.set_webhook_secret(user, SECRET)
        row = store.create_strategy(NewStrategy(user_id=user, name="one", status=StrategyStatus.RUNNING))
        signal_id = uuid4()
        store.rpc.call(
            "record_decision",
            decision_id=signal_id,
            strategy_id=row.id,
            record={"action": "LONG", "symbol": "BTCUSDT"},
            signal=AS_THE_VERSION_BEFORE_CALLED,
            engine=None,
        )
        (stored,) = store.list_signals()

        migrate(empty_database_url)
        with receiving() as receiver:
            running = Running(store, receiver.url)
            (attempt,) = running.ear.wait_for(SignalAttempted)
            running.actor.close(10.0)
            running.ref.stop()

    assert (attempt.signal_id, attempt.outcome) == (signal_id, "delivered")
    ((headers, body),) = receiver.got
    assert headers["webhook-id"] == str(signal_id)
    assert body.decode() == json.dumps(stored.payload, separators=(",", ":"))  # with floats, as that version wrote it
    assert b'"position_size_usd":250.0,' in body
    read = parse_signal(parse_object(body), AiSignal)
    terms = (read.action, read.position_size_usd, read.stop_loss_percent)
    assert terms == (SignalAction.BUY, Decimal(250), Decimal(2))
    assert (read.strategy_id, read.expires_at) == (row.id, stored.expires_at)
