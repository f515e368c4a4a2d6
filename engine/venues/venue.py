"""What executing a trade means, whichever venue does it: quotes, instruments, orders, and one protocol over them."""

import hashlib
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Final, Protocol, Self
from uuid import UUID

from pydantic import Field, SecretStr, model_validator

from engine.domain import decimals
from engine.domain.errors import OrderRejected
from engine.domain.positions import MarginMode, Side
from engine.platform.values import Frozen
from engine.venues.account_record import AccountRecord
from engine.venues.account_setup import AccountSetup
from engine.venues.order_book import OrderBook

# The letter of an order in `build_client_order_id`, beside the callers' own "o" (open) and "c" (close).
STOP_LOSS_LETTER: Final = "l"
TAKE_PROFIT_LETTER: Final = "t"
# Statuses of an instrument: what Binance-shaped venues call one that can be traded, and ours for one that vanished.
TRADING: Final = "TRADING"
GONE: Final = "GONE"


BOOK_LEVELS: Final = 50  # weigh as much as 5
DEEP_LEVELS: Final = 500  # for an order that is larger than what those hold


class Quote(Frozen):
    """Best prices of one symbol at the venue's time `at_ms`."""

    bid: Decimal = Field(gt=0)
    ask: Decimal = Field(gt=0)
    last: Decimal = Field(gt=0)
    at_ms: int


class Ticker(Frozen):
    """The venue's 24 h ticker. `bid` and `ask` are None where it has none (Aster), as is a change it does not tell."""

    last: Decimal
    bid: Decimal | None
    ask: Decimal | None
    change_24h_percent: float | None
    at_ms: int


class LotSize(Frozen):
    """Which quantities (base asset) an order of one kind may have."""

    step: Decimal = Field(gt=0)
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None

    def floor_quantity(self, quantity: Decimal) -> Decimal:
        """The largest multiple of the step that is at most `quantity`."""
        return decimals.round_to_step(quantity, self.step, ROUND_FLOOR)

    def find_fault(self, quantity: Decimal) -> str | None:
        """What is wrong with `quantity`, floored; None when the venue takes it."""
        floored = self.floor_quantity(quantity)
        if floored <= 0 or floored < self.min_quantity:
            least = decimals.format_plain(max(self.step, self.min_quantity))
            return f"quantity {decimals.format_plain(quantity)} is below the least of {least}"
        if self.max_quantity is not None and floored > self.max_quantity:
            most = decimals.format_plain(self.max_quantity)
            return f"quantity {decimals.format_plain(floored)} is above the most of {most}"
        return None


class Instrument(Frozen):
    """What the venue accepts of one symbol. Quantities are in the base asset, `min_notional` in USD.

    `lot`, `min_quantity` and `max_quantity` are those of market orders, protective ones among them; `limit` has those
    of limit orders where they differ. `max_leverage` and the largest quantities are None where the venue does not
    publish them. `status` is the venue's word: only a `TRADING` instrument is entered into; `GONE` is one that it
    listed before and lists no more. `maintenance_rate` is the share of the notional that must be left as margin, as
    the venue publishes it to anybody. A buy may be made at up to `multiplier_up` times the mark price, a sale at
    `multiplier_down` times it or more. At most `max_trigger_orders` conditional orders may wait at once.
    """

    symbol: str
    tick: Decimal = Field(gt=0)
    lot: Decimal = Field(gt=0)
    min_quantity: Decimal = Decimal(0)
    max_quantity: Decimal | None = None
    min_notional: Decimal = Decimal(0)
    max_leverage: int | None = None
    limit: LotSize | None = None
    status: str = TRADING
    maintenance_rate: Decimal | None = None
    multiplier_up: Decimal | None = None
    multiplier_down: Decimal | None = None
    max_trigger_orders: int | None = None

    @property
    def is_trading(self) -> bool:
        return self.status == TRADING

    @property
    def market_lot(self) -> LotSize:
        return LotSize(step=self.lot, min_quantity=self.min_quantity, max_quantity=self.max_quantity)

    def floor_to_lot(self, quantity: Decimal) -> Decimal:
        """The largest multiple of the lot that is at most `quantity`."""
        return decimals.round_to_step(quantity, self.lot, ROUND_FLOOR)

    def require_lot_quantity(self, quantity: Decimal) -> Decimal:
        """`quantity` floored to the lot. Raises VenueRefused when the venue takes no such quantity."""
        fault = self.market_lot.find_fault(quantity)
        if fault is not None:
            raise self._build_refusal(fault)
        return self.floor_to_lot(quantity)

    def round_limit_price(self, price: Decimal, *, is_buy: bool) -> Decimal:
        """`price` on the tick, on the safe side of it: a buy pays no more, a sale gets no less.

        Raises VenueRefused for a buy below the first tick.
        """
        limit = decimals.round_to_step(price, self.tick, ROUND_FLOOR if is_buy else ROUND_CEILING)
        if limit <= 0:
            raise self._build_refusal(
                f"price {decimals.format_plain(price)} is below the tick of {decimals.format_plain(self.tick)}"
            )
        return limit

    def _build_refusal(self, reason: str) -> OrderRejected:
        return OrderRejected(f"{self.symbol}: {reason}", "filter")


class OrderRequest(Frozen):
    """An order. `quantity` is in the base asset; it is floored to the lot, never rounded up.

    `reduce_only` is about the account's net position in the symbol, the only one that the venue knows: it cuts such an
    order to the net, and refuses it when there is nothing to reduce.
    `leverage` is set and read back before an order that is not reduce-only; it is the account's for the symbol, and
    None leaves it as it is (what an exit wants, which must not fail over it). So does `margin_mode`, before leverage.
    `send_by` is the monotonic second after which an entry is not sent any more: its price was judged too long ago.
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
        """Whether it may open a position; an exit beside others' positions is no reduction of the account either."""
        return self.leverage is not None and not self.reduce_only


class OrderStatus(StrEnum):
    """FILLED: ended with a fill; REJECTED: ended without any (refused, cancelled or expired); OPEN: not ended."""

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


class Protection(Frozen):
    """The stop-loss and take-profit wanted for `quantity` of a position on `side`; at least one of them.

    Each becomes an order of its own that closes at the market when the last price reaches it. Neither cancels the
    other: whoever finds one filled cancels the other. `reduce_only` as in OrderRequest. Prices go to the tick nearer to
    the market, so that neither acts later than was asked.
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


class OrderKind(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    OTHER = "other"


class OpenOrder(Frozen):
    """An order that waits at the venue. `price` is its limit or its trigger; `quantity` is in the base asset, and 0
    where it stands for the whole position."""

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
    """What the account holds of one symbol, net of all strategies; `quantity` in the base asset, always positive.

    `changed_ms` is when the venue last changed it, 0 where it does not tell; `liquidation_price` is None where it tells
    none.
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
    """The account's dollars in all coins that count as such: its wallet without unrealised profit, and the most that is
    free to trade with in one of them."""

    wallet_usd: Decimal
    available_usd: Decimal


class Quotes(Protocol):
    """Where prices and instruments come from."""

    def fetch_quote(self, symbol: str) -> Quote:
        """Raises StrategyFault for an unknown symbol and UpstreamUnavailable when the venue cannot say."""
        ...

    def fetch_ticker(self, symbol: str) -> Ticker:
        """The last price, also of a market that nobody quotes. Raises as `fetch_quote` does."""
        ...

    def fetch_order_book(self, symbol: str) -> OrderBook:
        """The book alone, in one request; a side may be empty. Raises as `fetch_quote` does."""
        ...

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        """The book with the venue's clock and mark price, as far as it offers them: what an entry is judged by and
        priced at. Raises as `fetch_quote` does."""
        ...

    def fetch_instrument(self, symbol: str) -> Instrument:
        """Raises as `fetch_quote` does."""
        ...

    def refresh_instrument(self, symbol: str) -> Instrument:
        """By a list that is read again first, unless it was a few seconds ago; by the old one where it cannot be read.
        Raises as `fetch_quote` does."""
        ...


class Venue(Quotes, Protocol):
    """Where orders are executed, on paper or for real.

    Unless said otherwise a method raises VenueRefused (understood and declined, see its `kind`), UpstreamUnavailable
    (surely nothing was accepted; later, perhaps, after `retry_after_s`), OutcomeUnknown (ask `find_order`
    before anything else), StrategyFault (unknown symbol) and CredentialsRefused (this account's keys; other accounts
    are served on).
    """

    def prepare_entry(self, entry: OrderRequest, *, is_flat: bool = False) -> bool:
        """Gives the symbol the margin mode and the leverage of `entry`, which is not sent.

        Whether the venue had to be asked: its prices may be others by now. Where the symbol `is_flat`, a margin mode
        that was read before is not believed.
        """
        ...

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        """Takes what the market gives, at once."""
        ...

    def place_limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        """Fills at once at `limit_price` or better and never rests: what does not fill is cancelled.

        VenueRefused ``not_marketable`` when nothing could be filled; FILLED may be less than was asked for.
        """
        ...

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that id, or None when the venue knows none. Raises as `fetch_quote` does."""
        ...

    def place_protection(self, protection: Protection, *, again: bool = False) -> tuple[OrderResult, ...]:
        """Places the stop-loss and the take-profit, or neither; returns them, stop-loss first.

        An unknown outcome is asked about and only then sent again, so OutcomeUnknown means that the venue cannot be
        asked either: then `cancel_order` both ids before the position is undone. VenueRefused ``would_trigger`` when
        the market is already beyond a price. With `again` (after a crash, say) orders that the venue has under these
        ids are returned as they are, also when they have filled by now, and only missing ones are placed. On paper: ().
        """
        ...

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """Makes sure that no such order is open; returns how it ended (FILLED: it was too late), None if there never
        was one. May be repeated: never raises OutcomeUnknown or, for an order that is gone, VenueRefused."""
        ...


class LiveVenue(Venue, AccountRecord, Protocol):
    """A real account, which has a record of its own to compare the books with. Raises as `fetch_quote` does, and
    CredentialsRefused."""

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        """Oldest first. Asking for all symbols at once weighs as much as 40 single ones on Aster."""
        ...

    def fetch_positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        """What is held now, without empty positions; of one symbol, at the same weight, or of all."""
        ...

    def fetch_balance(self) -> Balance: ...

    def fetch_margin_mode(self, symbol: str) -> MarginMode | None:
        """The symbol's margin mode now; None where the venue does not tell."""
        ...

    def fetch_setup(self) -> AccountSetup:
        """How the account is set up there. Raises nothing: what cannot be read is not known."""
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


def build_client_order_id(signal_id: UUID | str, letter: str = "o") -> str:
    """The order id of a signal: the same signal and leg (one letter) always give the same 35 characters.

    A signal id that is no UUID is hashed, since venues allow 36 characters of a small alphabet.
    """
    try:
        name = UUID(str(signal_id)).hex
    except ValueError:
        name = hashlib.sha256(str(signal_id).encode()).hexdigest()[:32]
    return f"s{letter}-{name}"
