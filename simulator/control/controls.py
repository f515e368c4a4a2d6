"""All control addresses of a simulated venue."""

from starlette.types import ASGIApp

from simulator.control.account_control import with_account_control
from simulator.control.book_control import with_book_control
from simulator.control.candle_control import with_candle_control
from simulator.control.funding_control import with_funding_control
from simulator.control.instrument_control import with_instrument_control
from simulator.control.margin_control import with_margin_control
from simulator.control.market_control import with_market_control
from simulator.control.settings_control import with_settings_control
from simulator.faults import Faults, with_faults
from simulator.venue.venue import SimulatedVenue


def with_controls(app: ASGIApp, venue: SimulatedVenue, faults: Faults | None) -> ASGIApp:
    """`app` behind the control addresses of `venue` and of `faults`."""
    accounts = with_settings_control(with_account_control(with_instrument_control(app, venue), venue), venue)
    funding = with_funding_control(with_book_control(accounts, venue), venue)
    market = with_market_control(with_candle_control(funding, venue), venue)
    return with_faults(with_margin_control(market, venue), faults or Faults())
