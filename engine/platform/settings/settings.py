"""Every knob of the product: read once from the environment and `.env`, checked together, frozen afterwards.

Names are the environment's names. Nothing else in the product reads the environment.
"""

import difflib
import io
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, ValidationError, model_validator

from engine.platform.errors import InvalidSettings
from engine.platform.plain_text import one_line
from engine.platform.settings.component_settings import (
    DEFAULT_EXCHANGE,
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
from engine.platform.settings.setting_types import describe_unkept_budget
from engine.platform.text_encoding import decode_text, is_unicode
from engine.platform.validation_errors import fault_message

ComponentSettings = TypeVar("ComponentSettings", bound=ProcessSettings)


def names_loopback(authority: str) -> bool:
    """Whether a Host header (`name` or `name:port`) names this host by a name that only this host has."""
    try:
        return is_loopback(urlsplit(f"//{authority}").hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this host can reach what listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Settings(
    EmbeddedDatabaseSettings,
    GroqSimulatorSettings,
    AsterSimulatorSettings,
    MonitorSettings,
    PrepareSettings,
    WebhookServerSettings,
    EngineLeaseSettings,
    RateLimiterSettings,
    MarketDataSettings,
    DispatcherSettings,
    StrategyWatcherSettings,
    StrategySettings,
):
    """The whole configuration: the settings of all processes, and what only the supervisor's plan reads.

    It is read and checked as one, since some settings contradict each other over processes; `select` gives a process
    its part.
    """

    sparky_strategy_memory_mb: int = Field(default=256, ge=64)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if (self.supabase_url is None) != (self.supabase_service_role_key is None):
            raise ValueError("SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY go together: set both or neither")
        if self.supabase_url is not None and self.database_url is not None:
            raise ValueError("SUPABASE_URL and DATABASE_URL name two databases: set one of them")
        if not self.sparky_behind_tls and not is_loopback(self.sparky_webhook_host):
            raise ValueError(
                "SPARKY_WEBHOOK_HOST is open to the network, where secrets must not travel in the clear: put a TLS "
                "terminator in front and say so with SPARKY_BEHIND_TLS=true, or listen on 127.0.0.1"
            )
        if not (self.sparky_behind_tls or self.sparky_admin_token or is_loopback(self.sparky_monitor_host)):
            raise ValueError(
                "SPARKY_MONITOR_HOST is open to the network: set SPARKY_ADMIN_TOKEN, or SPARKY_BEHIND_TLS=true "
                "behind a TLS terminator, or listen on 127.0.0.1"
            )
        unpriced = self.model_without_price(None)
        if self.sparky_daily_llm_budget_usd is not None and unpriced is not None:
            raise ValueError(describe_unkept_budget("SPARKY_DAILY_LLM_BUDGET_USD", unpriced))
        return self

    def model_without_price(self, model: str | None) -> str | None:
        """A model without a price among those that a strategy may ask that wants `model` (None: the settings' own)."""
        asked = self.groq_model if model is None else (model,)
        return next((name for name in asked if name not in self.sparky_llm_prices), None)

    @property
    def simulates_groq(self) -> bool:
        """No key and no other endpoint: the local stand-in answers."""
        return self.groq_api_key is None and self.groq_base_url is None

    @property
    def simulates_market(self) -> bool:
        """Candles from a file are always simulated; else a named market is real, and with no key at all none is."""
        if self.sparky_candles is not None or self.sparky_market == "simulator":
            return True
        return self.sparky_market is None and self.simulates_groq

    @property
    def exchange(self) -> str:
        """Where a new strategy trades that names no exchange: at the market of the settings; the simulated is Aster."""
        return DEFAULT_EXCHANGE if self.simulates_market else self.sparky_market or DEFAULT_EXCHANGE

    def select(self, component: type[ComponentSettings]) -> ComponentSettings:
        """The settings of one process, checked again as a whole."""
        return component.model_validate({name: getattr(self, name) for name in component.model_fields})


def read_environment(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Settings from `environ`, with `dotenv` (if it exists) filling what is unset.

    Raises ConfigurationError with every fault in one message, each line naming its variable; values of secrets never
    appear.
    """
    written, faults = _read_dotenv(dotenv) if dotenv is not None and dotenv.is_file() else ({}, [])
    given = {**written, **environ}
    known = {name.upper(): name for name in Settings.model_fields}
    faults += [_unknown(name, known) for name in sorted(given) if name.startswith("SPARKY_") and name not in known]
    faults += [f"{name}: is no UTF-8 text" for name in sorted(known) if not is_unicode(given.get(name, ""))]
    readable = {name: text for name, text in given.items() if name in known and is_unicode(text)}
    values = {known[name]: _parse_value(name, text) for name, text in readable.items() if text.strip() != ""}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [_fault(entry) for entry in error.errors(include_url=False, include_input=False)]
    if faults:
        raise InvalidSettings("The settings have faults:\n" + "\n".join(f"  - {one_line(fault)}" for fault in faults))
    return settings


def _read_dotenv(path: Path) -> tuple[dict[str, str], list[str]]:
    """What stands in the file, and a fault for each line that is no setting; none is shown, for it may be a secret."""
    try:
        text = decode_text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        return {}, [f"{path} cannot be read: {reason}"]
    faults = [
        f"{path}, line {binding.original.line}: not of the form NAME=value"
        for binding in parse_stream(io.StringIO(text))
        if binding.error or (binding.key is not None and binding.value is None)
    ]
    return {k: v for k, v in dotenv_values(stream=io.StringIO(text)).items() if v is not None}, faults


def _parse_value(name: str, text: str) -> object:
    if name != "SPARKY_LLM_PRICES":
        return text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text  # the model's own type check then names the fault


def _unknown(name: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "see docs/settings.md for the names that exist"
    return f"{name}: no such setting; {hint}"


def _fault(entry: Any) -> str:
    setting, *inside = (str(part) for part in entry["loc"] or ("",))
    where = ".".join([setting.upper(), *inside])
    message = fault_message(entry)
    return f"{where}: {message}" if where else message
