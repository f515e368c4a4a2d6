"""Fetches the market data of a strategy's symbols, and leaves out those that have none."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from engine.deciding.cycle_interface import CycleServices
from engine.deciding.prompt import SymbolView
from engine.domain.errors import StrategyFault
from engine.domain.market import MarketSnapshot
from engine.domain.strategy import Strategy
from engine.platform.errors import CycleSkipped
from engine.platform.plain_text import sanitize_for_storage

_MAX_REASON: Final = 200  # characters


class MarketViews(NamedTuple):
    """The symbols that have data, and those `without_data`, each with the reason."""

    views: list[SymbolView]
    without_data: Mapping[str, str]


def fetch_views(services: CycleServices, strategy: Strategy, deadline: float) -> MarketViews:
    """The data of all symbols of `strategy` by the monotonic `deadline`.

    A symbol that is halted or gone must not keep the others from their exits, so it is left out. Where no symbol has
    data this raises the first CycleSkipped, else the first StrategyFault: faults pause the row, and an outage must not.
    """
    views: list[SymbolView] = []
    failures: dict[str, CycleSkipped | StrategyFault] = {}
    for symbol in strategy.target_assets:
        try:
            views.append(_fetch_view(services, strategy, symbol, deadline))
        except (CycleSkipped, StrategyFault) as failure:
            failures[symbol] = failure
    if not views:
        raise min(failures.values(), key=lambda failure: isinstance(failure, StrategyFault))
    reasons = {symbol: sanitize_for_storage(str(failure))[:_MAX_REASON] for symbol, failure in failures.items()}
    return MarketViews(views, reasons)


def _fetch_view(services: CycleServices, strategy: Strategy, symbol: str, deadline: float) -> SymbolView:
    def fetch_longer(interval: str) -> MarketSnapshot | None:
        # Longer candles are optional: one gap among a hundred hours would stop the strategy for four days.
        try:
            return services.snapshot(strategy.exchange, symbol, interval, deadline)
        except CycleSkipped:
            return None

    minute = services.snapshot(strategy.exchange, symbol, "1m", deadline)
    return SymbolView(minute, {interval: fetch_longer(interval) for interval in strategy.context_intervals})
