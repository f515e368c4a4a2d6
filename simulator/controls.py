"""The control addresses that every simulated venue has, in front of it."""

from starlette.types import ASGIApp

from simulator.account_control import with_account_control
from simulator.account_settings import with_settings
from simulator.aster_control import with_control
from simulator.candle_faults import with_candle_faults
from simulator.exchange import Exchange
from simulator.faults import Faults, with_faults


def with_controls(app: ASGIApp, exchange: Exchange, faults: Faults | None) -> ASGIApp:
    """`app` behind what a test or a person may do to its market and accounts, and what it shall do wrong."""
    accounts = with_settings(with_account_control(app, exchange), exchange)
    return with_faults(with_control(with_candle_faults(accounts, exchange), exchange), faults or Faults())
