"""Protocols of venues: quotes, execution on paper or live, and the account behind live execution."""

from decimal import Decimal
from typing import Protocol

from pydantic import SecretStr

from engine.domain.positions import MarginMode
from engine.venues.account_record import AccountRecord
from engine.venues.account_setup import AccountSetup
from engine.venues.account_state import Balance, OpenOrder, VenuePosition
from engine.venues.instrument import Instrument
from engine.venues.order_book import BOOK_LEVELS, OrderBook
from engine.venues.orders import OrderRequest, OrderResult, Protection
from engine.venues.quotes import Quote, Ticker


class Quotes(Protocol):
    """Prices and instruments of one venue."""

    def fetch_quote(self, symbol: str) -> Quote:
        """Raises StrategyFault for an unknown symbol and UpstreamUnavailable when the venue cannot answer."""
        ...

    def fetch_ticker(self, symbol: str) -> Ticker:
        """The last price, also of a market without bid and ask. Raises as `fetch_quote` does."""
        ...

    def fetch_order_book(self, symbol: str) -> OrderBook:
        """The book alone, in one request; a side may be empty. Raises as `fetch_quote` does."""
        ...

    def fetch_entry_book(self, symbol: str, levels: int = BOOK_LEVELS) -> OrderBook:
        """The book with the venue's clock and mark price, as far as it publishes them, to check and price an
        entry. Raises as `fetch_quote` does."""
        ...

    def fetch_instrument(self, symbol: str) -> Instrument:
        """Raises as `fetch_quote` does."""
        ...

    def refresh_instrument(self, symbol: str) -> Instrument:
        """As `fetch_instrument`, after the list was read again, unless that was a few seconds ago; a failed reading
        leaves the old list. Raises as `fetch_quote` does."""
        ...


class Venue(Quotes, Protocol):
    """Executes orders, on paper or live.

    Unless said otherwise a method raises OrderRejected (the venue declined, see its `kind`), UpstreamUnavailable
    (nothing was accepted; may be repeated after `retry_after_s`), OrderOutcomeUnknown (call `find_order` before
    anything else), StrategyFault (unknown symbol) and CredentialsError (the keys of this account only).
    """

    def prepare_entry(self, entry: OrderRequest, *, is_flat: bool = False) -> bool:
        """Sets the symbol's margin mode and leverage to those of `entry`, without sending it.

        True if that needed requests, so that prices may have changed meanwhile. With `is_flat` (the symbol has no
        position) a cached margin mode is not used, because it can be changed while nothing is held.
        """
        ...

    def place_market_order(self, order: OrderRequest) -> OrderResult:
        """Fills at once at the market's price."""
        ...

    def place_limit_order(self, order: OrderRequest, limit_price: Decimal) -> OrderResult:
        """Immediate or cancel, at `limit_price` or better; FILLED may be less than requested.

        Raises OrderRejected ``not_marketable`` when nothing could be filled.
        """
        ...

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """The newest order with that id, or None when the venue has none. Raises as `fetch_quote` does."""
        ...

    def place_protection(self, protection: Protection, *, reuse_existing: bool = False) -> tuple[OrderResult, ...]:
        """Places the stop-loss and the take-profit, or neither; returns them, stop-loss first. On paper: ().

        After an unknown outcome the venue is queried before anything is sent again. OrderOutcomeUnknown means that the
        query failed too: then `cancel_order` both ids before the position is undone. OrderRejected ``would_trigger``
        when the market is already beyond a price. With `reuse_existing` (say, after a crash) orders that the venue
        already has under these ids are returned as they are, also filled ones, and only missing ones are placed.
        """
        ...

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:
        """Ensures that no such order is open; returns how it ended (FILLED: too late), None if there never was one.

        Idempotent: raises neither OrderOutcomeUnknown nor, for an order that is gone, OrderRejected."""
        ...


class LiveVenue(Venue, AccountRecord, Protocol):
    """A live account, with the venue's record to compare the books with. Raises as `fetch_quote` does, and
    CredentialsError."""

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        """Oldest first. At Aster one request for all symbols weighs as much as 40 for single ones."""
        ...

    def fetch_positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        """Open positions of one symbol or of all; both have the same request weight."""
        ...

    def fetch_balance(self) -> Balance: ...

    def fetch_margin_mode(self, symbol: str) -> MarginMode | None:
        """The symbol's margin mode now; None where the venue does not publish it."""
        ...

    def fetch_setup(self) -> AccountSetup:
        """How the account is set up. Raises nothing: what cannot be read is unknown."""
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
