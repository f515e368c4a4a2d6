"""Whom an e-mail address on the command line means: a person who exists, or a new one, never a slip of the hand."""

from uuid import UUID

from cli.output import say
from engine.platform.errors import SparkyError
from engine.platform.plain_text import is_plain
from engine.store.demo_data import DEMO_USER
from engine.store.store import Store


def get_or_create_user(store: Store, email: str) -> UUID:
    """The person with this address; a new one is made and told on stderr. Raises SparkyError for what is no address."""
    name, _, domain = email.strip().partition("@")
    if not name or not domain or " " in email.strip() or not is_plain(email.strip()):
        raise SparkyError(f"{email!r} is no e-mail address, as --user needs it.")
    known = store.find_user(email.strip())
    if known is not None:
        return known
    if email.strip() != DEMO_USER:
        say(f"{email.strip()} is a new person here.", err=True)
    return store.ensure_user(email.strip())
