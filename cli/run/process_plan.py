"""Which processes run, in which order, with which settings: a pure function of the settings as a whole."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from actors.engine_lease import STANDBY
from actors.runtime.child_spec import ChildSpec, ExhaustedRestarts, ReportRecipients, RestartPolicy, SupervisionPlan
from actors.runtime.messages import DesiredChild
from actors.strategy_process_names import PREFIX as STRATEGY_PREFIX
from engine.deciding.decision_record import RECORD_RETRY_S
from engine.platform.errors import ConfigurationError
from engine.platform.http.addresses import build_base_url, loopback_for_wildcard
from engine.platform.settings.component_settings import (
    AsterSimulatorSettings,
    DispatcherSettings,
    EmbeddedDatabaseSettings,
    EngineLeaseSettings,
    GroqSimulatorSettings,
    MarketDataSettings,
    MonitorSettings,
    PrepareSettings,
    RateLimiterSettings,
    StrategySettings,
    StrategyWatcherSettings,
    WebhookServerSettings,
)
from engine.platform.settings.process_settings import ProcessSettings
from engine.platform.settings.settings import Settings
from engine.store.embedded import embedded_postgres


@dataclass(frozen=True)
class EngineRun:
    """One start of a supervisor: the run id that identifies it in the database, and whether it waits for another
    engine to end."""

    run_id: UUID
    is_standby: bool = False


# The limiter frees what an ended strategy asked for and held. The strategy watcher pauses the row of a parked one, and
# the monitor raises the alarm.
REPORT_RECIPIENTS: Final = ReportRecipients(
    ended=("limiter",), parked=("strategy-watcher", "monitor"), states=("monitor",)
)
WARM_UP: Final = "actors.warmup.cycles:warm_up"  # by name: only the fork server loads what it imports
WEBHOOK_PATH: Final = "/webhook/ai-signal"
DUMMY_API_KEY: Final = SecretStr(
    "no-key"
)  # the groq SDK insists on a key; neither the simulator nor a keyless endpoint reads it


def resolve_endpoints(settings: Settings) -> Settings:
    """`settings` with every address and the database filled in, so that no child needs to know of simulators.

    Raises ConfigurationError for settings that contradict each other.
    """
    if settings.sparky_market_url is not None and settings.sparky_market is None:
        raise ConfigurationError("SPARKY_MARKET_URL needs SPARKY_MARKET, the venue that it speaks for, such as aster.")
    return settings.model_copy(
        update=_build_llm_overrides(settings) | _build_market_overrides(settings) | _build_address_overrides(settings)
    )


def _build_llm_overrides(settings: Settings) -> dict[str, object]:
    update: dict[str, object] = {"groq_api_key": settings.groq_api_key or DUMMY_API_KEY}
    if settings.simulates_groq:
        update["groq_base_url"] = f"http://127.0.0.1:{settings.sparky_sim_groq_port}"
    return update


def _build_market_overrides(settings: Settings) -> dict[str, object]:
    if not settings.simulates_market:
        return {"sparky_market": settings.exchange}
    url = f"http://127.0.0.1:{settings.sparky_sim_aster_port}"
    candles = None if settings.sparky_candles is None else settings.sparky_candles.absolute()
    return {"sparky_market": settings.exchange, "sparky_market_url": url, "sparky_candles": candles}


def _build_address_overrides(settings: Settings) -> dict[str, object]:
    webhook_url = settings.webhook_url or _build_own_webhook_url(settings) + WEBHOOK_PATH
    update: dict[str, object] = {"webhook_url": webhook_url, "sparky_home": settings.sparky_home}
    if settings.embeds_database:
        update["database_url"] = SecretStr(embedded_postgres.build_dsn(settings.sparky_home))
    return update


def build_full_children(settings: Settings, engine: EngineRun, *, has_demo: bool) -> list[ChildSpec]:
    """All fixed children of `sparky up` in boot order. Children of one stage start together."""
    resolved = resolve_endpoints(settings)
    # The embedded database migrates as it starts.
    tasks = ["migrate"] * (not settings.embeds_database) + ["demo"] * has_demo
    children: list[ChildSpec | None] = [
        _build_database_child(resolved) if settings.embeds_database else None,
        _build_groq_simulator_child(resolved) if settings.simulates_groq else None,
        _build_aster_simulator_child(resolved) if settings.simulates_market else None,
        _build_monitor_child(resolved),
        _build_prepare_child(resolved, ",".join(tasks)) if tasks else None,
        _build_webhook_child(resolved, engine) if should_serve_webhook(settings) else None,
        *_build_shared_children(resolved, engine),
    ]
    return [child for child in children if child is not None]


def build_engine_children(settings: Settings, engine: EngineRun) -> list[ChildSpec]:
    """The fixed children of `sparky supervise`: the engine alone; database and webhook server are units of their own.

    Raises ConfigurationError when a service that it needs would be a simulation: production must not trade on one.
    """
    if settings.simulates_groq:
        raise ConfigurationError(
            "GROQ_API_KEY is not set: `sparky supervise` runs the real engine; `sparky up` brings simulators."
        )
    if settings.simulates_market:
        raise ConfigurationError(
            "SPARKY_MARKET or SPARKY_CANDLES asks for the simulated market, which only `sparky up` brings."
        )
    resolved = resolve_endpoints(settings)
    return [_build_monitor_child(resolved), *_build_shared_children(resolved, engine)]


def build_plan(settings: Settings, engine: EngineRun, fixed: Sequence[ChildSpec]) -> SupervisionPlan:
    """The supervisor's plan: the `fixed` children, and a factory of strategies' specs by the same settings."""
    resolved = resolve_endpoints(settings)
    strategy_settings = resolved.select(StrategySettings)

    def build_strategy(wanted: DesiredChild) -> ChildSpec:
        return ChildSpec(
            name=wanted.name,
            entry="actors.strategy:make",
            kind="actor",
            stage=5,
            settings=strategy_settings,
            argument=f"{wanted.name.removeprefix(STRATEGY_PREFIX)}/{engine.run_id}",
            title=wanted.title,
            restart=RestartPolicy.TRANSIENT,
            on_exhausted=ExhaustedRestarts.PARK,
            is_dynamic=True,
            group="strategy",
            tick_deadline_s=resolved.sparky_cycle_deadline_s + 1,
            grace_s=RECORD_RETRY_S + 1,
            memory_mb=resolved.sparky_strategy_memory_mb,
            needs_lease=True,
        )

    return SupervisionPlan(tuple(fixed), build_strategy, REPORT_RECIPIENTS, WARM_UP)


def should_serve_webhook(settings: Settings) -> bool:
    """Whether `sparky up` runs the webhook server: unless WEBHOOK_URL names another one."""
    if settings.webhook_url is None:
        return True
    there, here = urlsplit(settings.webhook_url), urlsplit(_build_own_webhook_url(settings))
    return (there.hostname in {here.hostname, "localhost"}) and there.port == here.port


def list_listen_addresses(settings: Settings) -> dict[str, tuple[str, int]]:
    """The addresses that `sparky up` listens on: (host, port) by the name of the setting for the port."""
    addresses = {"SPARKY_MONITOR_PORT": (settings.sparky_monitor_host, settings.sparky_monitor_port)}
    if should_serve_webhook(settings):
        addresses["SPARKY_WEBHOOK_PORT"] = (settings.sparky_webhook_host, settings.sparky_webhook_port)
    if settings.simulates_groq:
        addresses["SPARKY_SIM_GROQ_PORT"] = ("127.0.0.1", settings.sparky_sim_groq_port)
    if settings.simulates_market:
        addresses["SPARKY_SIM_ASTER_PORT"] = ("127.0.0.1", settings.sparky_sim_aster_port)
    return addresses


def _build_shared_children(settings: Settings, engine: EngineRun) -> list[ChildSpec]:
    run = str(engine.run_id)
    lease = replace(
        _build_actor_child(settings.select(EngineLeaseSettings), 2, "engine-lease", "actors.engine_lease:make"),
        argument=f"{run}/{STANDBY}" if engine.is_standby else run,
    )
    # Only strategies use the limiter and market data, so these stop right after them; the dispatcher still delivers the
    # last signals.
    return [
        lease,
        replace(
            _build_actor_child(settings.select(RateLimiterSettings), 2, "limiter", "actors.rate_limiter:make"),
            stop_stage=4,
        ),
        replace(
            _build_actor_child(settings.select(MarketDataSettings), 2, "market", "actors.market_data:make"),
            stop_stage=4,
        ),
        replace(
            _build_actor_child(settings.select(DispatcherSettings), 3, "dispatcher", "actors.dispatcher:make"),
            argument=run,
            needs_lease=True,
        ),
        replace(
            _build_actor_child(
                settings.select(StrategyWatcherSettings), 4, "strategy-watcher", "actors.strategy_watcher:make"
            ),
            argument=run,
            needs_lease=True,
        ),
    ]


def _build_groq_simulator_child(settings: Settings) -> ChildSpec:
    return _build_service_child(settings.select(GroqSimulatorSettings), 0, "sim-groq", "simulator.service:make_groq")


def _build_aster_simulator_child(settings: Settings) -> ChildSpec:
    return _build_service_child(settings.select(AsterSimulatorSettings), 0, "sim-aster", "simulator.service:make_aster")


def _build_monitor_child(settings: Settings) -> ChildSpec:
    return _build_actor_child(settings.select(MonitorSettings), 0, "monitor", "actors.monitor.actor:make")


def _build_database_child(settings: Settings) -> ChildSpec:
    # The first start creates a database cluster, hence the long deadline. The death signal is SIGTERM, since PostgreSQL
    # must shut down properly also when the supervisor is killed.
    spec = _build_service_child(
        settings.select(EmbeddedDatabaseSettings), 0, "database", "engine.store.embedded.embedded_postgres:make"
    )
    return replace(spec, start_deadline_s=60.0, grace_s=5.0, death_signal=signal.SIGTERM)


def _build_webhook_child(settings: Settings, engine: EngineRun) -> ChildSpec:
    # With its engine's run id the server executes while that engine runs; without, the engine could deliver to a server
    # that may not execute.
    return replace(
        _build_service_child(settings.select(WebhookServerSettings), 2, "webhook", "webhook_server.service:make"),
        argument=str(engine.run_id),
    )


def _build_prepare_child(settings: Settings, tasks: str) -> ChildSpec:
    spec = _build_actor_child(settings.select(PrepareSettings), 1, "prepare", "cli.run.prepare:make")
    return replace(spec, argument=tasks, restart=RestartPolicy.TRANSIENT, start_deadline_s=60.0, tick_deadline_s=60.0)


def _build_actor_child(settings: ProcessSettings, stage: int, name: str, entry: str) -> ChildSpec:
    return ChildSpec(name, entry, "actor", stage, settings, title=name)


def _build_service_child(settings: ProcessSettings, stage: int, name: str, entry: str) -> ChildSpec:
    return ChildSpec(name, entry, "service", stage, settings, title=name)


def _build_own_webhook_url(settings: Settings) -> str:
    return build_base_url(loopback_for_wildcard(settings.sparky_webhook_host), settings.sparky_webhook_port)
