"""Every knob of the product: read once from the environment and `.env`, checked together, frozen afterwards.

Names are the environment's names. Nothing else in the product reads the environment.
"""

import difflib
import io
import ipaddress
import json
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)

from engine.platform.encryption import parse_keys
from engine.platform.errors import InvalidSettings
from engine.platform.plain_text import one_line
from engine.platform.settings.database_address import database_address
from engine.platform.settings.setting_values import (
    comma_list,
    endpoint,
    header_secret,
    http_url,
    model_names,
)
from engine.platform.text_encoding import decode_text, is_unicode
from engine.platform.validation_errors import fault_message

# An ipc address is a Unix socket path: 107 bytes at most. "run/strategy-<uuid>.sock" needs 54 of them.
MAX_HOME: Final = 50
MIN_TOKEN: Final = 24
DEFAULT_EXCHANGE: Final = "aster"


def _unicode_path(value: Path) -> Path:
    if not is_unicode(str(value)):
        raise ValueError("must be UTF-8 text, as must the directory that it stands in")
    return value


def _short_path(value: Path) -> Path:
    path = _unicode_path(value.expanduser().absolute())
    if len(os.fsencode(path)) > MAX_HOME:
        raise ValueError(f"must be at most {MAX_HOME} bytes long, since Unix sockets live below it: {path}")
    return path


def _encryption_keys(value: SecretStr) -> SecretStr:
    parse_keys(value.get_secret_value())
    return value


def _long_token(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < MIN_TOKEN:
        raise ValueError(f"must have at least {MIN_TOKEN} characters; make one with: openssl rand -hex 32")
    return value


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


def _default_home() -> Path:
    return Path("/var/lib/sparky") if os.geteuid() == 0 else Path.home() / ".sparky"


Secret = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]
HeaderSecret = Annotated[Secret, AfterValidator(header_secret)]
Url = Annotated[str, AfterValidator(http_url)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Models = Annotated[tuple[str, ...], BeforeValidator(comma_list), Field(min_length=1), AfterValidator(model_names)]


Effort = Literal["low", "medium", "high"]


class Price(BaseModel):
    """USD per million tokens of one model; without a price of their own, cached tokens cost as much as others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0, le=100_000)
    cached_input: Decimal = Field(default_factory=lambda given: given["input"], ge=0, le=100_000)
    output: Decimal = Field(ge=0, le=100_000)


_PRICES: Final = {
    "openai/gpt-oss-120b": Price(input=Decimal("0.15"), cached_input=Decimal("0.075"), output=Decimal("0.60")),
    "openai/gpt-oss-20b": Price(input=Decimal("0.075"), cached_input=Decimal("0.0375"), output=Decimal("0.30")),
}


def _with_known_prices(given: dict[str, Price]) -> dict[str, Price]:
    return {**_PRICES, **given}


class Settings(BaseModel):
    """The whole configuration. Secrets are `SecretStr`; `for_child` leaves out those a child does not need."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    groq_api_key: HeaderSecret | None = None
    groq_base_url: Annotated[str, AfterValidator(endpoint)] | None = None
    groq_model: Models = ("openai/gpt-oss-120b",)
    supabase_url: Url | None = None
    supabase_service_role_key: HeaderSecret | None = None
    database_url: Annotated[Secret, AfterValidator(database_address)] | None = None
    webhook_url: Url | None = None

    sparky_encryption_key: Annotated[Secret, AfterValidator(_encryption_keys)] | None = None
    sparky_admin_token: Annotated[HeaderSecret, AfterValidator(_long_token)] | None = None
    sparky_behind_tls: bool = False

    sparky_home: Annotated[Path, AfterValidator(_short_path)] = Field(default_factory=_default_home)
    sparky_market: Annotated[str, Field(pattern=r"^[a-z0-9]+$")] | None = None
    sparky_market_url: Url | None = None

    sparky_candles: Annotated[Path, AfterValidator(_unicode_path)] | None = None
    sparky_sim_speed: float = Field(default=60.0, gt=0, le=100_000)
    sparky_sim_seed: int = 1
    sparky_sim_groq_port: Port = 3901
    sparky_sim_aster_port: Port = 3902

    sparky_webhook_host: str = "127.0.0.1"
    sparky_webhook_port: Port = 3000
    sparky_webhook_rate_per_s: float = Field(default=500.0, gt=0)
    sparky_monitor_host: str = "127.0.0.1"
    sparky_monitor_port: Port = 9108

    sparky_llm_rpm: int = Field(default=30, ge=1)
    sparky_llm_tpm: int | None = Field(default=None, ge=1)
    sparky_llm_rpd: int | None = Field(default=None, ge=1)
    sparky_llm_tpd: int | None = Field(default=None, ge=1)
    sparky_llm_concurrency: int = Field(default=16, ge=1)
    sparky_llm_timeout_s: float = Field(default=20.0, gt=0, le=600)
    sparky_llm_reasoning_effort: Effort = "low"
    sparky_llm_prices: Annotated[dict[str, Price], AfterValidator(_with_known_prices)] = Field(
        default_factory=lambda: dict(_PRICES)
    )
    sparky_daily_llm_budget_usd: Decimal | None = Field(default=None, ge=0)

    sparky_cycle_deadline_s: float = Field(default=40.0, gt=0, le=3_600)
    sparky_roster_poll_s: float = Field(default=2.0, gt=0, le=5)
    sparky_signal_ttl_s: float = Field(default=60.0, gt=0, le=3_600)
    sparky_strategy_memory_mb: int = Field(default=256, ge=64)
    sparky_demo_cadence_s: float = Field(default=10.0, ge=1, le=3_600)

    sparky_paper_fee_percent: Decimal = Field(default=Decimal("0.04"), ge=0, le=5)
    sparky_paper_slippage_percent: Decimal = Field(default=Decimal("0.02"), ge=0, le=5)
    sparky_mark_interval_s: float = Field(default=5.0, gt=0, le=300)

    sparky_log_level: Literal["debug", "info", "warning", "error"] = "info"
    sparky_log_format: Literal["auto", "console", "json"] = "auto"

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
            raise ValueError(
                f"SPARKY_DAILY_LLM_BUDGET_USD cannot be kept: SPARKY_LLM_PRICES has no price for {unpriced}"
            )
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

    @property
    def embeds_database(self) -> bool:
        return self.database_url is None and self.supabase_url is None

    @property
    def run_dir(self) -> Path:
        """Sockets, locks and last words; 0700."""
        return self.sparky_home / "run"

    def to_child_json(self) -> str:
        """JSON with secrets in the clear, for the private pipe to a child only."""
        return self.model_dump_json(exclude_unset=True)

    @classmethod
    def from_child_json(cls, sealed: str) -> "Settings":
        # Not model_validate_json: in that mode the default of a Path is refused for not being text.
        return cls.model_validate(json.loads(sealed))


def read_environment(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Settings from `environ`, with `dotenv` (if it exists) filling what is unset.

    Raises BadConfiguration with every fault in one message, each line naming its variable; values of secrets never
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
