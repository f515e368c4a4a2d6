"""What `sparky doctor` looks at: each check says what it found and, for a fault, what to do about it."""

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr, ValidationError

from cli import running_instance
from cli.doctor import account_checks, security_checks
from cli.doctor.check_result import Check, fault, ok, skipped
from cli.doctor.database_checks import database
from cli.run import process_plan
from engine.llm.outcome import ADVICE, Outcome
from engine.llm.provider_errors import classify
from engine.platform.errors import SparkyError
from engine.platform.redaction import Redactor
from engine.platform.settings.settings import Settings
from engine.store.values import faults

TIMEOUT_S: Final = 10.0
GROQ_URL: Final = "https://api.groq.com"
LARGEST_SKEW_S: Final = 1.0  # signed requests are refused well before 10 s; NTP keeps a host within milliseconds
LEAST_DISK_MB: Final = 500
PROBE_SYMBOL: Final = "BTCUSDT"
_WEBHOOK_PORT: Final = "SPARKY_WEBHOOK_PORT"


def examine(settings: Settings) -> list[Check]:
    """Every check, in the order in which faults are worth mending. An embedded database is started for the while."""
    checks: list[Callable[[Settings], list[Check]]] = [
        home,
        security_checks.service_key,
        security_checks.encryption_key,
        database,
        groq,
        venue,
        account_checks.accounts,
        webhook,
        monitor,
        ports,
    ]
    return [
        ok("settings", "all names known, all values valid"),
        *(found for check in checks for found in _looked(check, settings)),
    ]


def _looked(check: Callable[[Settings], list[Check]], settings: Settings) -> list[Check]:
    """What one check finds; that it cannot look at something is a finding too, and keeps no other from looking."""
    name = check.__name__.replace("_", " ")
    try:
        return check(settings)
    except OSError as error:
        remedy = "run this as the user that Sparky runs as"
        return [fault(name, f"cannot be looked at: {error.strerror or error}", remedy)]
    except ValidationError as error:
        remedy = "mend the row, or install the version of Sparky that wrote it"
        return [fault(name, f"what the database holds cannot be read: {faults(error)}", remedy)]


def home(settings: Settings) -> list[Check]:
    path, name = settings.sparky_home, "home directory"
    existing = next(candidate for candidate in (path, *path.parents) if candidate.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [fault(name, f"{existing} cannot be written", "give this user the directory, or set SPARKY_HOME")]
    if not path.exists():
        return [ok(name, f"{path} will be made at the first start")]
    return [_home_rights(settings), _disk(path)]


def _home_rights(settings: Settings) -> Check:
    run_dir = settings.run_dir
    if os.access(run_dir, os.F_OK) and stat.S_IMODE(run_dir.stat().st_mode) & 0o077:
        return fault("home directory", f"others may enter {run_dir}", f"chmod 700 {run_dir}")
    return ok("home directory", str(settings.sparky_home))


def _disk(path: Path) -> Check:
    free_mb = shutil.disk_usage(path).free // 2**20
    if free_mb < LEAST_DISK_MB:
        return fault("disk space", f"{free_mb} MB free", "make room: the database keeps every decision")
    return ok("disk space", f"{free_mb / 1024:.1f} GB free")


def groq(settings: Settings) -> list[Check]:
    if settings.simulates_groq:
        return [skipped("groq", "no GROQ_API_KEY: a local stand-in answers, which is no model")]
    base = settings.groq_base_url or GROQ_URL
    key = settings.groq_api_key or process_plan.KEYLESS
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"}
    try:
        answer = requests.get(f"{base}/openai/v1/models", headers=headers, timeout=TIMEOUT_S)
        return [_groq_key(answer, base, key), *_groq_models(answer, settings)]
    except requests.RequestException as error:
        return [fault("groq", f"{base}: {_cause(error)}", "check the network and GROQ_BASE_URL (without /openai/v1)")]
    except (ValueError, KeyError, TypeError):
        return [fault("groq", f"{base} does not speak Groq's protocol", "check GROQ_BASE_URL (without /openai/v1)")]


def _groq_key(answer: requests.Response, base: str, key: SecretStr) -> Check:
    if answer.ok:
        return ok("groq", f"{base} takes the key")
    refusal = classify(answer.status_code, answer.content)
    found = f"{base} refuses: {Redactor([key]).text(refusal.reason)}"
    return fault("groq", found, ADVICE.get(refusal.outcome, "wait, or check GROQ_BASE_URL (without /openai/v1)"))


def _groq_models(answer: requests.Response, settings: Settings) -> list[Check]:
    if not answer.ok:
        return []
    served = sorted(str(model["id"]) for model in answer.json()["data"])
    missing = [model for model in settings.groq_model if model not in served]
    if missing:
        return [fault("model", f"{', '.join(missing)} is not served", f"set GROQ_MODEL to one of: {', '.join(served)}")]
    return [ok("model", ", ".join(settings.groq_model))]


def venue(settings: Settings) -> list[Check]:
    if settings.simulates_market:
        return [skipped("venue", "simulated; set SPARKY_MARKET (and GROQ_API_KEY) for a real one")]
    from engine.venues.market_data.client import MarketData

    resolved = process_plan.resolve(settings)
    name = resolved.exchange
    try:
        with contextlib.closing(MarketData(name, resolved.sparky_market_url)) as market:
            venue_now_ms = market.feed(PROBE_SYMBOL, "1m", 2).now_ms
    except SparkyError as error:
        return [fault("venue", f"{name}: {error}", "check the network, SPARKY_MARKET and SPARKY_MARKET_URL")]
    return [ok("venue", f"{name} answers"), _clock(venue_now_ms / 1000 - time.time())]


def _clock(skew_s: float) -> Check:
    if abs(skew_s) > LARGEST_SKEW_S:
        found = f"{abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the venue"
        return fault("clock", found, "switch time synchronisation on: timedatectl set-ntp true")
    return ok("clock", "in step with the venue")


def webhook(settings: Settings) -> list[Check]:
    url = process_plan.resolve(settings).webhook_url or ""
    parts = urlsplit(url)
    own = process_plan.serves_webhook(settings)
    try:
        answer = requests.get(f"{parts.scheme}://{parts.netloc}/health", timeout=TIMEOUT_S)
    except requests.RequestException as error:
        if own and running_instance.supervisor_pid(settings) is None:
            return [skipped("webhook", f"{url}: not running; {running_instance.starters(settings)}")]
        return [fault("webhook", f"{url}: {_cause(error)}", "start it with `sparky serve`, or correct WEBHOOK_URL")]
    if answer.status_code >= 500:
        return [fault("webhook", f"{url}: answers {answer.status_code}", "see the log of the webhook server")]
    return [ok("webhook", f"{url}: reachable")]


def monitor(settings: Settings) -> list[Check]:
    status, pid = running_instance.monitor_status(settings), running_instance.supervisor_pid(settings)
    if pid is None:
        return [skipped("sparky", f"not running on this home; {running_instance.starters(settings)}")]
    if status is None:
        return [fault("sparky", f"process {pid} runs, its monitor does not answer", "see its log, or restart it")]
    if status["problems"]:
        is_limit = all(problem.startswith("Groq refuses until") for problem in status["problems"])
        remedy = ADVICE[Outcome.RATE_LIMITED] if is_limit else "see the log of what is named here"
        return [fault("sparky", "; ".join(status["problems"]), remedy)]
    engine = status.get("engine") or {}
    if engine.get("state") == "standing by":
        return [ok("sparky", f"process {pid} stands by: {engine['reason']}")]
    if engine.get("state") == "waiting":
        return [fault("sparky", f"process {pid} waits for its database: {engine['reason']}", "see the database above")]
    epoch = "" if engine.get("epoch") is None else f", epoch {engine['epoch']} of its database"
    return [ok("sparky", f"running as process {pid}{epoch}")]


def ports(settings: Settings) -> list[Check]:
    ours = running_instance.own_ports(running_instance.supervisor_pid(settings))
    found = []
    for name, (host, number) in process_plan.listeners(settings).items():
        check = _port(name, host, number, ours)
        is_free_or_ours = check.state == "ok"
        # `sparky serve` is a process of its own, which no supervisor started.
        is_webhook = name == _WEBHOOK_PORT and not is_free_or_ours and running_instance.is_webhook_server(host, number)
        found.append(ok(check.name, "the webhook server") if is_webhook else check)
    return found


def _port(setting: str, host: str, number: int, ours: running_instance.OwnPorts) -> Check:
    if number in ours.numbers:
        return ok(f"port {number}", "ours")
    refusal = running_instance.refusal_to_listen(host, number)
    if refusal is not None and not ours.is_all:
        return skipped(f"port {number}", f"{host}: {refusal}; this user may not see whether Sparky itself holds it")
    if refusal is not None:
        remedy = f"stop what holds it, or set {setting} to another port"
        return fault(f"port {number}", f"{host}: {refusal}", remedy)
    return ok(f"port {number}", "free")


def _cause(error: requests.RequestException) -> str:
    """The reason without the stack of wrappers that requests puts around it."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    inner: Any = error
    while getattr(inner, "args", None) and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    reason: Any = getattr(inner, "reason", inner)
    text = str(reason).rpartition(": ")[2]
    return text or type(error).__name__
