"""A request whose fill is in the books and whose end is not stays open, whatever keeps us from the venue."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import CredentialsRefused, OutcomeUnknown, UpstreamUnavailable


@contextmanager
def kept_open(reached: str) -> Iterator[None]:
    """Ended as failed the request would be begun anew, and trade again. `reached` tells how far it came."""
    try:
        yield
    except (UpstreamUnavailable, CredentialsRefused) as error:
        if isinstance(error, UpstreamUnavailable) and error.service == "database":
            raise
        raise OutcomeUnknown(f"{reached}: {error}") from error
