"""Exits without an order of ours: trades of others, quantities too small to be sent, symbols that are delisted."""

from decimal import Decimal
from typing import Final, Literal

from engine.domain.positions import Position
from engine.store.venue_record import OutsideExit
from engine.store.webhook_rows import Fill
from webhook_server.reconciliation.attribution import AttributedExit

DUST: Final = "dust"
SETTLED: Final = "settled"  # by the venue, as its record tells
DELISTED: Final = "delisted"  # the venue lists the symbol no more, and its record shows no settlement


def build_orderless_exit(
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


def build_outside_exit(exchange: str, part: AttributedExit) -> OutsideExit:
    """The exit of `part`, with a request id that is the same whenever the same trade is read again."""
    position = part.position
    # A forced order whose trades are not shown may fill on after it was booked.
    trade = f"{part.last_trade_id}" if part.last_trade_id else f"0/{part.at_ms}"
    return OutsideExit(
        request_id=f"venue/{part.order_id}/{trade}/{position.id}",
        fill=Fill(
            kind="close",
            exchange=exchange,
            symbol=position.symbol,
            side=position.side,
            quantity=part.quantity,
            price=part.price,
            fee_usd=part.fee_usd,
            leverage=position.leverage,
            is_paper=False,
            strategy_id=position.strategy_id,
            order_id=part.order_id,
            exit_reason=part.reason,
            market_time_ms=part.at_ms,
        ),
    )
