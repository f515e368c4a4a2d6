"""What both simulated venues answer where an account's margin is set or told: margin type, leverage, brackets."""

from collections.abc import Mapping
from typing import Final

from simulator.venue import margin
from simulator.venue.api_error import AsterRefusal
from simulator.venue.venue import Exchange

Given = Mapping[str, str]
MARGIN_TYPES: Final = {"CROSSED": "cross", "ISOLATED": margin.ISOLATED}


def margin_type(exchange: Exchange, user: str, given: Given) -> object:
    """``POST /marginType``. Raises AsterRefusal where the symbol has it already, or has a position or an order."""
    exchange.market(given.get("symbol"))
    account = exchange.account(user)
    holding = account.holding(given["symbol"])
    wanted = MARGIN_TYPES.get(given.get("marginType", ""))
    if wanted is None:
        raise AsterRefusal(-1102, "Mandatory parameter 'marginType' was not sent, was empty/null, or malformed.")
    exchange.settings.check_margin_type(wanted)
    if wanted == holding.margin_type:
        raise AsterRefusal(-4046, "No need to change margin type.")
    if account.open_orders(given["symbol"]):
        raise AsterRefusal(-4047, "Margin type cannot be changed if there exists open orders.")
    if holding.amount:
        raise AsterRefusal(-4048, "Margin type cannot be changed if there exists position.")
    if not exchange.margin.ignored:
        holding.margin_type = wanted
        holding.leverage = exchange.margin.sets_leverage or holding.leverage
    return {"code": 200, "msg": "success"}


def leverage(exchange: Exchange, user: str, given: Given) -> object:
    """``POST /leverage``. Raises AsterRefusal where an isolated position would have less."""
    exchange.market(given.get("symbol"))
    holding = exchange.account(user).holding(given["symbol"])
    wanted = given.get("leverage", "")
    lowers = wanted.isdecimal() and int(wanted) < holding.leverage
    if lowers and holding.amount and holding.margin_type == margin.ISOLATED:
        raise AsterRefusal(-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions.")
    holding = exchange.set_leverage(user, given)
    return {"symbol": given["symbol"], "leverage": holding.leverage, "maxNotionalValue": "100000000"}


def leverage_bracket(exchange: Exchange, _: str, given: Given) -> object:
    """``GET /leverageBracket``, of one symbol or all."""
    names = [name for name in exchange.markets if given.get("symbol") in (None, name)]
    return [margin.brackets(name) for name in names]
