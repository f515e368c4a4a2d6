"""The venue's record of an account: trades, forced orders and income, also those that Sparky did not cause."""

from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final, Protocol

from pydantic import Field

from engine.platform.values import Frozen

UsdConverter = Callable[[str, Decimal, int], Decimal | None]  # as `AccountRecord.convert_to_usd`


class ForcedExitCause(StrEnum):
    """Why the venue itself closed a position. The values are exit reasons of trades."""

    LIQUIDATED = "liquidated"
    ADL = "adl"


# Prefixes of client order ids of orders that Binance-shaped venues create themselves
# (Binance's documentation of user data streams, "special client order id").
FORCED_ORDER_ID_PREFIXES: Final = (("adl_autoclose", ForcedExitCause.ADL), ("autoclose-", ForcedExitCause.LIQUIDATED))
# Prefixes for orders that settle the positions of an instrument that is delisted.
SETTLEMENT_ORDER_ID_PREFIXES: Final = ("settlement_autoclose-", "delivery_autoclose-")


def parse_forced_exit_cause(client_order_id: str | None) -> ForcedExitCause | None:
    """The cause that a client order id states; None for an order that the venue did not create itself."""
    return next((cause for start, cause in FORCED_ORDER_ID_PREFIXES if (client_order_id or "").startswith(start)), None)


class AccountTrade(Frozen):
    """One trade of the account. `quantity` is in the base asset; `fee_usd` is negative for a rebate.

    `trade_id` grows within a symbol (Binance: ``id`` of ``userTrades``), and both sides of a trade of the account with
    itself share one. `fee_usd` is None where the fee was paid in a coin: then it is `fee_amount` of `fee_coin`, see
    `AccountRecord.convert_to_usd`.
    """

    trade_id: int
    order_id: str
    symbol: str
    is_buy: bool
    quantity: Decimal = Field(gt=0)
    price: Decimal = Field(gt=0)
    fee_usd: Decimal | None
    fee_coin: str | None = None
    fee_amount: Decimal = Decimal(0)
    at_ms: int

    @property
    def signed_quantity(self) -> Decimal:
        """Its change of the account's net position, in the base asset."""
        return self.quantity if self.is_buy else self.quantity.copy_negate()


def convert_fees_to_usd(
    trades: Sequence[AccountTrade], convert: UsdConverter, order_ids: Collection[str] | None = None
) -> tuple[AccountTrade, ...]:
    """`trades` with fees paid in coins converted to dollars where a price is known; with `order_ids` only theirs."""
    converted = list(trades)
    # Newest first, because one answer about a coin's price covers the minutes before as well.
    for index, trade in reversed(list(enumerate(converted))):
        needs_price = trade.fee_usd is None and trade.fee_coin is not None
        if needs_price and (order_ids is None or trade.order_id in order_ids):
            usd = convert(trade.fee_coin or "", trade.fee_amount, trade.at_ms)
            converted[index] = trade.model_copy(update={"fee_usd": usd})
    return tuple(converted)


class ForcedOrder(Frozen):
    """An order that the venue created itself (Binance: ``forceOrders``): `quantity` filled at the average `price`.

    `price` is 0 where the venue gives none; then it follows from the order's trades."""

    order_id: str
    symbol: str
    cause: ForcedExitCause
    is_buy: bool
    quantity: Decimal = Field(ge=0)
    price: Decimal = Field(ge=0)
    at_ms: int


class Income(Frozen):
    """One change of the account's balance. `kind` is the venue's: ``REALIZED_PNL``, ``COMMISSION``,
    ``INSURANCE_CLEAR`` (what a liquidation cost beyond its commission), ``FUNDING_FEE`` and others.

    `amount` is signed, in `asset`; `trade_id` is None where the row has none.
    """

    income_id: str
    kind: str
    symbol: str
    amount: Decimal
    asset: str
    trade_id: int | None
    at_ms: int


class AccountRecord(Protocol):
    """The record of one account. Raises as `engine.venues.venue.LiveVenue` does, and UpstreamUnavailable also where a
    row cannot be read, or where a record is longer than can be read at once.

    Nothing older than 89 days is read by time, because venues answer for 90.
    """

    def fetch_trades(
        self, symbol: str, *, since_ms: int | None = None, after_id: int | None = None
    ) -> tuple[AccountTrade, ...]:
        """All trades of the account in `symbol`, oldest first: those above `after_id`, else those from `since_ms` on,
        else all that the venue keeps. Reads all pages.
        """
        ...

    def fetch_forced_orders(self, symbol: str, since_ms: int) -> tuple[ForcedOrder, ...]:
        """Orders with which the venue closed positions, oldest first, without those that filled nothing."""
        ...

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        """Income from `since_ms` on, oldest first; request weight 30 a page. None for `symbol` or `kind` means all."""
        ...

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        """The value in dollars of `amount` of `asset` at `at_ms`, by the venue's prices; None if unknown.

        Raises nothing.
        """
        ...

    def find_client_order_id(self, symbol: str, order_id: str) -> str | None:
        """The client order id of one of the account's plain orders; None when the venue has no such order.

        Orders that the venue created have ids of its own, see `FORCED_ORDER_ID_PREFIXES`.
        """
        ...
