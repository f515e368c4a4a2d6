"""Who runs, in which order, knowing what: the boot order of Sparky, as a pure function of its settings."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from actors.engine_lease import STANDBY
from actors.runtime.child_spec import ChildSpec, Kind, Plan, Restart
from actors.runtime.messages import WantedStrategy
from engine.deciding.decision_record import AGAIN_FOR_S
from engine.platform.errors import BadConfiguration
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
_EVERYBODY: Final = frozenset({"sparky_home", "sparky_log_level", "sparky_log_format"})
HEEDS: Final[Mapping[str, frozenset[str]]] = {
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
class Engine:
    """One start of a supervisor: its run, by which the database knows it, and whether it waits for another's end."""

    run: UUID
    is_standby: bool = False


WEBHOOK_PATH: Final = "/webhook/ai-signal"
KEYLESS: Final = SecretStr(
    "no-key"
)  # the groq SDK insists on a key; neither the simulator nor a keyless endpoint reads it


def resolve(settings: Settings) -> Settings:
    """`settings` with every address and the database filled in, so that no child asks whether it meets a simulator.

    Raises BadConfiguration for settings that contradict each other.
    """
    if settings.sparky_market_url is not None and settings.sparky_market is None:
        raise BadConfiguration("SPARKY_MARKET_URL needs SPARKY_MARKET, the venue that it speaks for, such as aster.")
    return settings.model_copy(update=_model(settings) | _market(settings) | _places(settings))


def _model(settings: Settings) -> dict[str, object]:
    update: dict[str, object] = {"groq_api_key": settings.groq_api_key or KEYLESS}
    if settings.simulates_groq:
        update["groq_base_url"] = f"http://127.0.0.1:{settings.sparky_sim_groq_port}"
    return update


def _market(settings: Settings) -> dict[str, object]:
    if not settings.simulates_market:
        return {"sparky_market": settings.exchange}
    url = f"http://127.0.0.1:{settings.sparky_sim_aster_port}"
    candles = None if settings.sparky_candles is None else settings.sparky_candles.absolute()
    return {"sparky_market": settings.exchange, "sparky_market_url": url, "sparky_candles": candles}


def _places(settings: Settings) -> dict[str, object]:
    webhook_url = settings.webhook_url or _own_webhook(settings) + WEBHOOK_PATH
    update: dict[str, object] = {"webhook_url": webhook_url, "sparky_home": settings.sparky_home}
    if settings.embeds_database:
        update["database_url"] = SecretStr(embedded_postgres.dsn(settings.sparky_home))
    return update


def for_child(settings: Settings, kind: str) -> Settings:
    """`settings` without the secrets that a child of `kind` (a name, or ``strategy``) does not need."""
    withheld = ALL_SECRETS - SECRETS.get(kind, frozenset())
    return settings.model_copy(update=dict.fromkeys(withheld))


def everything(settings: Settings, engine: Engine, *, has_demo: bool) -> list[ChildSpec]:
    """All fixed children of `sparky up` in boot order. Children of one stage start together."""
    resolved = resolve(settings)
    # The embedded database migrates as it starts.
    tasks = ["migrate"] * (not settings.embeds_database) + ["demo"] * has_demo
    children: list[ChildSpec | None] = [
        _database(resolved) if settings.embeds_database else None,
        _service(resolved, 0, "sim-groq", "simulator.service:make_groq") if settings.simulates_groq else None,
        _service(resolved, 0, "sim-aster", "simulator.service:make_aster") if settings.simulates_market else None,
        _actor(resolved, 0, "monitor", "actors.monitor.actor:make"),
        _prepare(resolved, ",".join(tasks)) if tasks else None,
        _webhook(resolved, engine) if serves_webhook(settings) else None,
        *_shared(resolved, engine),
    ]
    return [child for child in children if child is not None]


def production(settings: Settings, engine: Engine) -> list[ChildSpec]:
    """The fixed children of `sparky supervise`: the engine alone; the database and the webhook server are other units.

    Raises BadConfiguration when a service it would need is only simulated.
    """
    if settings.simulates_groq:
        raise BadConfiguration(
            "GROQ_API_KEY is not set: `sparky supervise` runs the real engine; `sparky up` brings simulators."
        )
    if settings.simulates_market:
        raise BadConfiguration(
            "SPARKY_MARKET or SPARKY_CANDLES asks for the simulated market, which only `sparky up` brings."
        )
    resolved = resolve(settings)
    return [_actor(resolved, 0, "monitor", "actors.monitor.actor:make"), *_shared(resolved, engine)]


def plan(settings: Settings, engine: Engine, fixed: Sequence[ChildSpec]) -> Plan:
    """The whole of it: `fixed` children and, by the same settings, the strategies."""
    resolved = resolve(settings)
    sealed, heeds = _sealed(resolved, "strategy"), _heeded(resolved, "strategy")

    def of(wanted: WantedStrategy) -> ChildSpec:
        return ChildSpec(
            name=f"strategy-{wanted.id}",
            entry="actors.strategy:make",
            kind="strategy",
            stage=5,
            settings=sealed,
            argument=f"{wanted.id}/{engine.run}",
            title=wanted.name,
            restart=Restart.TRANSIENT,
            tick_deadline_s=resolved.sparky_cycle_deadline_s + 1,
            grace_s=AGAIN_FOR_S + 1,
            memory_mb=resolved.sparky_strategy_memory_mb,
            heeds=heeds,
            needs_lease=True,
        )

    return Plan(tuple(fixed), of)


def serves_webhook(settings: Settings) -> bool:
    """Whether `sparky up` brings the webhook server: unless the signals are to go somewhere else."""
    if settings.webhook_url is None:
        return True
    there, here = urlsplit(settings.webhook_url), urlsplit(_own_webhook(settings))
    return (there.hostname in {here.hostname, "localhost"}) and there.port == here.port


def listeners(settings: Settings) -> dict[str, tuple[str, int]]:
    """Where `sparky up` listens: (host, port) by the setting that moves the port."""
    found = {"SPARKY_MONITOR_PORT": (settings.sparky_monitor_host, settings.sparky_monitor_port)}
    if serves_webhook(settings):
        found["SPARKY_WEBHOOK_PORT"] = (settings.sparky_webhook_host, settings.sparky_webhook_port)
    if settings.simulates_groq:
        found["SPARKY_SIM_GROQ_PORT"] = ("127.0.0.1", settings.sparky_sim_groq_port)
    if settings.simulates_market:
        found["SPARKY_SIM_ASTER_PORT"] = ("127.0.0.1", settings.sparky_sim_aster_port)
    return found


def _shared(settings: Settings, engine: Engine) -> list[ChildSpec]:
    run = str(engine.run)
    lease = replace(
        _actor(settings, 2, "engine-lease", "actors.engine_lease:make"),
        argument=f"{run}/{STANDBY}" if engine.is_standby else run,
    )
    # Nobody needs the limiter and the market any more once the strategies have stopped; the dispatcher still flushes.
    return [
        lease,
        replace(_actor(settings, 2, "limiter", "actors.rate_limiter:make"), closes_at=4),
        replace(_actor(settings, 2, "market", "actors.market_data:make"), closes_at=4),
        replace(_actor(settings, 3, "dispatcher", "actors.dispatcher:make"), argument=run, needs_lease=True),
        replace(_actor(settings, 4, "roster", "actors.strategy_watcher:make"), argument=run, needs_lease=True),
    ]


def _database(settings: Settings) -> ChildSpec:
    # The first start makes a whole cluster, and PostgreSQL must be shut down also when the supervisor is killed.
    spec = _service(settings, 0, "database", "engine.store.embedded.embedded_postgres:make")
    return replace(spec, start_deadline_s=60.0, grace_s=5.0, death_signal=signal.SIGTERM)


def _webhook(settings: Settings, engine: Engine) -> ChildSpec:
    """It executes while its engine runs: else an engine might deliver to a server that may not execute."""
    return replace(_service(settings, 2, "webhook", "webhook_server.service:make"), argument=str(engine.run))


def _prepare(settings: Settings, tasks: str) -> ChildSpec:
    spec = _actor(settings, 1, "prepare", "cli.run.prepare:make")
    return replace(spec, argument=tasks, restart=Restart.TRANSIENT, start_deadline_s=60.0, tick_deadline_s=60.0)


def _actor(settings: Settings, stage: int, name: str, entry: str) -> ChildSpec:
    return _child(settings, stage, name, entry, "actor")


def _service(settings: Settings, stage: int, name: str, entry: str) -> ChildSpec:
    return _child(settings, stage, name, entry, "service")


def _child(settings: Settings, stage: int, name: str, entry: str, kind: Kind) -> ChildSpec:
    sealed, heeds = _sealed(settings, name), _heeded(settings, name)
    return ChildSpec(name, entry, kind, stage, sealed, title=name, heeds=heeds)


def _sealed(settings: Settings, kind: str) -> SecretStr:
    return SecretStr(for_child(settings, kind).sealed())


def _heeded(settings: Settings, kind: str) -> SecretStr:
    return SecretStr(settings.model_dump_json(include=set(_EVERYBODY | HEEDS[kind])))


def _own_webhook(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.sparky_webhook_host, settings.sparky_webhook_host)  # noqa: S104 - asked about, not bound
    return f"http://{host}:{settings.sparky_webhook_port}"
