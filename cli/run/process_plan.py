"""Who runs, in which order, knowing what: the boot order of Sparky, as a pure function of its settings."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from actors.engine_lease import STANDBY
from actors.runtime.child_spec import ChildKind, ChildSpec, RestartPolicy, SupervisionPlan
from actors.runtime.messages import DesiredStrategy
from engine.deciding.decision_record import AGAIN_FOR_S
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings
from engine.store.embedded import embedded_postgres

DATABASE_SECRETS: Final = frozenset({"database_url", "supabase_url", "supabase_service_role_key"})
_VAULT: Final = frozenset({"sparky_encryption_key"})
_ADMIN: Final = frozenset({"sparky_admin_token"})
ALL_SECRETS: Final = DATABASE_SECRETS | _VAULT | _ADMIN | {"groq_api_key"}

# What a child may know beyond the ordinary settings. Who is not listed knows no secret.
SECRETS: Final[Mapping[str, frozenset[str]]] = {
    "monitor": _ADMIN,
    "prepare": DATABASE_SECRETS | _VAULT,
    "webhook": DATABASE_SECRETS | _VAULT | _ADMIN,
    "engine-lease": DATABASE_SECRETS | _VAULT,
    "dispatcher": DATABASE_SECRETS | _VAULT,
    "roster": DATABASE_SECRETS,
    "strategy": DATABASE_SECRETS | {"groq_api_key"},
}

# What a child uses beyond its secrets: when SIGHUP brings other values of these, it gets a new process, else it is left
# alone.
_DATABASE: Final = frozenset({"database_url", "supabase_url", "supabase_service_role_key"})
_SIMULATION: Final = frozenset({"sparky_sim_seed", "sparky_sim_speed", "sparky_candles"})
_PROVIDER_LIMITS: Final = frozenset({"sparky_llm_rpm", "sparky_llm_tpm", "sparky_llm_rpd", "sparky_llm_tpd"})
_COMMON_SETTINGS: Final = frozenset({"sparky_home", "sparky_log_level", "sparky_log_format"})
RESTART_ON_CHANGE: Final[Mapping[str, frozenset[str]]] = {
    "database": frozenset(),
    "sim-groq": _PROVIDER_LIMITS | {"sparky_sim_groq_port", "sparky_sim_seed"},
    "sim-aster": _SIMULATION | {"sparky_sim_aster_port"},
    "monitor": _ADMIN | {"sparky_monitor_host", "sparky_monitor_port", "sparky_behind_tls"},
    "prepare": _DATABASE | {"sparky_candles", "sparky_demo_cadence_s", "sparky_market"},
    "webhook": _DATABASE
    | _VAULT
    | _ADMIN
    | {
        "sparky_webhook_host",
        "sparky_webhook_port",
        "sparky_webhook_rate_per_s",
        "sparky_behind_tls",
        "sparky_market",
        "sparky_market_url",
        "sparky_mark_interval_s",
        "sparky_paper_fee_percent",
        "sparky_paper_slippage_percent",
    },
    "engine-lease": _DATABASE | _VAULT,
    "limiter": _PROVIDER_LIMITS | {"groq_base_url", "groq_model", "sparky_llm_concurrency", "sparky_llm_timeout_s"},
    "market": frozenset({"sparky_market", "sparky_market_url"}),
    "dispatcher": _DATABASE | _VAULT | {"webhook_url"},
    "roster": _DATABASE | {"sparky_roster_poll_s"},
    "strategy": _DATABASE
    | {
        "groq_api_key",
        "groq_base_url",
        "groq_model",
        "sparky_llm_timeout_s",
        "sparky_llm_reasoning_effort",
        "sparky_llm_prices",
        "sparky_daily_llm_budget_usd",
        "sparky_cycle_deadline_s",
        "sparky_signal_ttl_s",
        "sparky_strategy_memory_mb",
    },
}


@dataclass(frozen=True)
class EngineRun:
    """One start of a supervisor: its run, by which the database knows it, and whether it waits for another's end."""

    run_id: UUID
    is_standby: bool = False


WEBHOOK_PATH: Final = "/webhook/ai-signal"
DUMMY_API_KEY: Final = SecretStr(
    "no-key"
)  # the groq SDK insists on a key; neither the simulator nor a keyless endpoint reads it


def resolve_endpoints(settings: Settings) -> Settings:
    """`settings` with every address and the database filled in, so that no child asks whether it meets a simulator.

    Raises BadConfiguration for settings that contradict each other.
    """
    if settings.sparky_market_url is not None and settings.sparky_market is None:
        raise ConfigurationError("SPARKY_MARKET_URL needs SPARKY_MARKET, the venue that it speaks for, such as aster.")
    return settings.model_copy(
        update=_llm_overrides(settings) | _market_overrides(settings) | _address_overrides(settings)
    )


def _llm_overrides(settings: Settings) -> dict[str, object]:
    update: dict[str, object] = {"groq_api_key": settings.groq_api_key or DUMMY_API_KEY}
    if settings.simulates_groq:
        update["groq_base_url"] = f"http://127.0.0.1:{settings.sparky_sim_groq_port}"
    return update


def _market_overrides(settings: Settings) -> dict[str, object]:
    if not settings.simulates_market:
        return {"sparky_market": settings.exchange}
    url = f"http://127.0.0.1:{settings.sparky_sim_aster_port}"
    candles = None if settings.sparky_candles is None else settings.sparky_candles.absolute()
    return {"sparky_market": settings.exchange, "sparky_market_url": url, "sparky_candles": candles}


def _address_overrides(settings: Settings) -> dict[str, object]:
    webhook_url = settings.webhook_url or _own_webhook_url(settings) + WEBHOOK_PATH
    update: dict[str, object] = {"webhook_url": webhook_url, "sparky_home": settings.sparky_home}
    if settings.embeds_database:
        update["database_url"] = SecretStr(embedded_postgres.build_dsn(settings.sparky_home))
    return update


def settings_for_child(settings: Settings, kind: str) -> Settings:
    """`settings` without the secrets that a child of `kind` (a name, or ``strategy``) does not need."""
    withheld = ALL_SECRETS - SECRETS.get(kind, frozenset())
    return settings.model_copy(update=dict.fromkeys(withheld))


def build_full_children(settings: Settings, engine: EngineRun, *, has_demo: bool) -> list[ChildSpec]:
    """All fixed children of `sparky up` in boot order. Children of one stage start together."""
    resolved = resolve_endpoints(settings)
    # The embedded database migrates as it starts.
    tasks = ["migrate"] * (not settings.embeds_database) + ["demo"] * has_demo
    children: list[ChildSpec | None] = [
        _database_child(resolved) if settings.embeds_database else None,
        _service_child(resolved, 0, "sim-groq", "simulator.service:make_groq") if settings.simulates_groq else None,
        _service_child(resolved, 0, "sim-aster", "simulator.service:make_aster") if settings.simulates_market else None,
        _actor_child(resolved, 0, "monitor", "actors.monitor.actor:make"),
        _prepare_child(resolved, ",".join(tasks)) if tasks else None,
        _webhook_child(resolved, engine) if serves_webhook(settings) else None,
        *_shared_children(resolved, engine),
    ]
    return [child for child in children if child is not None]


def build_engine_children(settings: Settings, engine: EngineRun) -> list[ChildSpec]:
    """The fixed children of `sparky supervise`: the engine alone; the database and the webhook server are other units.

    Raises BadConfiguration when a service it would need is only simulated.
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
    return [_actor_child(resolved, 0, "monitor", "actors.monitor.actor:make"), *_shared_children(resolved, engine)]


def build_plan(settings: Settings, engine: EngineRun, fixed: Sequence[ChildSpec]) -> SupervisionPlan:
    """The whole of it: `fixed` children and, by the same settings, the strategies."""
    resolved = resolve_endpoints(settings)
    sealed, restart_key = _seal_settings(resolved, "strategy"), _restart_key(resolved, "strategy")

    def build_strategy(wanted: DesiredStrategy) -> ChildSpec:
        return ChildSpec(
            name=f"strategy-{wanted.id}",
            entry="actors.strategy:make",
            kind="strategy",
            stage=5,
            settings=sealed,
            argument=f"{wanted.id}/{engine.run_id}",
            title=wanted.name,
            restart=RestartPolicy.TRANSIENT,
            tick_deadline_s=resolved.sparky_cycle_deadline_s + 1,
            grace_s=AGAIN_FOR_S + 1,
            memory_mb=resolved.sparky_strategy_memory_mb,
            restart_key=restart_key,
            needs_lease=True,
        )

    return SupervisionPlan(tuple(fixed), build_strategy)


def serves_webhook(settings: Settings) -> bool:
    """Whether `sparky up` brings the webhook server: unless the signals are to go somewhere else."""
    if settings.webhook_url is None:
        return True
    there, here = urlsplit(settings.webhook_url), urlsplit(_own_webhook_url(settings))
    return (there.hostname in {here.hostname, "localhost"}) and there.port == here.port


def listen_addresses(settings: Settings) -> dict[str, tuple[str, int]]:
    """Where `sparky up` listens: (host, port) by the setting that moves the port."""
    found = {"SPARKY_MONITOR_PORT": (settings.sparky_monitor_host, settings.sparky_monitor_port)}
    if serves_webhook(settings):
        found["SPARKY_WEBHOOK_PORT"] = (settings.sparky_webhook_host, settings.sparky_webhook_port)
    if settings.simulates_groq:
        found["SPARKY_SIM_GROQ_PORT"] = ("127.0.0.1", settings.sparky_sim_groq_port)
    if settings.simulates_market:
        found["SPARKY_SIM_ASTER_PORT"] = ("127.0.0.1", settings.sparky_sim_aster_port)
    return found


def _shared_children(settings: Settings, engine: EngineRun) -> list[ChildSpec]:
    run = str(engine.run_id)
    lease = replace(
        _actor_child(settings, 2, "engine-lease", "actors.engine_lease:make"),
        argument=f"{run}/{STANDBY}" if engine.is_standby else run,
    )
    # Nobody needs the limiter and the market any more once the strategies have stopped; the dispatcher still flushes.
    return [
        lease,
        replace(_actor_child(settings, 2, "limiter", "actors.rate_limiter:make"), stop_stage=4),
        replace(_actor_child(settings, 2, "market", "actors.market_data:make"), stop_stage=4),
        replace(_actor_child(settings, 3, "dispatcher", "actors.dispatcher:make"), argument=run, needs_lease=True),
        replace(_actor_child(settings, 4, "roster", "actors.strategy_watcher:make"), argument=run, needs_lease=True),
    ]


def _database_child(settings: Settings) -> ChildSpec:
    # The first start makes a whole cluster, and PostgreSQL must be shut down also when the supervisor is killed.
    spec = _service_child(settings, 0, "database", "engine.store.embedded.embedded_postgres:make")
    return replace(spec, start_deadline_s=60.0, grace_s=5.0, death_signal=signal.SIGTERM)


def _webhook_child(settings: Settings, engine: EngineRun) -> ChildSpec:
    """It executes while its engine runs: else an engine might deliver to a server that may not execute."""
    return replace(_service_child(settings, 2, "webhook", "webhook_server.service:make"), argument=str(engine.run_id))


def _prepare_child(settings: Settings, tasks: str) -> ChildSpec:
    spec = _actor_child(settings, 1, "prepare", "cli.run.prepare:make")
    return replace(spec, argument=tasks, restart=RestartPolicy.TRANSIENT, start_deadline_s=60.0, tick_deadline_s=60.0)


def _actor_child(settings: Settings, stage: int, name: str, entry: str) -> ChildSpec:
    return _build_child(settings, stage, name, entry, "actor")


def _service_child(settings: Settings, stage: int, name: str, entry: str) -> ChildSpec:
    return _build_child(settings, stage, name, entry, "service")


def _build_child(settings: Settings, stage: int, name: str, entry: str, kind: ChildKind) -> ChildSpec:
    sealed, restart_key = _seal_settings(settings, name), _restart_key(settings, name)
    return ChildSpec(name, entry, kind, stage, sealed, title=name, restart_key=restart_key)


def _seal_settings(settings: Settings, kind: str) -> SecretStr:
    return SecretStr(settings_for_child(settings, kind).to_child_json())


def _restart_key(settings: Settings, kind: str) -> SecretStr:
    return SecretStr(settings.model_dump_json(include=set(_COMMON_SETTINGS | RESTART_ON_CHANGE[kind])))


def _own_webhook_url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.sparky_webhook_host, settings.sparky_webhook_host)  # noqa: S104 - asked about, not bound
    return f"http://{host}:{settings.sparky_webhook_port}"
