"""``/_control/margin``: faults of a simulated venue where the margin type is changed, and automatic liquidation.

``POST`` with a JSON object changes the fields it names; ``GET`` shows them. Only from the same host.

- ``{"ignored": true}``: a change of the margin type is answered with 200 and not made.
- ``{"sets_leverage": 20}``: a change of the margin type also sets that leverage (``null``: it does not).
- ``{"shown_only_held": true}``: margin type and leverage are shown for symbols with a position only.

With ``{"liquidates": true}`` in ``/_control/settings`` the venue liquidates before every request, control addresses
included, what is at or below its maintenance margin: isolated positions also if the price has recovered since the last
request, cross ones at the present prices.
"""

from dataclasses import asdict
from typing import Final

from pydantic import Field
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.control_address import with_control
from simulator.venue import account_events, margin
from simulator.venue.trading_account import Account, Holding
from simulator.venue.venue import SimulatedVenue, to_decimal

CONTROL: Final = "/_control/margin"


class MarginChange(Frozen):
    """The changes; fields that are not set are kept."""

    ignored: bool = False
    sets_leverage: int | None = Field(default=None, ge=1, le=125)
    shown_only_held: bool = False


def with_margin_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address, and liquidations before every request."""
    liquidator = Liquidator(venue)
    controlled = with_control(
        app,
        CONTROL,
        lambda: asdict(venue.margin_config),
        MarginChange.model_validate_json,
        lambda change: _apply_change(change, venue),
    )

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            liquidator.liquidate_due()
        await controlled(scope, receive, send)

    return dispatch


class Liquidator:
    """Liquidates what is due, if `AccountSettings.liquidates`."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self._venue = venue
        self._last_check_ms = venue.clock.now_ms()

    def liquidate_due(self) -> None:
        """By the prices since the last call."""
        since_ms, self._last_check_ms = self._last_check_ms, self._venue.clock.now_ms()
        for user in self._venue.list_users() if self._venue.settings.liquidates else ():
            account = self._venue.get_account(user)
            for symbol in [name for name, held in account.holdings.items() if held.amount]:
                if self._is_due(account, symbol, account.get_holding(symbol), min(since_ms, self._last_check_ms)):
                    account_events.liquidate(self._venue, user, symbol)
            self._venue.save_account(user, is_read_only=False)

    def _is_due(self, account: Account, symbol: str, holding: Holding, since_ms: int) -> bool:
        if holding.margin_type != margin.ISOLATED:
            return margin.is_cross_exhausted(account, self._venue.get_price)
        at, market = (
            margin.calculate_liquidation_price(account, symbol, self._venue.get_price),
            self._venue.get_market(symbol),
        )
        since_ms = max(since_ms, min(holding.changed_ms, self._last_check_ms))  # it was not held before
        path = market.iter_segments(since_ms, self._last_check_ms)
        prices = [to_decimal(price, market.decimals) for segment in path for price in (segment.first, segment.last)]
        return bool(at) and (min(prices) <= at if holding.amount > 0 else max(prices) >= at)


def _apply_change(change: MarginChange, venue: SimulatedVenue) -> None:
    for name in change.model_fields_set:
        setattr(venue.margin_config, name, getattr(change, name))
