"""The settings of each process. A process receives its own model and nothing else, and is restarted when it changed.

The first half are groups of settings that several processes read, the second half one model for each process. Each
setting is declared once; `engine.platform.settings.settings.Settings` inherits all of them. A secret belongs into the
model of a process only where that process uses it.
"""

from decimal import Decimal
from pathlib import Path
from typing import Final

from pydantic import Field

from engine.platform.settings.process_settings import ProcessSettings
from engine.platform.settings.setting_types import (
    KNOWN_PRICES,
    AdminToken,
    DatabaseAddress,
    Effort,
    EncryptionKeys,
    Endpoint,
    HeaderSecret,
    HomePath,
    Models,
    Port,
    Prices,
    UnicodePath,
    Url,
    VenueName,
    default_home,
)

DEFAULT_EXCHANGE: Final = "aster"


# groups


class HomeSettings(ProcessSettings):
    """For a process that keeps files."""

    sparky_home: HomePath = Field(default_factory=default_home)

    @property
    def run_dir(self) -> Path:
        """Directory of sockets, locks and crash reports; 0700."""
        return self.sparky_home / "run"


class StoreSettings(ProcessSettings):
    """For a process that calls the database's functions."""

    supabase_url: Url | None = None
    supabase_service_role_key: HeaderSecret | None = None
    database_url: DatabaseAddress | None = None

    @property
    def embeds_database(self) -> bool:
        return self.database_url is None and self.supabase_url is None


class EncryptedStoreSettings(StoreSettings):
    """For a process that also reads or writes secrets which are sealed in the database."""

    sparky_encryption_key: EncryptionKeys | None = None


class GroqEndpointSettings(ProcessSettings):
    """Which models are asked, where, and for how long at most."""

    groq_base_url: Endpoint | None = None
    groq_model: Models = ("openai/gpt-oss-120b",)
    sparky_llm_timeout_s: float = Field(default=20.0, gt=0, le=600)


class GroqClientSettings(GroqEndpointSettings):
    """For a process that asks a model itself."""

    groq_api_key: HeaderSecret | None = None
    sparky_llm_reasoning_effort: Effort = "low"
    sparky_llm_prices: Prices = Field(default_factory=lambda: dict(KNOWN_PRICES))


class ProviderLimitSettings(ProcessSettings):
    """What the model's provider allows, per model."""

    sparky_llm_rpm: int = Field(default=30, ge=1)
    sparky_llm_tpm: int | None = Field(default=None, ge=1)
    sparky_llm_rpd: int | None = Field(default=None, ge=1)
    sparky_llm_tpd: int | None = Field(default=None, ge=1)


class VenueNameSettings(ProcessSettings):
    """The venue of the settings, by ccxt's name."""

    sparky_market: VenueName | None = None


class VenueSettings(VenueNameSettings):
    """For a process that asks the venue."""

    sparky_market_url: Url | None = None


class CandleFileSettings(ProcessSettings):
    """The candles that the simulated market plays; None for synthetic ones."""

    sparky_candles: UnicodePath | None = None


class AdminSettings(ProcessSettings):
    """For an HTTP server with pages for the operator."""

    sparky_admin_token: AdminToken | None = None
    sparky_behind_tls: bool = False


# processes


class EmbeddedDatabaseSettings(HomeSettings):
    """Of `engine.store.embedded.embedded_postgres`."""


class GroqSimulatorSettings(ProviderLimitSettings):
    """Of `simulator.service.make_groq`."""

    sparky_sim_groq_port: Port = 3901


class AsterSimulatorSettings(HomeSettings, CandleFileSettings):
    """Of `simulator.service.make_aster`."""

    sparky_sim_speed: float = Field(default=60.0, gt=0, le=100_000)
    sparky_sim_seed: int = 1
    sparky_sim_aster_port: Port = 3902


class MonitorSettings(HomeSettings, AdminSettings):
    """Of `actors.monitor.actor`."""

    sparky_monitor_host: str = "127.0.0.1"
    sparky_monitor_port: Port = 9108


class PrepareSettings(EncryptedStoreSettings, VenueNameSettings, CandleFileSettings):
    """Of `cli.run.prepare`. It seals the webhook secret of the demo's user."""

    sparky_demo_cadence_s: float = Field(default=10.0, ge=1, le=3_600)

    @property
    def exchange(self) -> str:
        """Where a new strategy trades that names no exchange."""
        return self.sparky_market or DEFAULT_EXCHANGE


class WebhookServerSettings(EncryptedStoreSettings, VenueSettings, AdminSettings):
    """Of `webhook_server.service`."""

    sparky_webhook_host: str = "127.0.0.1"
    sparky_webhook_port: Port = 3000
    sparky_webhook_rate_per_s: float = Field(default=500.0, gt=0)
    sparky_paper_fee_percent: Decimal = Field(default=Decimal("0.04"), ge=0, le=5)
    sparky_paper_slippage_percent: Decimal = Field(default=Decimal("0.02"), ge=0, le=5)
    sparky_mark_interval_s: float = Field(default=5.0, gt=0, le=300)


class EngineLeaseSettings(HomeSettings, EncryptedStoreSettings):
    """Of `actors.engine_lease`. It checks that the key opens what is sealed, before it takes the lease."""


class RateLimiterSettings(HomeSettings, GroqEndpointSettings, ProviderLimitSettings):
    """Of `actors.rate_limiter`."""

    sparky_llm_concurrency: int = Field(default=16, ge=1)


class MarketDataSettings(VenueSettings):
    """Of `actors.market_data`."""


class DispatcherSettings(EncryptedStoreSettings):
    """Of `actors.dispatcher`. It signs each delivery with the user's webhook secret, which is sealed."""

    webhook_url: Url | None = None


class StrategyWatcherSettings(StoreSettings):
    """Of `actors.strategy_watcher`."""

    sparky_strategy_poll_s: float = Field(default=2.0, gt=0, le=5)


class StrategySettings(HomeSettings, StoreSettings, GroqClientSettings):
    """Of `actors.strategy`: all strategies have the same, what differs stands in their rows."""

    sparky_daily_llm_budget_usd: Decimal | None = Field(default=None, ge=0)
    sparky_cycle_deadline_s: float = Field(default=40.0, gt=0, le=3_600)
    sparky_signal_ttl_s: float = Field(default=60.0, gt=0, le=3_600)
