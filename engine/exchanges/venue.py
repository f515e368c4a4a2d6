"""What executing a trade means, whichever venue does it: quotes, instruments, orders, and one protocol over them."""

import hashlib
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from pydantic import Field, SecretStr

from engine.errors import VenueRefused
from engine.types import Frozen


class Quote(Frozen):
    """Best prices of one symbol at the venue's time `at_ms`."""

    bid: Decimal = Field(gt=0)
    ask: Decimal = Field(gt=0)
    last: Decimal = Field(gt=0)
    at_ms: int


class Instrument(Frozen):
    """What the venue accepts of one symbol. Quantities are in the base asset, `min_notional` in USD.

    `max_leverage` and `max_quantity` are None where the venue does not publish them.
    """

    symbol: str
    tick: Decimal = Field(gt=0)
    lot: Decimal = Field(gt=0)
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None
    min_notional: Decimal = Decimal(0)
    max_leverage: int | None = None

    def floored(self, quantity: Decimal) -> Decimal:
        """The largest multiple of the lot that is at most `quantity`."""
        return (quantity / self.lot).to_integral_value(ROUND_FLOOR) * self.lot

    def whole_lots(self, quantity: Decimal) -> Decimal:
        """`quantity` floored to the lot. Raises VenueRefused when the venue takes no such quantity."""
        floored = self.floored(quantity)
        if floored <= 0 or floored < self.min_quantity:
            least = max(self.lot, self.min_quantity)
            raise VenueRefused(f"{self.symbol}: quantity {quantity} is below the least of {least}")
        if self.max_quantity is not None and floored > self.max_quantity:
            raise VenueRefused(f"{self.symbol}: quantity {floored} is above the most of {self.max_quantity}")
        return floored

    def accepted(self, quantity: Decimal, price: Decimal, *, reduce_only: bool) -> Decimal:
        """`whole_lots`, and worth the minimum notional at `price`. Raises VenueRefused.

        A reduce-only order may be worth less, as on Binance-shaped venues, so that a small rest can always be closed.
        """
        floored = self.whole_lots(quantity)
        if not reduce_only and floored * price < self.min_notional:
            raise VenueRefused(f"{self.symbol}: notional {floored * price} is below the minimum of {self.min_notional}")
        return floored


class OrderRequest(Frozen):
    """A market order. `quantity` is in the base asset; it is floored to the lot, never rounded up."""

    client_order_id: str = Field(min_length=1, max_length=36, pattern=r"^[.A-Z:/a-z0-9_-]+$")
    symbol: str
    is_buy: bool
    quantity: Decimal = Field(gt=0)
    reduce_only: bool = False
    leverage: int = Field(default=1, ge=1, le=125)


class OrderStatus(StrEnum):
    FILLED = "filled"
    REJECTED = "rejected"
    OPEN = "open"


class OrderResult(Frozen):
    """What became of an order. `price` is the fills' average, `quantity` what was filled, in the base asset.

    `at_ms` is the venue's time. FILLED may be less than was asked for where the venue cancelled the rest.
    """

    order_id: str
    client_order_id: str
    status: OrderStatus
    price: Decimal
    quantity: Decimal
    fee_usd: Decimal
    at_ms: int


class Quotes(Protocol):
    """Where prices and instruments come from."""

    def quote(self, symbol: str) -> Quote:
        """Raises StrategyFault for an unknown symbol and UpstreamUnavailable when the venue cannot say."""
        ...

    def instrument(self, symbol: str) -> Instrument:
        """Raises as `quote` does."""
        ...


class Venue(Quotes, Protocol):
    """Where orders are executed."""

    def market_order(self, order: OrderRequest) -> OrderResult:
        """Raises VenueRefused (understood and declined), UpstreamUnavailable (surely not accepted; later, perhaps),
        OutcomeUnknown (ask `order_by_client_id` before anything else) and BadConfiguration (credentials)."""
        ...

    def order_by_client_id(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that id, or None when the venue knows none. Raises as `quote` does."""
        ...


class Credentials(Protocol):
    """A person's keys for one venue. Aster V3 needs `private_key` and, for an agent's key, `user_address`."""

    @property
    def api_key(self) -> SecretStr | None: ...
    @property
    def api_secret(self) -> SecretStr | None: ...
    @property
    def user_address(self) -> str | None: ...
    @property
    def signer_address(self) -> str | None: ...
    @property
    def private_key(self) -> SecretStr | None: ...


def client_order_id(signal_id: UUID | str, leg: str = "o") -> str:
    """The order id of a signal: the same signal and leg (one letter) always give the same 35 characters.

    A signal id that is no UUID is hashed, since venues allow 36 characters of a small alphabet.
    """
    try:
        name = UUID(str(signal_id)).hex
    except ValueError:
        name = hashlib.sha256(str(signal_id).encode()).hexdigest()[:32]
    return f"s{leg}-{name}"
