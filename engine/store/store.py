"""Typed access to the database: one method per SQL function."""

from typing import Self
from uuid import UUID

from engine.platform.encryption import SecretCipher
from engine.platform.errors import ConfigurationError
from engine.platform.settings.component_settings import EncryptedStoreSettings, StoreSettings
from engine.store.admin_store import AdminStore
from engine.store.adoption import AdoptionStore
from engine.store.credentials import SecretsStore
from engine.store.cycles import EngineStore
from engine.store.funding import FundingStore
from engine.store.margin import MarginStore
from engine.store.transport.rpc import Rpc
from engine.store.venue_record import VenueStore
from engine.store.webhook_store import WebhookStore


class Store(EngineStore, WebhookStore, VenueStore, MarginStore, AdminStore, SecretsStore, AdoptionStore, FundingStore):
    """All methods of all areas; thread-safe if its `Rpc` is.

    Every method raises DatabaseUnavailable when the database cannot serve now, and ConfigurationError
    for what only a person can fix. Storing a secret needs a `vault` with a key. `engine` is the run id under which
    engine methods act; without one they are refused while any engine runs.
    """

    def __init__(self, rpc: Rpc, vault: SecretCipher | None = None, engine: UUID | None = None) -> None:
        self.rpc = rpc
        self.engine = engine
        self.vault = vault or SecretCipher(None)

    def close(self) -> None:
        self.rpc.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(settings: StoreSettings, *, keep: bool, engine: UUID | None = None, timeout_s: float = 10.0) -> Store:
    """A store on the database that the settings name; nothing is connected before the first call.

    `keep` keeps connections open between calls (for servers, not for strategies). `engine` is as in `Store`; a call
    ends within about `timeout_s`. Raises ConfigurationError if no database is named.
    """
    # Only the settings of processes that need secrets hold a key; the store of any other one cannot open or seal one.
    vault = SecretCipher(settings.sparky_encryption_key if isinstance(settings, EncryptedStoreSettings) else None)
    if settings.database_url is not None:
        from engine.store.transport.postgres import PostgresRpc  # here, because a process needs one driver only

        return Store(PostgresRpc(settings.database_url, timeout_s=timeout_s, keep=keep), vault, engine)
    if settings.supabase_url is not None and settings.supabase_service_role_key is not None:
        from engine.store.transport.supabase import SupabaseRpc

        key = settings.supabase_service_role_key
        return Store(SupabaseRpc(settings.supabase_url, key, timeout_s=timeout_s, keep=keep), vault, engine)
    raise ConfigurationError("No database is named: set DATABASE_URL, or SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY.")
