"""Loads the settings of a command, and opens the store of the database that they name."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from cli import key_file
from cli.run import process_plan
from engine.platform import logs
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings, read_environment
from engine.store.embedded import embedded_postgres
from engine.store.embedded.command_database import CommandDatabase, CommandDatabaseRpc, open_database
from engine.store.schema.migrate import migrate
from engine.store.store import Store, open_store


def load_settings(overrides: Mapping[str, str | None] | None = None) -> Settings:
    """Settings from `overrides` (options of the command), the environment and `.env` in the working directory.

    Raises ConfigurationError that lists all faults.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    settings = key_file.load_key(read_environment({**os.environ, **given}, Path(".env")))
    resolved = process_plan.resolve_endpoints(settings)
    logs.configure("warning", settings.sparky_log_format, "sparky", logs.collect_secrets(resolved))
    return settings


@contextmanager
def open_store_for(settings: Settings, *, may_start: bool = True, timeout_s: float = 10.0) -> Iterator[Store]:
    """The store that `settings` name. A call takes about `timeout_s` at most.

    With `may_start` an embedded database is started for the time of the context, unless Sparky runs, which starts it
    itself. Leave the context before printing or asking, because a Sparky that starts meanwhile waits for its end.
    Calls raise UpstreamUnavailable if the database is not available.
    """
    if not settings.embeds_database:
        with open_store(settings, keep=False, timeout_s=timeout_s) as store:
            yield store
        return
    _check_database_exists(settings)
    named = settings.model_copy(update={"database_url": SecretStr(embedded_postgres.build_dsn(settings.sparky_home))})
    with (
        CommandDatabase(settings, may_start=may_start) as server,
        open_store(named, keep=False, timeout_s=timeout_s) as store,
    ):
        yield Store(CommandDatabaseRpc(store.rpc, server), store.vault)


def migrate_database() -> tuple[str, ...]:
    """Brings the schema up to date; returns the names of the migrations applied. Raises ConfigurationError or
    UpstreamUnavailable."""
    settings = load_settings()
    if settings.supabase_url is not None:
        raise ConfigurationError(
            "Supabase takes migrations from its own command: supabase db push, or set DATABASE_URL."
        )
    with open_database(settings) as dsn:
        return migrate(dsn)


def _check_database_exists(settings: Settings) -> None:
    try:
        is_made = embedded_postgres.get_data_dir(settings.sparky_home).exists()
    except OSError as error:
        raise ConfigurationError(f"The database in {settings.sparky_home} cannot be used: {error.strerror}.") from None
    if not is_made:
        raise ConfigurationError(f"There is no database in {settings.sparky_home} yet; `sparky up` makes it.")
