"""All checks of `sparky doctor`, and those of settings, model, venue, webhook server, monitor and ports."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr, ValidationError

from cli import running_instance
from cli.doctor import account_checks, security_checks
from cli.doctor.check_result import CheckResult, fault, ok, skip
from cli.doctor.database_checks import check_database
from cli.run import process_plan
from engine.llm.llm_call import ADVICE, LlmOutcome
from engine.llm.provider_errors import classify
from engine.platform.errors import SparkyError
from engine.platform.redaction import Redactor
from engine.platform.settings.settings import Settings
from engine.store.values import format_validation_errors

TIMEOUT_S: Final = 10.0
GROQ_URL: Final = "https://api.groq.com"
MAX_SKEW_S: Final = 1.0  # signed requests are refused well before 10 s; NTP keeps a host within milliseconds
MIN_DISK_MB: Final = 500
PROBE_SYMBOL: Final = "BTCUSDT"
_WEBHOOK_PORT: Final = "SPARKY_WEBHOOK_PORT"


def run_checks(settings: Settings) -> list[CheckResult]:
    """Runs every check, in the order in which faults should be mended. Starts an embedded database for the time."""
    checks: list[Callable[[Settings], list[CheckResult]]] = [
        check_home,
        security_checks.check_service_key,
        security_checks.check_encryption_key,
        check_database,
        check_groq,
        check_venue,
        account_checks.check_accounts,
        check_webhook,
        check_monitor,
        check_ports,
    ]
    return [
        ok("settings", "all names known, all values valid"),  # else `load_settings` has raised
        *(found for check in checks for found in _run_check(check, settings)),
    ]


def _run_check(check: Callable[[Settings], list[CheckResult]], settings: Settings) -> list[CheckResult]:
    """The results of one check; an exception is a result too, so that the other checks run."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return check(settings)
    except OSError as error:
        remedy = "run this as the user that Sparky runs as"
        return [fault(name, f"cannot be looked at: {error.strerror or error}", remedy)]
    except ValidationError as error:
        remedy = "mend the row, or install the version of Sparky that wrote it"
        return [fault(name, f"what the database holds cannot be read: {format_validation_errors(error)}", remedy)]


def check_home(settings: Settings) -> list[CheckResult]:
    path, name = settings.sparky_home, "home directory"
    existing = next(candidate for candidate in (path, *path.parents) if candidate.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [fault(name, f"{existing} cannot be written", "give this user the directory, or set SPARKY_HOME")]
    if not path.exists():
        return [ok(name, f"{path} will be made at the first start")]
    return [_check_home_permissions(settings), _check_disk_space(path)]


def _check_home_permissions(settings: Settings) -> CheckResult:
    run_dir = settings.run_dir
    if os.access(run_dir, os.F_OK) and stat.S_IMODE(run_dir.stat().st_mode) & 0o077:
        return fault("home directory", f"others may enter {run_dir}", f"chmod 700 {run_dir}")
    return ok("home directory", str(settings.sparky_home))


def _check_disk_space(path: Path) -> CheckResult:
    free_mb = shutil.disk_usage(path).free // 2**20
    if free_mb < MIN_DISK_MB:
        return fault("disk space", f"{free_mb} MB free", "make room: the database keeps every decision")
    return ok("disk space", f"{free_mb / 1024:.1f} GB free")


def check_groq(settings: Settings) -> list[CheckResult]:
    if settings.simulates_groq:
        return [skip("groq", "no GROQ_API_KEY: a local stand-in answers, which is no model")]
    base = settings.groq_base_url or GROQ_URL
    key = settings.groq_api_key or process_plan.DUMMY_API_KEY
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"}
    try:
        response = requests.get(f"{base}/openai/v1/models", headers=headers, timeout=TIMEOUT_S)
        return [_check_groq_key(response, base, key), *_check_groq_models(response, settings)]
    except requests.RequestException as error:
        return [
            fault(
                "groq", f"{base}: {_describe_cause(error)}", "check the network and GROQ_BASE_URL (without /openai/v1)"
            )
        ]
    except (ValueError, KeyError, TypeError):
        return [fault("groq", f"{base} does not speak Groq's protocol", "check GROQ_BASE_URL (without /openai/v1)")]


def _check_groq_key(response: requests.Response, base: str, key: SecretStr) -> CheckResult:
    if response.ok:
        return ok("groq", f"{base} takes the key")
    refusal = classify(response.status_code, response.content)
    found = f"{base} refuses: {Redactor([key]).text(refusal.reason)}"
    return fault("groq", found, ADVICE.get(refusal.outcome, "wait, or check GROQ_BASE_URL (without /openai/v1)"))


def _check_groq_models(response: requests.Response, settings: Settings) -> list[CheckResult]:
    if not response.ok:
        return []
    served = sorted(str(model["id"]) for model in response.json()["data"])
    missing = [model for model in settings.groq_model if model not in served]
    if missing:
        return [fault("model", f"{', '.join(missing)} is not served", f"set GROQ_MODEL to one of: {', '.join(served)}")]
    return [ok("model", ", ".join(settings.groq_model))]


def check_venue(settings: Settings) -> list[CheckResult]:
    if settings.simulates_market:
        return [skip("venue", "simulated; set SPARKY_MARKET (and GROQ_API_KEY) for a real one")]
    from engine.venues.market_data.client import MarketData

    resolved = process_plan.resolve_endpoints(settings)
    name = resolved.exchange
    try:
        with contextlib.closing(MarketData(name, resolved.sparky_market_url)) as market:
            market.fetch_candles(PROBE_SYMBOL, "1m", 2)
            skew_s = market.measure_clock_difference_s()
    except SparkyError as error:
        return [fault("venue", f"{name}: {error}", "check the network, SPARKY_MARKET and SPARKY_MARKET_URL")]
    return [ok("venue", f"{name} answers"), _check_clock(skew_s)]


def _check_clock(skew_s: float) -> CheckResult:
    if abs(skew_s) > MAX_SKEW_S:
        found = f"{abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the venue"
        return fault("clock", found, "switch time synchronisation on: timedatectl set-ntp true")
    return ok("clock", "in step with the venue")


def check_webhook(settings: Settings) -> list[CheckResult]:
    url = process_plan.resolve_endpoints(settings).webhook_url or ""
    parts = urlsplit(url)
    own = process_plan.should_serve_webhook(settings)
    try:
        response = requests.get(f"{parts.scheme}://{parts.netloc}/health", timeout=TIMEOUT_S)
    except requests.RequestException as error:
        if own and running_instance.find_supervisor_pid(settings) is None:
            return [skip("webhook", f"{url}: not running; {running_instance.build_start_hint(settings)}")]
        return [
            fault("webhook", f"{url}: {_describe_cause(error)}", "start it with `sparky serve`, or correct WEBHOOK_URL")
        ]
    if response.status_code >= 500:
        return [fault("webhook", f"{url}: answers {response.status_code}", "see the log of the webhook server")]
    return [ok("webhook", f"{url}: reachable")]


def check_monitor(settings: Settings) -> list[CheckResult]:
    status, pid = running_instance.fetch_monitor_status(settings), running_instance.find_supervisor_pid(settings)
    if pid is None:
        return [skip("sparky", f"not running on this home; {running_instance.build_start_hint(settings)}")]
    if status is None:
        return [fault("sparky", f"process {pid} runs, its monitor does not answer", "see its log, or restart it")]
    if status["problems"]:
        is_limit = all(problem.startswith("Groq refuses until") for problem in status["problems"])
        remedy = ADVICE[LlmOutcome.RATE_LIMITED] if is_limit else "see the log of what is named here"
        return [fault("sparky", "; ".join(status["problems"]), remedy)]
    engine = status.get("engine") or {}
    if engine.get("state") == "standing by":
        return [ok("sparky", f"process {pid} stands by: {engine['reason']}")]
    if engine.get("state") == "waiting":
        return [fault("sparky", f"process {pid} waits for its database: {engine['reason']}", "see the database above")]
    epoch = "" if engine.get("epoch") is None else f", epoch {engine['epoch']} of its database"
    return [ok("sparky", f"running as process {pid}{epoch}")]


def check_ports(settings: Settings) -> list[CheckResult]:
    ours = running_instance.find_own_ports(running_instance.find_supervisor_pid(settings))
    results = []
    for name, (host, number) in process_plan.list_listen_addresses(settings).items():
        check = _check_port(name, host, number, ours)
        is_free_or_ours = check.state == "ok"
        # `sparky serve` is a process of its own, which no supervisor started.
        is_webhook = name == _WEBHOOK_PORT and not is_free_or_ours and running_instance.is_webhook_server(host, number)
        results.append(ok(check.name, "the webhook server") if is_webhook else check)
    return results


def _check_port(setting: str, host: str, number: int, ours: running_instance.OwnPorts) -> CheckResult:
    if number in ours.numbers:
        return ok(f"port {number}", "ours")
    refusal = running_instance.find_port_error(host, number)
    if refusal is not None and not ours.is_complete:
        return skip(f"port {number}", f"{host}: {refusal}; this user may not see whether Sparky itself holds it")
    if refusal is not None:
        remedy = f"stop what holds it, or set {setting} to another port"
        return fault(f"port {number}", f"{host}: {refusal}", remedy)
    return ok(f"port {number}", "free")


def _describe_cause(error: requests.RequestException) -> str:
    """The reason without the exceptions that requests wraps around it."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    inner: Any = error
    while getattr(inner, "args", None) and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    reason: Any = getattr(inner, "reason", inner)
    text = str(reason).rpartition(": ")[2]
    return text or type(error).__name__
