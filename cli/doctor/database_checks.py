"""Checks of the database: connection, schema, engine lease, and contents."""

from typing import Final

from cli import output
from cli.context import open_store_for
from cli.doctor import position_checks, security_checks
from cli.doctor.check_result import CheckResult, fault, ok, skip
from cli.streams import output_encoding
from cli.warning_texts import describe_kill_switch
from engine.platform.errors import ConfigurationError, SparkyError
from engine.platform.settings.settings import Settings
from engine.store.admin_rows import DatabaseHealth
from engine.store.cycles import EngineLeaseHolder
from engine.store.embedded import command_database, embedded_postgres
from engine.store.schema.migrate import MigrationStatus, get_migration_status, read_migrations
from engine.store.store import Store
from engine.store.transport import sqlstates
from engine.store.transport.postgres import allows_transactions
from engine.store.webhook_rows import KillSwitch

MIGRATE: Final = "run `sparky migrate`"
READ_ONLY: Final = "25006"
INSUFFICIENT_PRIVILEGE: Final = "42501"
CREATE_COMMAND: Final = "create database NAME encoding 'UTF8' template template0"

# Remedies by SQLSTATE.
ADVICE: Final = {
    READ_ONLY: (
        "name the primary in DATABASE_URL, not a replica; or switch default_transaction_read_only off for the role and "
        "the database, which a host may have switched on for a full disk"
    ),
    "28P01": "correct the user and the password in DATABASE_URL",
    "28000": "correct the user in DATABASE_URL, or let it in (pg_hba.conf, alter role ... login)",
    "3D000": f"correct the database's name in DATABASE_URL, or make it: {CREATE_COMMAND}",
    INSUFFICIENT_PRIVILEGE: (
        "grant service_role to the login, or use the login that ran `sparky migrate`; it must also be let connect"
    ),
    "53100": "make room on the database's disk",
    "53300": "end other connections, raise the limit (connection limit of the role, max_connections), or use a pooler",
    "57P01": "wait: the server is shutting down or restarting",
    "57P03": "wait: the server is starting, stopping or recovering; its log says which",
} | dict.fromkeys(sqlstates.MISSING_OBJECT, MIGRATE)


def check_database(settings: Settings) -> list[CheckResult]:
    where = "embedded" if settings.embeds_database else "Supabase" if settings.supabase_url else "DATABASE_URL"
    if settings.embeds_database and not embedded_postgres.get_data_dir(settings.sparky_home).exists():
        return [skip("database", "embedded; `sparky up` makes it")]
    try:
        with open_store_for(settings) as store:
            health = store.get_database_health()
            migrations = _check_migrations(set(health.migrations), _read_migration_status(settings))
            contents = [] if migrations.state == "fault" else _check_contents(store, settings)
        pooler = _check_pooler(settings)
    except SparkyError as error:
        return [fault("database", f"{where}: {error}", find_remedy(settings, error))]
    return [_check_writable(health, where), *pooler, migrations, *_report_unreadable_migrations(health), *contents]


def _check_contents(store: Store, settings: Settings) -> list[CheckResult]:
    """The checks that need a current schema."""
    return [
        *security_checks.check_database_security(store.get_security_report(), settings),
        *_check_kill_switches(store.list_kill_switches()),
        _check_engine(store.get_engine_lease_holder()),
        position_checks.check_positions(settings, store),
        position_checks.check_differences(store),
    ]


def find_remedy(settings: Settings, error: SparkyError) -> str:
    """The remedy for a database error."""
    state = getattr(error, "state", "")
    if settings.supabase_url is not None:
        return _find_supabase_remedy(error, state)
    if state in ADVICE:
        return ADVICE[state]
    if settings.embeds_database:
        return "see the sentence before, and postgres.log in SPARKY_HOME"
    if isinstance(error, ConfigurationError):
        return f"name another database in DATABASE_URL: {CREATE_COMMAND}"
    if "SSL" in str(error):  # libpq has no state for it, and the abbreviation is the same in every language
        return "agree on TLS: sslmode and sslrootcert in DATABASE_URL, ssl in the server's postgresql.conf"
    return "check that the server runs, and the host and port in DATABASE_URL"


def _find_supabase_remedy(error: SparkyError, state: str) -> str:
    if state in sqlstates.MISSING_OBJECT:
        return f"run `supabase db push`, or {MIGRATE} with the project's DATABASE_URL"
    if isinstance(error, ConfigurationError):
        return "correct SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY, as the project's API settings show them"
    return "check that the project runs (one that nobody uses is paused), and SUPABASE_URL"


def _check_pooler(settings: Settings) -> list[CheckResult]:
    if settings.database_url is None or allows_transactions(settings.database_url.get_secret_value()):
        return []
    found = "it takes no transaction of two statements: a pooler in statement mode is in between"
    return [fault("pooler", found, "set pool_mode = transaction (or session) there, or name the server itself")]


def _check_writable(health: DatabaseHealth, where: str) -> CheckResult:
    if health.read_only:
        found = f"{where}, PostgreSQL {health.version}: it is read-only, so that nothing can be recorded or traded"
        return fault("database", found, ADVICE[READ_ONLY])
    return ok("database", f"{where}, PostgreSQL {health.version}")


def _report_unreadable_migrations(health: DatabaseHealth) -> list[CheckResult]:
    """No fault, because the schema may still be current; it explains a fault of the migrations."""
    return [skip("record of migrations", f"cannot be read: {reason}") for reason in health.unreadable]


def _check_kill_switches(switches: tuple[KillSwitch, ...]) -> list[CheckResult]:
    """A switch that is on is no fault, but explains why nothing is traded."""
    return [
        skip("kill switch", describe_kill_switch(output.to_json_data(switch), output_encoding())) for switch in switches
    ]


def _check_engine(lease_holder: EngineLeaseHolder | None) -> CheckResult:
    if lease_holder is None or lease_holder.left_s <= 0:
        return skip("engine", "none runs on this database")
    return ok("engine", f"epoch {lease_holder.epoch} runs at {lease_holder.location}")


def _read_migration_status(settings: Settings) -> MigrationStatus | None:
    """The checksums of the migrations applied; None at Supabase, which keeps none and has migrations of others.

    Also None for a login that may not read them, such as one that owns nothing.
    """
    if settings.supabase_url is not None:
        return None
    try:
        with command_database.open_database(settings) as dsn:
            return get_migration_status(dsn)
    except sqlstates.DatabaseRequestError as error:
        if error.state != INSUFFICIENT_PRIVILEGE:
            raise
        return None


def _check_migrations(applied: set[str], ours: MigrationStatus | None) -> CheckResult:
    names = [migration.name for migration in read_migrations()]
    pending = [name for name in names if name not in applied]
    if ours is not None and ours.edited:
        remedy = "restore its text and put the change into a new migration; a database of an older draft must be new"
        return fault("migrations", f"{ours.edited[0]} was edited after it ran here", remedy)
    strange = sorted(applied - set(names)) if ours is not None else []
    if strange:
        remedy = "install the version of Sparky that migrated this database, or a newer one"
        return fault("migrations", f"the database is ahead of this version, which does not know {strange[0]}", remedy)
    if pending:
        remedy = f"{MIGRATE}; for Supabase with the project's DATABASE_URL, or run `supabase db push`"
        return fault("migrations", f"{len(pending)} not applied, the first is {pending[0]}", remedy)
    return ok("migrations", "current")
