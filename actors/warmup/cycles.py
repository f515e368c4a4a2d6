"""One whole cycle on canned answers, played by the fork server before it forks: whatever a strategy loads, compiles and
caches on its first cycle is then there already, in pages that all strategies share. No peer, no network, and no thread
is left."""

import json
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import httpcore
import setproctitle
import structlog
from pydantic import SecretStr

from actors.messages import CycleFinished, LlmCalled, Permit, SignalReady, Snapshot, StrategyChanged
from actors.runtime.messages import Ask, Message
from actors.runtime.messaging import pack, unpack
from actors.shared_services import PeersDesk
from actors.strategy import StrategyActor
from actors.warmup.fake_postgres import canned_postgres
from engine.deciding.commit_gate import CommitGate
from engine.deciding.cycle import CycleOutcome, Ports, run_cycle
from engine.deciding.schedule import cadence_of, missed_ticks, next_tick
from engine.domain.market import Candle, Indicators, MarketSnapshot
from engine.llm.groq_client import GroqModel
from engine.platform import logs
from engine.platform.settings.settings import Settings
from engine.store.store import open_store

logger = structlog.get_logger()

NOBODY: Final = UUID(int=0)
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_CANDLES: Final = tuple(Candle(60_000 * minute, 2.0, 3.0, 1.0, 2.0, 1.0) for minute in range(10))
_STRATEGY: Final[dict[str, Any]] = {
    "id": str(NOBODY),
    "user_id": str(NOBODY),
    "name": "rehearsal",
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
    "updated_at": _LONG_AGO.isoformat(),
}
ROWS: Final = {
    "strategy_context": {
        "strategy": _STRATEGY,
        "positions": [],
        "equity_usd": 1000,
        "peak_equity_usd": 1000,
        "drawdown_percent": 0,
        "llm_spent_today_usd": 0,
    },
    "record_decision": {"decision_id": str(NOBODY), "signal_id": str(NOBODY), "suppressed": None},
}
_ANSWER: Final = {
    "action": "LONG",
    "symbol": "BTCUSDT",
    "size_usd": 10,
    "confidence": 0.9,
    "reasoning": "A rehearsal.",
    "stop_loss_percent": 1,
    "take_profit_percent": 2,
}


def rehearse_often(times: int) -> None:
    """Plays it so many times. One that fails is told, and costs every child memory, but nobody's start."""
    logs.configure()
    try:
        for _ in range(times):
            rehearse()
    except Exception as error:  # noqa: BLE001 - whatever it was, children do without
        logger.warning("rehearsal_failed", reason=f"{type(error).__name__}: {error}", effect="more memory per child")


def rehearse() -> None:
    """Plays it. Raises RuntimeError when the cycle did not reach its end: then it would not warm what it should."""
    with canned_postgres(ROWS) as database:
        settings = Settings(
            groq_api_key=SecretStr("no-key"),
            database_url=SecretStr(database),
        )
        Settings.unsealed(settings.sealed())
        logs.configure(secrets=logs.secrets_of(settings))
        setproctitle.setproctitle("sparky: fork server")
        # From 3.12 on CPython reads its number of threads from /proc/self/stat at each fork, and splits that at spaces.
        setproctitle.setthreadtitle("sparky-fork")
        outcome = _cycle(settings)
    if outcome.signal_id is None:
        raise RuntimeError(f"the rehearsal ended with {outcome.outcome}: {outcome.reason}")
    _tell(settings, outcome)


def _cycle(settings: Settings) -> CycleOutcome:
    store = open_store(settings, keep=False, engine=NOBODY)
    model = GroqModel(settings, httpcore.MockBackend([_completion(settings.groq_model[0])]))
    ports = Ports(
        records=store,
        surroundings=PeersDesk(CannedPeers(), NOBODY),
        model=model,
        gate=CommitGate(),
        deadline_s=10.0,
        llm_timeout_s=10.0,
        signal_ttl_s=60.0,
    )
    try:
        return run_cycle(NOBODY, ports)
    finally:
        model.close()


def _tell(settings: Settings, outcome: CycleOutcome) -> None:
    """What follows a cycle: the next tick, and the events."""
    actor = StrategyActor(settings, CannedPeers(), NOBODY)
    actor.receive(StrategyChanged(revision="1"))
    cadence = cadence_of(NOBODY, 45.0)
    missed = missed_ticks(cadence, next_tick(cadence, 0.0), next_tick(cadence, 100.0))
    event = CycleFinished(
        strategy_id=NOBODY,
        name="rehearsal",
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
    call = LlmCalled(strategy_id=NOBODY, model="none", outcome="ok", duration_s=0.0)
    for message in (event, call, SignalReady(signal_id=NOBODY)):
        CannedPeers().tell("monitor", message)


class CannedPeers:
    """Everything that is said goes through the form in which it travels."""

    def ask(self, name: str, message: Ask, reply: type[Any]) -> Any:  # noqa: ARG002 - the reply says who is asked
        unpack(*pack(message))
        return unpack(*pack(_snapshot() if reply is Snapshot else Permit(permit_id=NOBODY, waited_s=0.0)))

    def tell(self, name: str, message: Message) -> None:  # noqa: ARG002 - nobody is there
        unpack(*pack(message))


def _snapshot() -> Snapshot:
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


def _completion(model: str) -> bytes:
    """An answer of the provider as it comes over the wire."""
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    message = {"role": "assistant", "content": json.dumps(_ANSWER)}
    body = {
        "id": "rehearsal",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content
