"""`sparky credentials …`: keys of venues and webhook secrets. Values come from a prompt or stdin, never from arguments,
which every user of the host can read."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from cli import key_file, output
from cli.arguments import AsJson, check_venue_exists, get_or_create_user
from cli.context import load_settings, open_store_for
from cli.output import Column
from cli.streams import read_stdin
from engine.admin.demo_data import DEMO_USER, generate_webhook_secret
from engine.platform.errors import SparkyError
from engine.platform.text_encoding import decode_text
from engine.store.credentials import PLAIN_FIELDS, SECRET_FIELDS, WEBHOOK
from engine.store.store import Store
from engine.venues.verified_venues import find_live_trading_obstacle

app = typer.Typer(no_args_is_help=True, help="Store keys of venues and webhook secrets, sealed; list and rotate them.")

MIN_WEBHOOK_SECRET_LENGTH: Final = 24  # a shorter one could be guessed from its digest, by which the database finds it
_ASTER_FIELDS: Final = ("user_address", "signer_address", "private_key")
_FIELD_HINTS: Final = {
    "user_address": " (the account's wallet, 0x and 40 hex digits)",
    "signer_address": " (its API wallet, 0x and 40 hex digits)",
    "private_key": " (of the API wallet, 0x and 64 hex digits)",
}
_API_KEY_FIELDS: Final = ("api_key", "api_secret", "passphrase")

COLUMNS = (
    Column("user", "email"),
    Column("exchange", "exchange"),
    Column("environment", "environment"),
    Column("label", "label"),
    Column("secrets (and the key that seals them)", lambda row: _format_secrets(row["secrets"]), wraps=True),
    Column("changed (UTC)", output.time_cell("updated_at"), is_time=True),
)

VenueArgument = Annotated[str, typer.Argument(metavar="EXCHANGE", help="A venue such as aster, or webhook.")]


@app.command("set")
def set_credentials(
    exchange: VenueArgument,
    user: Annotated[str, typer.Option(metavar="EMAIL", help="Whose they are.")] = DEMO_USER,
    environment: Annotated[str, typer.Option(help="production or testnet.")] = "production",
    new: Annotated[bool, typer.Option("--new", help="Make a webhook secret and show it once.")] = False,
) -> None:
    """Store credentials; fields that are left out stay as they were.

    Asks for each at a terminal; elsewhere reads from stdin a JSON object, lines of name=value, or for webhook the
    secret alone. Aster: user_address is the wallet of the account, signer_address that of its API wallet (0x and 40
    hex digits each), private_key that of the API wallet (0x and 64 hex digits). Others: api_key, api_secret.
    """
    exchange = exchange.strip().lower()
    if new and exchange != WEBHOOK:
        raise SparkyError(
            f"--new is for `webhook` only; {exchange} is taken for a venue, whose keys are made at the venue."
        )
    if exchange != WEBHOOK:
        check_venue_exists(exchange)
    values = {"webhook_secret": generate_webhook_secret()} if new else _read_values(exchange)
    _check_values(exchange, values)
    with _open_sealing_store() as store:
        store.put_credentials(get_or_create_user(store, user), exchange, values, environment)
    if new:
        output.say(values["webhook_secret"].get_secret_value())
    output.say(f"Stored {', '.join(sorted(values))} of {user} on {exchange}, sealed.", err=True)
    untested = None if exchange == WEBHOOK else find_live_trading_obstacle(exchange)
    if untested is not None:
        output.say(untested, err=True)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List credentials without their secrets."""
    with open_store_for(load_settings()) as store:
        rows = store.list_credentials()
    stores = "`sparky credentials set aster` (or another venue, or `webhook`) stores some"
    output.print_rows(rows, COLUMNS, as_json=as_json, empty=f"There are no credentials; {stores}.")


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Seal everything with the first key: what is in the clear, and what the second of SPARKY_ENCRYPTION_KEY opens."""
    with _open_sealing_store() as store:
        done = store.reseal()
    if as_json:
        output.print_row(done, as_json=True)
    else:
        output.say(f"{done.sealed} sealed now, {done.current} were already, {done.changed} changed meanwhile.")
    if done.unreadable:
        raise SparkyError(
            f"{done.unreadable} of the secrets do not open: name the key that sealed them second in "
            "SPARKY_ENCRYPTION_KEY (`sparky credentials list` shows its name), or set them again."
        )


@contextmanager
def _open_sealing_store() -> Iterator[Store]:
    settings = load_settings()
    with open_store_for(key_file.ensure_key(settings) if settings.embeds_database else settings) as store:
        yield store


def _read_values(exchange: str) -> dict[str, SecretStr]:
    if sys.stdin.isatty():
        fields = (
            ("webhook_secret",) if exchange == WEBHOOK else _ASTER_FIELDS if exchange == "aster" else _API_KEY_FIELDS
        )
        given = {
            field: typer.prompt(
                f"{field}{_FIELD_HINTS.get(field, '')}",
                default="",
                show_default=False,
                hide_input=field in SECRET_FIELDS,
                err=True,
            )
            for field in fields
        }
    else:
        given = _parse_values(_read_stdin_text(), exchange)
    return {field: SecretStr(value.strip()) for field, value in given.items() if value.strip()}


def _read_stdin_text() -> str:
    """The text of stdin. Raises SparkyError, which does not repeat the text, because it is a secret."""
    try:
        return decode_text(read_stdin()).strip()
    except UnicodeDecodeError:
        raise SparkyError("stdin is no UTF-8 text.") from None


def _parse_values(text: str, exchange: str) -> dict[str, str]:
    """Raises SparkyError, which does not repeat the text, because it is a secret."""
    if text.startswith("{"):
        try:
            data: Any = json.loads(text)
        except ValueError:
            raise SparkyError("stdin is not JSON.") from None
        if not all(isinstance(value, str) for value in data.values()):
            raise SparkyError("stdin must hold one JSON object whose values are strings.")
        return {str(name): value for name, value in data.items()}
    lines = [line for line in text.splitlines() if line.strip()]
    if exchange == WEBHOOK and len(lines) == 1 and not lines[0].startswith("webhook_secret="):
        return {"webhook_secret": lines[0]}
    if not all("=" in line for line in lines):
        raise SparkyError("stdin must hold a JSON object, or lines of name=value.")
    return {name.strip(): value for name, _, value in (line.partition("=") for line in lines)}


def _check_values(exchange: str, values: dict[str, SecretStr]) -> None:
    if set(values) - {*SECRET_FIELDS, *PLAIN_FIELDS}:  # a wrong name may be a secret, so it is not repeated
        raise SparkyError(
            f"The fields of credentials are {', '.join(SECRET_FIELDS + PLAIN_FIELDS)}; another was given."
        )
    if not values:
        raise SparkyError("Nothing was given, so nothing was stored.")
    secret = values.get("webhook_secret")
    if exchange == WEBHOOK and (secret is None or len(secret.get_secret_value()) < MIN_WEBHOOK_SECRET_LENGTH):
        raise SparkyError(
            f"A webhook secret must have at least {MIN_WEBHOOK_SECRET_LENGTH} characters; --new makes one."
        )


def _format_secrets(secrets: dict[str, str]) -> str:
    return ", ".join(
        f"{name} ({'IN THE CLEAR' if kept == 'clear' else kept})" for name, kept in sorted(secrets.items())
    )
