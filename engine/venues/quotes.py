"""Prices of one symbol as a venue publishes them."""

from decimal import Decimal

from pydantic import Field

from engine.platform.values import Frozen


class Quote(Frozen):
    """Best prices of one symbol at the venue's time `at_ms`."""

    bid: Decimal = Field(gt=0)
    ask: Decimal = Field(gt=0)
    last: Decimal = Field(gt=0)
    at_ms: int


class Ticker(Frozen):
    """The venue's 24 h ticker. `bid` and `ask` are None where it has none (Aster), as is a missing change."""

    last: Decimal
    bid: Decimal | None
    ask: Decimal | None
    change_24h_percent: float | None
    at_ms: int
