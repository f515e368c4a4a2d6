"""The control addresses that every simulated venue has, in front of it."""

from starlette.types import ASGIApp

from simulator.account_control import with_account_control
from simulator.account_settings import with_settings
from simulator.aster_control import with_control
from simulator.exchange import Exchange
from simulator.faults import Faults, with_faults
from simulator.instrument_control import with_instrument_control


def with_controls(app: ASGIApp, exchange: Exchange, faults: Faults | None) -> ASGIApp:
    """`app` behind what a test or a person may do to its market and accounts, and what it shall do wrong."""
    settings = with_settings(with_account_control(with_instrument_control(app, exchange), exchange), exchange)
    return with_faults(with_control(settings, exchange), faults or Faults())
