"""``/_control/book``: how the order books of a simulated venue are quoted.

``POST`` takes a JSON object, for one ``"symbol"`` or all; ``GET`` shows the present values. Only from the same host.

- ``{"spread_percent": 8}``: the ask is 8 % above the bid (below 0: a crossed book).
- ``{"level_quantity": "0.01", "level_step_percent": 0.5, "max_levels": 10}``: a thin book.
- ``{"empty_side": "asks"}`` (or "bids", "both"): no orders on that side.
- ``{"book_age_s": 60, "mark_age_s": 60}``: older timestamps of book and mark price (below 0: later ones);
  ``{"times_hidden": true}``: the book has no timestamps.
- ``{"mark_percent": 5}``: the mark price is so far from the market; ``{"mark_hidden": true}``: there is none.
- ``{"ticker_percent": -5}``: the tickers differ from the book.
- ``{"fills_through": true}``: market orders fill through the levels.
- ``{"reset": true}``: back to the defaults before the rest is applied.
"""

from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any, Final

from pydantic import Field
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.control.refusals import check_symbol_listed
from simulator.control_address import with_control
from simulator.venue.book_config import BookConfig, EmptySide
from simulator.venue.venue import SimulatedVenue

CONTROL: Final = "/_control/book"


class BookChange(Frozen):
    """The changes; None keeps a value."""

    symbol: str | None = None
    reset: bool = False
    spread_percent: float | None = Field(default=None, gt=-50, le=1_000)
    level_quantity: Decimal | None = Field(default=None, gt=0)
    level_step_percent: float | None = Field(default=None, ge=0, le=50)
    max_levels: int | None = Field(default=None, ge=1, le=1_000)
    empty_side: EmptySide | None = None
    book_age_s: float | None = None
    times_hidden: bool | None = None
    mark_percent: float | None = Field(default=None, gt=-100, le=1_000)
    mark_age_s: float | None = None
    mark_hidden: bool | None = None
    ticker_percent: float | None = Field(default=None, gt=-100, le=1_000)
    fills_through: bool | None = None

    def apply_to(self, config: BookConfig) -> BookConfig:
        given = self.model_dump(exclude={"symbol", "reset", "book_age_s", "mark_age_s"}, exclude_none=True)
        if self.book_age_s is not None:
            given["book_age_ms"] = round(self.book_age_s * 1_000)
        if self.mark_age_s is not None:
            given["mark_age_ms"] = round(self.mark_age_s * 1_000)
        return replace(BookConfig() if self.reset else config, **given)


def with_book_control(app: ASGIApp, venue: SimulatedVenue) -> ASGIApp:
    """`app` behind the control address."""
    return with_control(
        app,
        CONTROL,
        lambda: {symbol: _describe_state(venue.get_book_config(symbol)) for symbol in venue.markets},
        BookChange.model_validate_json,
        lambda change: _apply_change(change, venue),
    )


def _apply_change(change: BookChange, venue: SimulatedVenue) -> None:
    check_symbol_listed(venue, change.symbol)
    for symbol in venue.markets if change.symbol is None else (change.symbol,):
        venue.book_configs[symbol] = change.apply_to(venue.get_book_config(symbol))


def _describe_state(config: BookConfig) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(config).items()}
