"""What a venue's own record tells of an account: its trades, its forced orders and its income, whoever caused them."""

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


# How Binance-shaped venues begin the names of the orders that they make themselves (user data streams, "special client
# order id").
FORCED_ORDER_ID_PREFIXES: Final = (("adl_autoclose", ForcedExitCause.ADL), ("autoclose-", ForcedExitCause.LIQUIDATED))
# And of those with which they settle positions of an instrument that ends.
SETTLEMENT_ORDER_ID_PREFIXES: Final = ("settlement_autoclose-", "delivery_autoclose-")


def parse_forced_exit_cause(client_order_id: str | None) -> ForcedExitCause | None:
    """What the client id of an order says of its cause; None for an order that the venue did not make itself."""
    return next((cause for start, cause in FORCED_ORDER_ID_PREFIXES if (client_order_id or "").startswith(start)), None)


class AccountTrade(Frozen):
    """One trade of the account. `quantity` is in the base asset, `fee_usd` what it cost (negative for a rebate).

    `trade_id` grows within a symbol (Binance: ``id`` of ``userTrades``), and both sides of a trade of the account with
    itself have one. `fee_usd` is None where the fee was paid in a coin that is no dollar: then it is `fee_amount` of
    `fee_coin`, see `AccountRecord.convert_to_usd`.
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
        """What it did to the account's net position."""
        return self.quantity if self.is_buy else self.quantity.copy_negate()


def convert_fees_to_usd(
    trades: Sequence[AccountTrade], convert: UsdConverter, order_ids: Collection[str] | None = None
) -> tuple[AccountTrade, ...]:
    """`trades` (of the orders `order_ids`, else all) with what was paid in a coin in dollars, where its price is known.

    The newest are asked about first, since one answer about a coin tells of the minutes before as well.
    """
    found = list(trades)
    for index, each in reversed(list(enumerate(found))):
        is_asked = each.fee_usd is None and each.fee_coin is not None
        if is_asked and (order_ids is None or each.order_id in order_ids):
            usd = convert(each.fee_coin or "", each.fee_amount, each.at_ms)
            found[index] = each.model_copy(update={"fee_usd": usd})
    return tuple(found)


class ForcedOrder(Frozen):
    """An order of the venue's own making (Binance: ``forceOrders``): filled `quantity` at the average `price`,
    which is 0 where the venue tells none: then its trades have it."""

    order_id: str
    symbol: str
    cause: ForcedExitCause
    is_buy: bool
    quantity: Decimal = Field(ge=0)
    price: Decimal = Field(ge=0)
    at_ms: int


class Income(Frozen):
    """One change of the account's balance. `kind` is the venue's word: ``REALIZED_PNL``, ``COMMISSION``,
    ``INSURANCE_CLEAR`` (what a liquidation cost beyond its commission), ``FUNDING_FEE`` and others.

    `amount` is signed, in `asset`; `trade_id` is None where no trade is named.
    """

    income_id: str
    kind: str
    symbol: str
    amount: Decimal
    asset: str
    trade_id: int | None
    at_ms: int


class AccountRecord(Protocol):
    """The record of one account. Raises as `engine.venues.venue.Account` does, and UpstreamUnavailable also where a
    row cannot be read, or where a record is longer than can be read at once.

    What is older than 89 days is not read by time, as venues answer for 90.
    """

    def fetch_trades(
        self, symbol: str, *, since_ms: int | None = None, after_id: int | None = None
    ) -> tuple[AccountTrade, ...]:
        """All trades of the account in `symbol`, oldest first: those above `after_id`, else those from `since_ms` on,
        else all that is kept.

        Reads page after page until the end.
        """
        ...

    def fetch_forced_orders(self, symbol: str, since_ms: int) -> tuple[ForcedOrder, ...]:
        """What the venue itself closed, oldest first; orders that filled nothing are left out."""
        ...

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        """Oldest first, at a weight of 30 a page; without a `symbol` of all, with a `kind` of that alone."""
        ...

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:
        """What `amount` of `asset` was worth in dollars at `at_ms` by the venue's own prices; None where none is known.

        Raises nothing.
        """
        ...

    def find_client_order_id(self, symbol: str, order_id: str) -> str | None:
        """The client order id of one of the account's plain orders; None when the venue knows none of that number.

        Venues name their own orders, see `FORCED_ORDER_ID_PREFIXES`.
        """
        ...
