"""Orders to a venue, their results, and the client order ids that identify them."""

import hashlib
import re
from decimal import Decimal
from enum import StrEnum
from typing import Final, Self
from uuid import UUID

from pydantic import Field, model_validator

from engine.domain.positions import MAX_LEVERAGE, MarginMode, Side
from engine.platform.values import Frozen


class OrderLetter(StrEnum):
    """What an order of ours is for: the second character of its client order id."""

    OPEN = "o"
    CLOSE = "c"
    REST = "r"
    UNDO = "u"
    STOP_LOSS = "l"
    TAKE_PROFIT = "t"


PROTECTIVE_LETTERS: Final = (OrderLetter.STOP_LOSS, OrderLetter.TAKE_PROFIT)
PART_MARKS: Final = "123456789abcdefghijklmnopqrstuvwxyz"  # of the second order of a leg and those after it
_OWN_ID: Final = re.compile(f"s[{''.join(OrderLetter)}][{PART_MARKS}]?-[0-9a-f]{{32}}")
_PROTECTIVE_PREFIXES: Final = tuple(f"s{letter}-" for letter in PROTECTIVE_LETTERS)


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
    leverage: int | None = Field(default=1, ge=1, le=MAX_LEVERAGE)
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
        return build_client_order_id(self.signal_id, OrderLetter.STOP_LOSS)

    @property
    def take_profit_id(self) -> str:
        return build_client_order_id(self.signal_id, OrderLetter.TAKE_PROFIT)


def build_part_leg(leg: str, number: int) -> str:
    """The letter of the leg for the first of its orders, number 0, with a mark for each of the others."""
    return leg if number == 0 else f"{leg}{PART_MARKS[number - 1]}"


def build_client_order_id(signal_id: UUID | str, leg: str = OrderLetter.OPEN) -> str:
    """The client order id of a signal's leg (an `OrderLetter`, or what `build_part_leg` makes of one): always the same
    35 characters, or 36 with the mark of a part.

    A signal id that is no UUID is hashed, because venues allow 36 characters of a small alphabet.
    """
    try:
        name = UUID(str(signal_id)).hex
    except ValueError:
        name = hashlib.sha256(str(signal_id).encode()).hexdigest()[:32]
    return f"s{leg}-{name}"


def is_own_order_id(client_order_id: str) -> bool:
    """Whether `build_client_order_id` makes such ids."""
    return _OWN_ID.fullmatch(client_order_id) is not None


def is_protective_order_id(client_order_id: str) -> bool:
    """Whether the order is a stop-loss or take-profit of ours by its name."""
    return client_order_id.startswith(_PROTECTIVE_PREFIXES)
