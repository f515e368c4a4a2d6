"""What every control address of a venue refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

from simulator.control_address import ControlError
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue


def check_symbol_listed(venue: SimulatedVenue, symbol: str | None) -> None:
    """Raises ControlError for a symbol that the venue does not list; None stands for all symbols."""
    if symbol is not None and symbol not in venue.markets:
        raise ControlError(f"no such symbol: {symbol}")


@contextmanager
def translate_refusals() -> Iterator[None]:
    """Turns a refusal of the venue into a ControlError with its code."""
    try:
        yield
    except VenueApiError as error:
        raise ControlError(str(error), error.code) from error
