"""Parameters of requests."""

from collections.abc import Mapping

from simulator.venue.api_error import VenueApiError

Params = Mapping[str, str]


def parse_integer(params: Params, name: str, default: int | None = None) -> int | None:
    """The whole number `name`, `default` where it was not sent. Raises VenueApiError when it is not a number."""
    text = params.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise VenueApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return int(text)
