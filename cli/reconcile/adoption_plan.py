"""Plans which bookings bring the books to a venue's state. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from engine.admin import adoption
from engine.admin.adoption import Exit, Opening, Pricing, Source
from engine.domain.positions import Position, Side
from engine.platform.values import Frozen
from engine.store.adoption import NamedPosition, SymbolBooks
from engine.store.venue_record import sum_net_quantity
from engine.venues.account_record import AccountTrade
from engine.venues.account_state import VenuePosition

ZERO: Final = Decimal(0)


class AccountSymbol(Frozen):
    """One symbol of one person's account."""

    user_id: UUID
    email: str | None
    exchange: str
    symbol: str

    @property
    def person(self) -> str:
        return self.email or str(self.user_id)


class AdoptionOptions(Frozen):
    """Options of the command; `strategy_id` is the strategy of a position that is opened.

    `named` are the options that name the account and `given` the others, as command-line words. `takes_note` also books
    what was noted as held outside Sparky.
    """

    price: Decimal | None = None
    fee_usd: Decimal | None = None
    strategy_id: UUID | None = None
    strategy_name: str | None = None
    takes_note: bool = False
    named: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


class Observation(Frozen):
    """Books and venue at one time, the books read first.

    `unbooked_trades` are the account's trades that are not booked, oldest first; `record_trouble` is the reason if they
    cannot be read. `fired` are exits by protective orders that are not booked. `is_listed` is False if the venue has
    delisted the symbol.
    """

    account_symbol: AccountSymbol
    books: SymbolBooks
    position: VenuePosition | None
    fired: tuple[Exit, ...] = ()
    unbooked_trades: tuple[AccountTrade, ...] = ()
    record_trouble: str | None = None
    last_price: Decimal | None = None
    at_ms: int | None = None
    last_trade_id: int | None = None
    lot: Decimal | None = None
    is_listed: bool = True

    @property
    def venue_net(self) -> Decimal:
        return ZERO if self.position is None else self.position.net

    @property
    def books_net(self) -> Decimal:
        return sum_net_quantity(self.books.held)

    @property
    def difference(self) -> Decimal:
        """The venue's net quantity beyond the books, without what the person holds outside Sparky."""
        return self.venue_net - self.books.outside - self.books_net

    @property
    def unbooked_net(self) -> Decimal:
        """The venue's net quantity beyond the books, which --outside would note as held outside Sparky."""
        return self.venue_net - self.books_net

    @property
    def can_be_noted(self) -> bool:
        return adoption.can_be_noted(self.unbooked_net, self.venue_net, self.books.outside)

    @property
    def is_unknown(self) -> bool:
        """Whether neither the venue nor the books know the symbol."""
        books = self.books
        is_empty = not books.held and books.outside == 0 and books.difference is None
        return not self.is_listed and self.venue_net == 0 and is_empty

    @property
    def record_mark(self) -> dict[str, int | None]:
        """The last trade and the time (ms) up to which the account's record was read."""
        return {"last_trade_id": self.last_trade_id, "at_ms": self.at_ms}

    @property
    def quantities(self) -> dict[str, Decimal]:
        return {str(position.id): position.quantity for position in self.books.held}

    def is_same_as(self, other: "Observation") -> bool:
        """Whether books and venue hold the same as in `other`."""
        here = (self.quantities, self.venue_net, self.books.outside, [line.order_id for line in self.fired])
        return here == (other.quantities, other.venue_net, other.books.outside, [line.order_id for line in other.fired])


class AdoptionPlan(Frozen):
    """The bookings, and the protective orders (client order ids) that are cancelled at the venue before.

    `noted` is the quantity noted as held outside Sparky before, `outside` after the adoption.
    """

    exits: tuple[Exit, ...] = ()
    opening: Opening | None = None
    cancels: tuple[str, ...] = ()
    noted: Decimal = ZERO
    outside: Decimal = ZERO

    @property
    def has_bookings(self) -> bool:
        return bool(self.exits) or self.opening is not None

    @property
    def is_empty(self) -> bool:
        return not self.has_bookings and self.outside == self.noted

    @property
    def lacks_price(self) -> bool:
        return any(line.price is None for line in (*self.exits, self.opening) if line is not None)


def plan_adoption(observation: Observation, options: AdoptionOptions) -> AdoptionPlan:
    """The plan that brings the books of `observation` to the venue's state."""
    held = _apply_exits(observation.books.held, observation.fired)
    noted = observation.books.outside
    outside = ZERO if options.takes_note else adoption.note_beside(sum_net_quantity(held), observation.venue_net, noted)
    net = observation.venue_net - outside
    change = adoption.plan_change(held, net, observation.lot, options.strategy_id)
    record = adoption.price_trades(
        adoption.find_explaining_trades(observation.unbooked_trades, net - sum_net_quantity(held))
    )
    exit_pricing = _choose_pricing(record, observation.last_price, Source.LAST_PRICE, observation.at_ms, options)
    entry = (
        observation.position.entry_price
        if observation.position is not None and observation.position.entry_price > 0
        else None
    )
    open_pricing = _choose_pricing(record, entry, Source.ENTRY_PRICE, observation.at_ms, options)
    fees = adoption.split_fee(
        options.fee_usd if options.fee_usd is not None or record is None else record.fee_usd,
        [*(part for _, part in change.exits), *([abs(change.opened)] if change.opened else [])],
    )
    exits = tuple(
        Exit(position=position, quantity=part, fee_usd=fee, **_build_pricing_fields(exit_pricing))
        for (position, part), fee in zip(change.exits, fees, strict=False)
    )
    opening = None
    if change.opened != 0:
        opening = Opening(
            side=Side.LONG if change.opened > 0 else Side.SHORT,
            quantity=abs(change.opened),
            strategy_id=options.strategy_id,
            leverage=(observation.position and observation.position.leverage) or 1,
            fee_usd=fees[-1],
            **_build_pricing_fields(open_pricing),
        )
    return AdoptionPlan(
        exits=(*observation.fired, *exits),
        opening=opening,
        cancels=_list_orders_to_cancel(observation, (*observation.fired, *exits)),
        noted=noted,
        outside=outside,
    )


def _apply_exits(held: Sequence[NamedPosition], fired: Sequence[Exit]) -> list[NamedPosition]:
    """The positions that are left when the exits in `fired` are booked."""
    exited = {line.position.id: line.quantity for line in fired}
    remaining = [
        position.model_copy(update={"quantity": position.quantity - exited.get(position.id, ZERO)}) for position in held
    ]
    return [position for position in remaining if position.quantity > 0]


def _choose_pricing(
    record: Pricing | None, price: Decimal | None, source: Source, at_ms: int | None, options: AdoptionOptions
) -> Pricing | None:
    """The price in `options`, else that of the record, else the venue's `price`; None without any of them."""
    if options.price is not None:
        base = record or Pricing(source=Source.GIVEN, price=options.price, at_ms=at_ms)
        return base.model_copy(update={"source": Source.GIVEN, "price": options.price})
    return record or (None if price is None else Pricing(source=source, price=price, at_ms=at_ms))


def _build_pricing_fields(pricing: Pricing | None) -> dict[str, Any]:
    if pricing is None:
        return {"price": None, "source": None}
    return pricing.model_dump(include={"price", "source", "order_id", "at_ms"})


def _list_orders_to_cancel(observation: Observation, exits: Sequence[Exit]) -> tuple[str, ...]:
    """The protective orders of positions that end, without those that have filled."""
    filled = {line.client_order_id for line in observation.fired}
    open_ids = {position.id for position in _apply_exits(observation.books.held, _merge_exits(exits))}
    names = [
        name
        for position in observation.books.held
        if position.id not in open_ids
        for _, name in list_protective_orders(position)
    ]
    return tuple(name for name in names if name not in filled)


def _merge_exits(exits: Sequence[Exit]) -> list[Exit]:
    """One exit for each position, with the sum of the quantities."""
    whole: dict[UUID, Exit] = {}
    for line in exits:
        before = whole.get(line.position.id)
        more = ZERO if before is None else before.quantity
        whole[line.position.id] = line.model_copy(update={"quantity": line.quantity + more})
    return list(whole.values())


def list_protective_orders(position: Position) -> list[tuple[str, str]]:
    """Exit reason and client order id of each order that protects it."""
    ids = (("stop_loss", position.stop_loss_client_order_id), ("take_profit", position.take_profit_client_order_id))
    return [(reason, name) for reason, name in ids if name is not None]
