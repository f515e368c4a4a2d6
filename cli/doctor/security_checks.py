"""Checks of keys, of the database's row-level security and of stored secrets."""

import base64
import json

from cli.doctor.check_result import CheckResult, fault, ok, skip
from engine.platform.encryption import key_id, parse_keys
from engine.platform.settings.settings import Settings
from engine.store.credentials import SecurityReport


def check_service_key(settings: Settings) -> list[CheckResult]:
    """Whether SUPABASE_SERVICE_ROLE_KEY is a service-role key, by the key itself."""
    if settings.supabase_service_role_key is None:
        return []
    role = parse_key_role(settings.supabase_service_role_key.get_secret_value())
    if role in ("service_role", None):
        return [
            ok("supabase key", "of the service role" if role else "of an unknown form; the database check tries it")
        ]
    remedy = "take the service-role (secret) key from the project's API settings, and never show it to a browser"
    return [fault("supabase key", f"SUPABASE_SERVICE_ROLE_KEY holds the key of {role}", remedy)]


def parse_key_role(key: str) -> str | None:
    """The role of a Supabase API key (a JWT or the newer form); None if unknown. Signatures are not verified."""
    if key.startswith(("sb_secret_", "sb_publishable_")):
        return "service_role" if key.startswith("sb_secret_") else "anon"
    try:
        payload = key.split(".")[1]
        role = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["role"]
    except (IndexError, ValueError, KeyError, TypeError):
        return None
    return str(role)


def check_encryption_key(settings: Settings) -> list[CheckResult]:
    name = "encryption key"
    if settings.sparky_encryption_key is not None:
        keys = parse_keys(settings.sparky_encryption_key.get_secret_value())
        ids = " and ".join(key_id(key) for key in keys)
        if len(keys) > 1:
            return [ok(name, f"{ids}; take the second away when `sparky credentials rotate` has run")]
        return [ok(name, f"{ids}, of 32 random bytes")]
    if settings.embeds_database:
        return [skip(name, "none yet; `sparky up` makes one in SPARKY_HOME")]
    remedy = "openssl rand -base64 32, and set it wherever Sparky runs on this database"
    return [fault(name, "SPARKY_ENCRYPTION_KEY is not set, so no secret can be stored", remedy)]


def check_database_security(report: SecurityReport, settings: Settings) -> list[CheckResult]:
    """Whether access is restricted as by the migrations, and every stored secret is sealed."""
    return [_check_row_level_security(report), _check_stored_secrets(report.secrets, settings)]


def _check_row_level_security(report: SecurityReport) -> CheckResult:
    name = "row-level security"
    if report.without_row_level_security:
        tables = ", ".join(report.without_row_level_security)
        return fault(name, f"off for {tables}", "alter table public.<name> enable row level security, for each")
    if report.readable_by_anon or report.open_to_people:
        opened = ", ".join(report.readable_by_anon + report.open_to_people)
        remedy = "revoke what was granted: on the tables from anon, on the functions from public, anon, authenticated"
        return fault(name, f"people were given what the migrations take from them: {opened}", remedy)
    return ok(name, "on everywhere")


def _check_stored_secrets(counts: dict[str, int], settings: Settings) -> CheckResult:
    name, total, clear = "stored secrets", sum(counts.values()), counts.get("clear", 0)
    ours = settings.sparky_encryption_key
    own_ids = set() if ours is None else {key_id(key) for key in parse_keys(ours.get_secret_value())}
    strange = sorted(set(counts) - own_ids - {"clear"})
    if clear:
        return fault(name, f"{clear} of {total} in the clear", "run `sparky credentials rotate`")
    if strange:
        remedy = "name that key second in SPARKY_ENCRYPTION_KEY and run `sparky credentials rotate`"
        return fault(name, f"some are sealed with {', '.join(strange)}, which is not ours", remedy)
    return ok(name, f"{total}, all sealed" if total else "none")
