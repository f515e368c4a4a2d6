"""Arguments that several commands have, and what they refer to: strategies, people, venues."""

import difflib
from typing import Annotated, Final
from uuid import UUID

import typer

from cli.output import say
from engine.admin.demo_data import DEMO_USER
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import SparkyError
from engine.platform.plain_text import is_plain
from engine.store.admin_rows import StrategyRow
from engine.store.store import Store

_MIN_ID_LENGTH: Final = 6
_MAX_HINTS: Final = 3

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]
StrategyArgument = Annotated[str, typer.Argument(metavar="STRATEGY", help="Name, id, or the beginning of an id.")]


def find_strategy(store: Store, which: str, *, may_have_ended: bool = False) -> StrategyRow:
    """The one strategy with that id, name, or beginning of an id (6 digits or more). Raises SparkyError.

    A name refers to a strategy that has not ended; with `may_have_ended`, if there is none, to an ended one with an
    open position.
    """
    rows = store.list_strategies()
    wanted = which.strip().lower()
    alive = [row for row in rows if row.status != StrategyStatus.TERMINATED]
    # A whole id first, and a name before the beginning of an id: a strategy may be named like the id of another.
    matches = [row for row in rows if str(row.id) == wanted] or [row for row in alive if row.name == which]
    if not matches and len(wanted) >= _MIN_ID_LENGTH:
        matches = [row for row in rows if str(row.id).startswith(wanted)]
    if not matches and may_have_ended:
        matches = [row for row in rows if row.name == which and store.list_held_positions(None, row.id)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise SparkyError(f"{len(matches)} strategies are called {which}; name one by its id: {_join_ids(matches)}.")
    names = [row.name for row in alive]
    close = [name for name in names if which and name.startswith(which)] or difflib.get_close_matches(which, names, n=1)
    hint = f"did you mean {' or '.join(close[:_MAX_HINTS])}?" if close else "`sparky strategy list` shows what exists."
    raise SparkyError(f"There is no strategy {which}; {hint}")


def _join_ids(rows: list[StrategyRow]) -> str:
    return ", ".join(str(row.id) for row in rows)


def find_user(store: Store, user: str) -> UUID:
    """The person with this e-mail address or id. Raises SparkyError for an unknown address."""
    user_id = store.find_user(user.strip())
    if user_id is not None:
        return user_id
    try:
        return UUID(user.strip())  # because an address from another alphabet may be impossible to type here
    except ValueError:
        raise SparkyError(f"There is no person {user}.") from None


def get_or_create_user(store: Store, email: str) -> UUID:
    """The person with this address; creates one, with a line on stderr. Raises SparkyError for an invalid address."""
    address = email.strip()
    name, _, domain = address.partition("@")
    if not name or not domain or " " in address or not is_plain(address):
        raise SparkyError(f"{email!r} is no e-mail address, as --user needs it.")
    user_id = store.find_user(address)
    if user_id is None and address != DEMO_USER:
        say(f"{address} is a new person here.", err=True)
    return user_id or store.ensure_user(address)


def check_venue_exists(exchange: str) -> None:
    """Raises SparkyError, with a suggestion, for a venue that ccxt does not know."""
    from engine.venues.ccxt_client.client import find_unknown_venue

    unknown = find_unknown_venue(exchange)
    if unknown is not None:
        raise SparkyError(unknown)


def has_credentials(store: Store, user_id: UUID, exchange: str) -> bool:
    """Whether the person's keys for `exchange` are stored, even if they cannot be decrypted."""
    rows = store.list_credentials()
    return any((row.user_id, row.exchange.lower()) == (user_id, exchange.lower()) for row in rows)


def build_credentials_command(exchange: str, email: str | None) -> str:
    """The command that stores the keys of the person with that address for `exchange`."""
    whose = "" if email in {None, DEMO_USER} else f" --user {email}"
    return f"`sparky credentials set {exchange}{whose}`"
