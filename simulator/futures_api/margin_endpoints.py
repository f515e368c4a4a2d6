"""Signed endpoints about margin: margin type, leverage, brackets."""

from typing import Final

from simulator.futures_api.parameters import Params
from simulator.venue import margin
from simulator.venue.api_error import VenueApiError
from simulator.venue.venue import SimulatedVenue

MARGIN_TYPES: Final = {"CROSSED": "cross", "ISOLATED": margin.ISOLATED}


def set_margin_type(venue: SimulatedVenue, user: str, params: Params) -> object:
    """``POST /marginType``. Raises VenueApiError if the symbol has that type already, a position or an open order."""
    venue.get_market(params.get("symbol"))
    account = venue.get_account(user)
    holding = account.get_holding(params["symbol"])
    wanted = MARGIN_TYPES.get(params.get("marginType", ""))
    if wanted is None:
        raise VenueApiError(-1102, "Mandatory parameter 'marginType' was not sent, was empty/null, or malformed.")
    venue.settings.check_margin_type(wanted)
    if wanted == holding.margin_type:
        raise VenueApiError(-4046, "No need to change margin type.")
    if account.open_orders(params["symbol"]):
        raise VenueApiError(-4047, "Margin type cannot be changed if there exists open orders.")
    if holding.amount:
        raise VenueApiError(-4048, "Margin type cannot be changed if there exists position.")
    if not venue.margin_config.ignored:
        holding.margin_type = wanted
        holding.leverage = venue.margin_config.sets_leverage or holding.leverage
    return {"code": 200, "msg": "success"}


def set_leverage(venue: SimulatedVenue, user: str, params: Params) -> object:
    """``POST /leverage``. Raises VenueApiError if it would lower that of an isolated position."""
    venue.get_market(params.get("symbol"))
    holding = venue.get_account(user).get_holding(params["symbol"])
    wanted = params.get("leverage", "")
    lowers = wanted.isdecimal() and int(wanted) < holding.leverage
    if lowers and holding.amount and holding.margin_type == margin.ISOLATED:
        raise VenueApiError(-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions.")
    holding = venue.set_leverage(user, params)
    return {"symbol": params["symbol"], "leverage": holding.leverage, "maxNotionalValue": "100000000"}


def get_leverage_brackets(venue: SimulatedVenue, _: str, params: Params) -> object:
    """``GET /leverageBracket``, of one symbol or all."""
    names = [name for name in venue.markets if params.get("symbol") in (None, name)]
    return [margin.build_brackets(name) for name in names]
