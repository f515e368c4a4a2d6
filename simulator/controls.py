"""The control addresses that every simulated venue has, in front of it."""

from starlette.types import ASGIApp

from simulator.account_control import with_account_control
from simulator.account_settings import with_settings
from simulator.aster_control import with_control
from simulator.book_control import with_book_control
from simulator.candle_faults import with_candle_faults
from simulator.exchange import Exchange
from simulator.faults import Faults, with_faults
from simulator.funding_control import with_funding_control
from simulator.instrument_control import with_instrument_control
from simulator.margin_control import with_margin


def with_controls(app: ASGIApp, exchange: Exchange, faults: Faults | None) -> ASGIApp:
    """`app` behind what a test or a person may do to its market and accounts, and what it shall do wrong."""
    accounts = with_settings(with_account_control(with_instrument_control(app, exchange), exchange), exchange)
    funding = with_funding_control(with_book_control(accounts, exchange), exchange)
    market = with_control(with_candle_faults(funding, exchange), exchange)
    return with_faults(with_margin(market, exchange), faults or Faults())
