"""Types of single settings: each checks its value, and refuses it with a sentence that never shows a secret."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from engine.platform.encryption import parse_keys
from engine.platform.settings.database_address import database_address
from engine.platform.settings.setting_values import comma_list, endpoint, header_secret, http_url, model_names
from engine.platform.text_encoding import is_unicode

# An ipc address is a Unix socket path: 107 bytes at most. "run/strategy-<uuid>.sock" needs 54 of them.
MAX_HOME: Final = 50
MIN_TOKEN: Final = 24
VENUE_NAME_PATTERN: Final = r"^[a-z0-9]{2,30}$"  # as ccxt writes them


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


def default_home() -> Path:
    """The state directory of a user who named none."""
    return Path("/var/lib/sparky") if os.geteuid() == 0 else Path.home() / ".sparky"


Secret = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]
HeaderSecret = Annotated[Secret, AfterValidator(header_secret)]
DatabaseAddress = Annotated[Secret, AfterValidator(database_address)]
EncryptionKeys = Annotated[Secret, AfterValidator(_encryption_keys)]
AdminToken = Annotated[HeaderSecret, AfterValidator(_long_token)]
Url = Annotated[str, AfterValidator(http_url)]
Endpoint = Annotated[str, AfterValidator(endpoint)]
Port = Annotated[int, Field(ge=1, le=65_535)]
HomePath = Annotated[Path, AfterValidator(_short_path)]
UnicodePath = Annotated[Path, AfterValidator(_unicode_path)]
VenueName = Annotated[str, Field(pattern=VENUE_NAME_PATTERN)]
Models = Annotated[tuple[str, ...], BeforeValidator(comma_list), Field(min_length=1), AfterValidator(model_names)]
Effort = Literal["low", "medium", "high"]


class Price(BaseModel):
    """USD per million tokens of one model; without a price of their own, cached tokens cost as much as others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0, le=100_000)
    cached_input: Decimal = Field(default_factory=lambda given: given["input"], ge=0, le=100_000)
    output: Decimal = Field(ge=0, le=100_000)


def describe_unkept_budget(budget: str, model: str) -> str:
    """Why the budget of that name cannot be kept: a model that may be asked has no price."""
    return f"{budget} cannot be kept: SPARKY_LLM_PRICES has no price for {model}; add it, or set no budget"


KNOWN_PRICES: Final = {
    "openai/gpt-oss-120b": Price(input=Decimal("0.15"), cached_input=Decimal("0.075"), output=Decimal("0.60")),
    "openai/gpt-oss-20b": Price(input=Decimal("0.075"), cached_input=Decimal("0.0375"), output=Decimal("0.30")),
}


def _with_known_prices(given: dict[str, Price]) -> dict[str, Price]:
    return {**KNOWN_PRICES, **given}


Prices = Annotated[dict[str, Price], AfterValidator(_with_known_prices)]
