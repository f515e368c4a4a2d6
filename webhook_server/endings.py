"""Exits that no order makes: what is too little to be sent, and what the venue lists no more."""

from decimal import Decimal
from typing import Final, Literal

from engine.store.webhook_rows import Fill
from engine.types import Position

DUST: Final = "dust"
SETTLED: Final = "settled"  # by the venue, as its record tells
DELISTED: Final = "delisted"  # the venue lists the symbol no more, and tells nothing of what it settled


def ended_without_order(
    held: Position, price: Decimal, reason: str, at_ms: int | None = None, kind: Literal["close", "dust"] = "dust"
) -> Fill:
    """The exit of all of `held` at `price`, without a fee."""
    return Fill(
        kind=kind,
        exchange=held.exchange,
        symbol=held.symbol,
        side=held.side,
        quantity=held.quantity,
        price=price,
        fee_usd=Decimal(0),
        leverage=held.leverage,
        is_paper=held.is_paper,
        strategy_id=held.strategy_id,
        exit_reason=reason,
        market_time_ms=at_ms,
    )
