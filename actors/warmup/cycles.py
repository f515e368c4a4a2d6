"""One whole cycle on canned answers, run by the fork server before it forks.

What a strategy loads, compiles and caches on its first cycle is then in pages that all strategies share. It needs no
peer and no network, and leaves no thread, since a process with threads must not fork.
"""

import importlib
import json
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import httpcore
import structlog
from pydantic import SecretStr

from actors.messages import CycleFinished, LlmCalled, Permit, SignalQueued, Snapshot, StrategyChanged
from actors.runtime.messages import Ask, Message
from actors.runtime.messaging import decode, encode
from actors.shared_services import SharedServicesClient
from actors.strategy import StrategyActor
from actors.warmup.fake_postgres import serve_fake_postgres
from engine.deciding.commit_gate import CommitGate
from engine.deciding.cycle import run_cycle
from engine.deciding.cycle_interface import CycleDependencies, CycleOutcome
from engine.deciding.schedule import build_cadence, count_missed_ticks, find_next_tick
from engine.domain.market import Candle, Indicators, MarketSnapshot
from engine.llm.groq_client import GroqClient
from engine.platform import logs
from engine.platform.settings.component_settings import StrategySettings
from engine.store.store import open_store

logger = structlog.get_logger()

ENTRY: Final = f"{__name__}:warm_up"
NIL_ID: Final = UUID(int=0)
_WARMUP_CYCLES: Final = 10  # CPython 3.11 specializes a function's code after 8 calls or so, which writes to its pages
_FAKE_UPDATED_AT: Final = datetime(2000, 1, 1, tzinfo=UTC)
_CANDLES: Final = tuple(Candle(60_000 * minute, 2.0, 3.0, 1.0, 2.0, 1.0) for minute in range(10))
_STRATEGY: Final[dict[str, Any]] = {
    "id": str(NIL_ID),
    "user_id": str(NIL_ID),
    "name": "warmup",
    "status": "running",
    "risk_profile": "balanced",
    "target_assets": ["BTCUSDT"],
    "exchange": "aster",
    "is_paper_trading": True,
    "cadence_seconds": 45,
    "min_confidence": 0.1,
    "max_drawdown_percent": 20,
    "leverage_max": 1,
    "max_position_usd": 100,
    "capital_usd": 1000,
    "rules": {"stop_loss_required": True, "max_entry_percent": 50, "adding": "to_winner", "min_stop_loss_percent": 0.2},
    "updated_at": _FAKE_UPDATED_AT.isoformat(),
}
FAKE_ROWS: Final = {
    "strategy_context": {
        "strategy": _STRATEGY,
        "positions": [],
        "equity_usd": 1000,
        "peak_equity_usd": 1000,
        "drawdown_percent": 0,
        "llm_spent_today_usd": 0,
    },
    "record_decision": {"decision_id": str(NIL_ID), "signal_id": str(NIL_ID), "suppressed": None},
}
_FAKE_DECISION: Final = {
    "action": "LONG",
    "symbol": "BTCUSDT",
    "size_usd": 10,
    "confidence": 0.9,
    "reasoning": "A warm-up cycle.",
    "stop_loss_percent": 1,
    "take_profit_percent": 2,
}


def warm_up() -> None:
    """The fork server's warm-up: loads all that a strategy may need, and runs the cycle."""
    importlib.import_module("engine.store.transport.supabase")  # the transport that the warm-up cycle does not use
    run_warmup_cycles(_WARMUP_CYCLES)


def run_warmup_cycles(times: int) -> None:
    """Runs the cycle so many times. A failure is logged and costs every child memory, but stops no start."""
    logs.configure()
    try:
        for _ in range(times):
            run_warmup_cycle()
    except Exception as error:  # noqa: BLE001 - children work without the warm-up
        logger.warning("warmup_failed", reason=f"{type(error).__name__}: {error}", effect="more memory per child")


def run_warmup_cycle() -> None:
    """Runs the cycle once. Raises RuntimeError when it did not reach its end: not all is loaded then."""
    with serve_fake_postgres(FAKE_ROWS) as database:
        settings = StrategySettings(
            groq_api_key=SecretStr("no-key"),
            database_url=SecretStr(database),
        )
        StrategySettings.from_child_json(settings.to_child_json())
        logs.configure(secrets=logs.collect_secrets(settings))
        outcome = _run_fake_cycle(settings)
    if outcome.signal_id is None:
        raise RuntimeError(f"the warm-up cycle ended with {outcome.outcome}: {outcome.reason}")
    _exercise_events(settings, outcome)


def _run_fake_cycle(settings: StrategySettings) -> CycleOutcome:
    store = open_store(settings, keep=False, engine=NIL_ID)
    model = GroqClient(settings, httpcore.MockBackend([_build_completion(settings.groq_model[0])]))
    ports = CycleDependencies(
        store=store,
        services=SharedServicesClient(FakePeers(), NIL_ID),
        model=model,
        gate=CommitGate(),
        deadline_s=10.0,
        llm_timeout_s=10.0,
        signal_ttl_s=60.0,
    )
    try:
        return run_cycle(NIL_ID, ports)
    finally:
        model.close()


def _exercise_events(settings: StrategySettings, outcome: CycleOutcome) -> None:
    """What an actor does after a cycle: it finds its next tick, and sends events."""
    actor = StrategyActor(settings, FakePeers(), NIL_ID)
    actor.receive(StrategyChanged(revision="1"))
    cadence = build_cadence(NIL_ID, 45.0)
    missed = count_missed_ticks(cadence, find_next_tick(cadence, 0.0), find_next_tick(cadence, 100.0))
    event = CycleFinished(
        strategy_id=NIL_ID,
        name="warmup",
        outcome=outcome.outcome,
        duration_s=outcome.duration_s,
        engine_s=outcome.engine_s,
        lateness_s=0.0,
        missed_ticks=missed,
        at=time.time(),
        next_tick_at=time.time(),
        failures=0,
        breaker="closed",
    )
    call = LlmCalled(strategy_id=NIL_ID, model="none", outcome="ok", duration_s=0.0)
    for message in (event, call, SignalQueued(signal_id=NIL_ID)):
        FakePeers().tell("monitor", message)


class FakePeers:
    """Peers with canned replies; each message is encoded and decoded as on its way between processes."""

    def ask(self, name: str, message: Ask, reply: type[Any]) -> Any:  # noqa: ARG002 - the type of the reply says which peer is asked
        decode(*encode(message))
        return decode(*encode(_build_snapshot() if reply is Snapshot else Permit(permit_id=NIL_ID, waited_s=0.0)))

    def tell(self, name: str, message: Message) -> None:  # noqa: ARG002 - there is no peer
        decode(*encode(message))


def _build_snapshot() -> Snapshot:
    indicators = Indicators(**dict.fromkeys(Indicators.model_fields, 2.0))
    market = MarketSnapshot(
        venue="aster",
        symbol="BTCUSDT",
        as_of_ms=_CANDLES[-1].open_time_ms + 60_000,
        last_price=2.0,
        change_24h_percent=1.0,
        candles=_CANDLES,
        indicators=indicators,
    )
    return Snapshot(snapshot=market)


def _build_completion(model: str) -> bytes:
    """The provider's HTTP response to a completion request, as bytes."""
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    message = {"role": "assistant", "content": json.dumps(_FAKE_DECISION)}
    body = {
        "id": "warmup",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content
