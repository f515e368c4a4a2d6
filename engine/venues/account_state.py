"""What an account has at its venue now: open orders, positions and balance."""

from decimal import Decimal
from enum import StrEnum
from typing import Final

from pydantic import Field

from engine.domain.positions import Side
from engine.platform.values import Frozen

USD_ASSETS: Final = ("USDT", "USDC", "USD", "USDF")  # assets counted as one dollar each


class OrderKind(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    OTHER = "other"


class OpenOrder(Frozen):
    """An open order at the venue. `price` is its limit or trigger; `quantity` is in the base asset, 0 for an order
    that closes the whole position."""

    order_id: str
    client_order_id: str | None
    symbol: str
    kind: OrderKind
    is_buy: bool
    quantity: Decimal
    filled: Decimal
    price: Decimal
    reduce_only: bool
    at_ms: int


class VenuePosition(Frozen):
    """The account's net position in one symbol; `quantity` is in the base asset, always positive.

    `changed_ms` is when the venue last changed it, 0 if unknown; `liquidation_price` is None if the venue gives none.
    """

    symbol: str
    side: Side
    quantity: Decimal = Field(gt=0)
    entry_price: Decimal
    leverage: int | None
    unrealized_pnl_usd: Decimal | None
    changed_ms: int = 0
    liquidation_price: Decimal | None = None

    @property
    def net(self) -> Decimal:
        """Positive when long, negative when short."""
        return self.quantity if self.side is Side.LONG else -self.quantity


class Balance(Frozen):
    """The account's dollars: the wallet without unrealised profit over all of `USD_ASSETS`, and the largest amount
    available in one of them."""

    wallet_usd: Decimal
    available_usd: Decimal
