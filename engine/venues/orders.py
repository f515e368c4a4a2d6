"""Orders to a venue, their results, and the client order ids that identify them."""

import hashlib
from decimal import Decimal
from enum import StrEnum
from typing import Final, Self
from uuid import UUID

from pydantic import Field, model_validator

from engine.domain.positions import MarginMode, Side
from engine.platform.values import Frozen

# Letters for `build_client_order_id`; callers use "o" (open) and "c" (close) as well.
STOP_LOSS_LETTER: Final = "l"
TAKE_PROFIT_LETTER: Final = "t"


class OrderRequest(Frozen):
    """An order. `quantity` is in the base asset; it is floored to the lot, never rounded up.

    `reduce_only` refers to the account's net position in the symbol: the venue reduces such an order to the net, and
    rejects it when there is nothing to reduce. `margin_mode` and then `leverage` are set for the symbol and read back
    before an entry; None leaves them as they are (exits, which must not fail because of them). `send_by` is the
    monotonic time (s) after which an entry is not sent any more, because its price check is too old.
    """

    client_order_id: str = Field(min_length=1, max_length=36, pattern=r"^[.A-Z:/a-z0-9_-]+$")
    symbol: str
    is_buy: bool
    quantity: Decimal = Field(gt=0)
    reduce_only: bool = False
    leverage: int | None = Field(default=1, ge=1, le=125)
    margin_mode: MarginMode | None = None
    send_by: float | None = None

    @property
    def is_entry(self) -> bool:
        """Whether it may open a position. `reduce_only` alone does not tell: an exit beside opposite positions of other
        strategies does not have it either."""
        return self.leverage is not None and not self.reduce_only


class OrderStatus(StrEnum):
    """FILLED: ended with a fill; REJECTED: ended without one (rejected, cancelled or expired); OPEN: not ended."""

    FILLED = "filled"
    REJECTED = "rejected"
    OPEN = "open"


class OrderResult(Frozen):
    """The state of an order. `price` is the average of its fills, `quantity` the filled quantity in the base asset.

    `at_ms` is the venue's time. A FILLED order may have filled in part, if the venue cancelled the rest.
    """

    order_id: str
    client_order_id: str
    status: OrderStatus
    price: Decimal
    quantity: Decimal
    fee_usd: Decimal
    at_ms: int


class Protection(Frozen):
    """The stop-loss and take-profit wanted for `quantity` of a position on `side`; at least one of them.

    Each becomes an order that closes at the market when the last price reaches it. The venue does not
    cancel the second when the first has filled; the caller does. `reduce_only` as in OrderRequest. Prices are
    rounded to the tick nearer to the market, so that neither triggers later than requested.
    """

    signal_id: UUID | str
    symbol: str
    side: Side
    quantity: Decimal = Field(gt=0)
    stop_loss_price: Decimal | None = Field(default=None, gt=0)
    take_profit_price: Decimal | None = Field(default=None, gt=0)
    reduce_only: bool = True

    @model_validator(mode="after")
    def _check_has_price(self) -> Self:
        if self.stop_loss_price is None and self.take_profit_price is None:
            raise ValueError("a protection has a stop-loss, a take-profit or both")
        return self

    @property
    def stop_loss_id(self) -> str:
        return build_client_order_id(self.signal_id, STOP_LOSS_LETTER)

    @property
    def take_profit_id(self) -> str:
        return build_client_order_id(self.signal_id, TAKE_PROFIT_LETTER)


def build_client_order_id(signal_id: UUID | str, letter: str = "o") -> str:
    """The client order id of a signal's leg (one letter): always the same 35 characters.

    A signal id that is no UUID is hashed, because venues allow 36 characters of a small alphabet.
    """
    try:
        name = UUID(str(signal_id)).hex
    except ValueError:
        name = hashlib.sha256(str(signal_id).encode()).hexdigest()[:32]
    return f"s{letter}-{name}"
