"""Observes books and venue for one symbol of one account, and executes an adoption plan."""

from collections.abc import Sequence
from typing import Any, Final

from cli.reconcile.adoption_plan import ZERO, AccountSymbol, AdoptionPlan, Observation, protective_order_ids
from cli.run import process_plan
from engine.admin import adoption
from engine.admin.adoption import Exit, Opening, Source
from engine.domain.errors import StrategyFault
from engine.domain.positions import Position, Side
from engine.platform.errors import ConfigurationError, DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.platform.settings.settings import Settings
from engine.store.adoption import NamedPosition
from engine.store.store import Store
from engine.venues.account_record import AccountTrade, convert_fees_to_usd
from engine.venues.account_state import VenuePosition
from engine.venues.orders import OrderResult
from engine.venues.venue import LiveVenue

DAY_MS: Final = 86_400_000
RECORD_DAYS: Final = 7  # of trades that are read at least; more if a position is older
MAX_DAYS: Final = 30  # because each week is one request


def open_account(settings: Settings, store: Store, place: AccountSymbol) -> LiveVenue:
    """The person's account. Raises ConfigurationError for keys that are missing or cannot be decrypted."""
    from webhook_server.venue_registry import VenueRegistry

    credentials = store.get_venue_credentials(place.user_id, place.exchange)
    if credentials is None or not (credentials.api_key or credentials.private_key):
        whose = "" if place.email is None else f" --user {place.email}"
        raise ConfigurationError(
            f"{place.person} has no keys for {place.exchange}, which alone can say what it holds: "
            f"`sparky credentials set {place.exchange}{whose}` stores them."
        )
    return VenueRegistry(process_plan.resolve_endpoints(settings)).live(place.exchange, credentials)


def observe(store: Store, account: LiveVenue, place: AccountSymbol) -> Observation:
    """Reads the books, then the venue. Raises SparkyError if either cannot be read."""
    books = store.get_symbol_books(place.user_id, place.exchange, place.symbol)
    for each in books.held:
        if not isinstance(each.side, Side) or not (each.quantity.is_finite() and each.quantity > 0):
            raise SparkyError(
                f"Position {each.id} in {place.symbol} cannot be read: mend its row in `positions` first."
            )
    try:
        held = account.fetch_positions()
        seen = _add_venue_state(account, Observation(place=place, books=books, position=_find_position(held, place)))
        return _add_foreign_trades(store, account, seen)
    except UpstreamUnavailable as error:
        if isinstance(error, DatabaseUnavailable):
            raise
        raise SparkyError(f"{place.exchange} cannot be asked now, so that nothing was changed: {error}") from error


def execute_adoption(store: Store, account: LiveVenue, seen: Observation, plan: AdoptionPlan) -> tuple[str, ...]:
    """Cancels the protective orders of positions that end, books everything in one transaction, then replaces the
    protective orders of positions whose size has changed. Returns an error message for each that failed.

    May be killed at any point: orders are found again by client order id, and booking is atomic. Raises SparkyError if
    a signal is being executed, one of the orders fills meanwhile, or the books have changed.
    """
    from webhook_server.execution.position_protection import is_unbooked_exit

    place = seen.place
    if seen.books.is_under_way:  # before anything is cancelled; the database asks again
        raise SparkyError(f"A signal in {place.symbol} is being executed: try again in a minute.")
    held = {name: each for each in seen.books.held for _, name in protective_order_ids(each)}
    for name in plan.cancels if seen.is_listed else ():
        if is_unbooked_exit(account.cancel_order(place.symbol, name), held[name]):
            raise SparkyError(f"Protective order {name} has filled meanwhile, and nothing was booked: look again.")
    exits = [_booking_row(line) | {"position_id": str(line.position.id)} for line in plan.exits]
    opening = None if plan.opening is None else _booking_row(plan.opening) | _opening_fields(plan.opening)
    note = None if plan.outside == plan.noted else (plan.noted, plan.outside)
    store.adopt_difference(
        place.user_id, place.exchange, place.symbol, seen.quantities, exits, opening, seen.record_mark, note
    )
    after = store.get_symbol_books(place.user_id, place.exchange, place.symbol).held
    resized = [each for each in after if seen.quantities.get(str(each.id)) not in {None, each.quantity}]
    return tuple(failure for each in resized for failure in _replace_protection(account, each))


def _replace_protection(account: LiveVenue, position: Position) -> list[str]:
    """Replaces the protective orders of a position, but not those that have filled. Returns error messages."""
    from webhook_server.background.protection_orders import get_order_id
    from webhook_server.execution.position_protection import build_protection, is_unbooked_exit, split_protection

    failures = []
    wanted = split_protection(build_protection(position, position.quantity)) if protective_order_ids(position) else ()
    for half in wanted:
        try:
            if not is_unbooked_exit(account.cancel_order(position.symbol, get_order_id(half)), position):
                account.place_protection(half)
        except SparkyError as error:
            failures.append(f"{get_order_id(half)} could not be placed anew: {error}")
    return failures


def _add_venue_state(account: LiveVenue, seen: Observation) -> Observation:
    """Adds lot, last price and filled protective orders; not `is_listed` if the venue does not know the symbol."""
    try:
        lot = account.fetch_instrument(seen.place.symbol).lot
        ticker = account.fetch_ticker(seen.place.symbol)
        return seen.model_copy(
            update={
                "lot": lot,
                "last_price": ticker.last,
                "at_ms": ticker.at_ms,
                "fired": _find_triggered_exits(account, seen),
            }
        )
    except StrategyFault:
        return seen.model_copy(update={"is_listed": False, "record_trouble": "the venue does not list it any more"})


def _find_triggered_exits(account: LiveVenue, seen: Observation) -> tuple[Exit, ...]:
    """Exits by protective orders that have not been booked."""
    wanted = [
        (position, reason, name) for position in seen.books.held for reason, name in protective_order_ids(position)
    ]
    orders = [(*each, _find_filled_order(account, each[0], each[2])) for each in wanted]
    return tuple(_build_exit(position, reason, name, order) for position, reason, name, order in orders if order)


def _find_filled_order(account: LiveVenue, position: Position, name: str) -> OrderResult | None:
    from webhook_server.execution.position_protection import is_unbooked_exit

    order = account.find_order(position.symbol, name)
    return order if order is not None and order.quantity > 0 and is_unbooked_exit(order, position) else None


def _build_exit(position: NamedPosition, reason: str, name: str, order: OrderResult) -> Exit:
    return Exit(
        position=position,
        quantity=min(order.quantity, position.quantity),
        price=order.price,
        fee_usd=order.fee_usd,
        source=Source.ORDER,
        exit_reason=reason,
        order_id=order.order_id,
        client_order_id=name,
        at_ms=order.at_ms,
    )


def _add_foreign_trades(store: Store, account: LiveVenue, seen: Observation) -> Observation:
    """Adds the account's trades that are not booked, without those before the last adoption."""
    place, trouble = seen.place, seen.record_trouble
    trades: tuple[AccountTrade, ...] = ()
    if seen.at_ms is not None:
        try:
            trades = account.fetch_trades(place.symbol, since_ms=_record_start_ms(seen, seen.at_ms))
        except UpstreamUnavailable as error:
            trouble = str(error)
    names = {each.order_id for each in trades} | {each.order_id for each in seen.fired if each.order_id}
    known = store.find_booked_orders(place.user_id, place.exchange, place.symbol, sorted(names))
    unseen = {each.position.id: each for each in reversed(seen.fired) if each.order_id not in known}
    ours = {each.order_id for each in unseen.values()}
    unknown = {each.order_id for each in adoption.find_unbooked_trades(trades, known)} - ours
    priced = convert_fees_to_usd(trades, account.convert_to_usd, unknown)
    foreign = tuple(each for each in adoption.find_unbooked_trades(priced, known) if each.order_id not in ours)
    last_trade_id = max((each.trade_id for each in trades), default=None)
    found = {"fired": tuple(unseen.values()), "foreign": foreign, "last_trade_id": last_trade_id}
    return seen.model_copy(update=found | {"record_trouble": trouble})


def _record_start_ms(seen: Observation, now_ms: int) -> int:
    """The time (ms) from which trades are read."""
    first_ms = seen.books.first_ms or now_ms
    return max(now_ms - MAX_DAYS * DAY_MS, min(first_ms, now_ms - RECORD_DAYS * DAY_MS))


def _find_position(held: Sequence[VenuePosition], place: AccountSymbol) -> VenuePosition | None:
    found = [each for each in held if each.symbol == place.symbol]
    if len(found) > 1:
        raise SparkyError(
            f"{place.exchange} holds {place.symbol} on both sides: switch the account to one-way mode, then look again."
        )
    return found[0] if found else None


def _booking_row(line: Exit | Opening) -> dict[str, Any]:
    """A line as the database books it; an unknown fee is 0."""
    if line.price is None:
        raise AssertionError("a line without a price is not booked")
    row: dict[str, Any] = {
        "quantity": f"{line.quantity:f}",
        "price": f"{line.price:f}",
        "fee_usd": f"{line.fee_usd or ZERO:f}",
        "order_id": line.order_id,
        "market_time_ms": line.at_ms,
    }
    if isinstance(line, Exit):
        row |= {"exit_reason": line.exit_reason, "client_order_id": line.client_order_id}
    return row


def _opening_fields(line: Opening) -> dict[str, Any]:
    strategy = {} if line.strategy_id is None else {"strategy_id": str(line.strategy_id)}
    return {"side": line.side.value, "leverage": line.leverage} | strategy
