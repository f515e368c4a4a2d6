"""Names of exchanges on the command line: one that exists, or a word on what may be meant."""

from uuid import UUID

from engine.platform.errors import SparkyError
from engine.store.demo_data import DEMO_USER
from engine.store.store import Store


def check_venue_exists(exchange: str) -> None:
    """Raises SparkyError, with a suggestion, for an exchange that ccxt does not know."""
    from engine.venues.ccxt_client.client import unknown_venue_error
    from engine.venues.ccxt_client.venue_classes import find_client_class

    if find_client_class(exchange) is None:
        raise SparkyError(str(unknown_venue_error(exchange)))


def has_credentials(store: Store, user_id: UUID, exchange: str) -> bool:
    """Whether keys of the person for `exchange` are stored, whether or not they can be opened."""
    rows = store.list_credentials()
    return any((row.user_id, row.exchange.lower()) == (user_id, exchange.lower()) for row in rows)


def credentials_command(exchange: str, email: str | None) -> str:
    """The command that stores a person's keys."""
    whose = "" if email in {None, DEMO_USER} else f" --user {email}"
    return f"`sparky credentials set {exchange}{whose}`"
