"""Observes books and venue for one symbol of one account, and executes an adoption plan."""

from collections.abc import Sequence
from typing import Any, Final

from cli.reconcile.adoption_plan import ZERO, AccountSymbol, AdoptionPlan, Observation, list_protective_orders
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


def open_account(settings: Settings, store: Store, account_symbol: AccountSymbol) -> LiveVenue:
    """The person's account. Raises ConfigurationError for keys that are missing or cannot be decrypted."""
    from webhook_server.venue_registry import VenueRegistry

    credentials = store.get_venue_credentials(account_symbol.user_id, account_symbol.exchange)
    if credentials is None or not (credentials.api_key or credentials.private_key):
        whose = "" if account_symbol.email is None else f" --user {account_symbol.email}"
        raise ConfigurationError(
            f"{account_symbol.person} has no keys for {account_symbol.exchange}, which alone can say what it holds: "
            f"`sparky credentials set {account_symbol.exchange}{whose}` stores them."
        )
    return VenueRegistry(process_plan.resolve_endpoints(settings)).live(account_symbol.exchange, credentials)


def observe(store: Store, account: LiveVenue, account_symbol: AccountSymbol) -> Observation:
    """Reads the books, then the venue. Raises SparkyError if either cannot be read."""
    books = store.get_symbol_books(account_symbol.user_id, account_symbol.exchange, account_symbol.symbol)
    for position in books.held:
        if not isinstance(position.side, Side) or not (position.quantity.is_finite() and position.quantity > 0):
            raise SparkyError(
                f"Position {position.id} in {account_symbol.symbol} cannot be read: mend its row in `positions` first."
            )
    try:
        held = account.fetch_positions()
        observation = _add_venue_state(
            account,
            Observation(account_symbol=account_symbol, books=books, position=_find_position(held, account_symbol)),
        )
        return _add_unbooked_trades(store, account, observation)
    except UpstreamUnavailable as error:
        if isinstance(error, DatabaseUnavailable):
            raise
        raise SparkyError(
            f"{account_symbol.exchange} cannot be asked now, so that nothing was changed: {error}"
        ) from error


def execute_adoption(store: Store, account: LiveVenue, observation: Observation, plan: AdoptionPlan) -> tuple[str, ...]:
    """Cancels the protective orders of positions that end, books everything in one transaction, then replaces the
    protective orders of positions whose size has changed. Returns an error message for each that failed.

    May be killed at any point: orders are found again by client order id, and booking is atomic. Raises SparkyError if
    a signal is being executed, one of the orders fills meanwhile, or the books have changed.
    """
    from webhook_server.protection.position_protection import is_unbooked_exit

    account_symbol = observation.account_symbol
    if observation.books.is_under_way:  # before anything is cancelled; the database asks again
        raise SparkyError(f"A signal in {account_symbol.symbol} is being executed: try again in a minute.")
    held = {name: position for position in observation.books.held for _, name in list_protective_orders(position)}
    for name in plan.cancels if observation.is_listed else ():
        if is_unbooked_exit(account.cancel_order(account_symbol.symbol, name), held[name]):
            raise SparkyError(f"Protective order {name} has filled meanwhile, and nothing was booked: look again.")
    exits = [_build_booking_row(line) | {"position_id": str(line.position.id)} for line in plan.exits]
    opening = None if plan.opening is None else _build_booking_row(plan.opening) | _build_opening_fields(plan.opening)
    note = None if plan.outside == plan.noted else (plan.noted, plan.outside)
    store.adopt_difference(
        account_symbol.user_id,
        account_symbol.exchange,
        account_symbol.symbol,
        observation.quantities,
        exits,
        opening,
        observation.record_mark,
        note,
    )
    after = store.get_symbol_books(account_symbol.user_id, account_symbol.exchange, account_symbol.symbol).held
    resized = [
        position for position in after if observation.quantities.get(str(position.id)) not in {None, position.quantity}
    ]
    return tuple(failure for position in resized for failure in _replace_protection(account, position))


def _replace_protection(account: LiveVenue, position: Position) -> list[str]:
    """Replaces the protective orders of a position, but not those that have filled. Returns error messages."""
    from webhook_server.protection.position_protection import build_protection, is_unbooked_exit, split_protection
    from webhook_server.protection.protection_orders import get_order_id

    failures = []
    wanted = split_protection(build_protection(position, position.quantity)) if list_protective_orders(position) else ()
    for protection in wanted:
        try:
            if not is_unbooked_exit(account.cancel_order(position.symbol, get_order_id(protection)), position):
                account.place_protection(protection)
        except SparkyError as error:
            failures.append(f"{get_order_id(protection)} could not be placed anew: {error}")
    return failures


def _add_venue_state(account: LiveVenue, observation: Observation) -> Observation:
    """Adds lot, last price and filled protective orders; not `is_listed` if the venue does not know the symbol."""
    try:
        lot = account.fetch_instrument(observation.account_symbol.symbol).lot
        ticker = account.fetch_ticker(observation.account_symbol.symbol)
        return observation.model_copy(
            update={
                "lot": lot,
                "last_price": ticker.last,
                "at_ms": ticker.at_ms,
                "fired": _find_triggered_exits(account, observation),
            }
        )
    except StrategyFault:
        return observation.model_copy(
            update={"is_listed": False, "record_trouble": "the venue does not list it any more"}
        )


def _find_triggered_exits(account: LiveVenue, observation: Observation) -> tuple[Exit, ...]:
    """Exits by protective orders that have not been booked."""
    wanted = [
        (position, reason, name)
        for position in observation.books.held
        for reason, name in list_protective_orders(position)
    ]
    orders = [(*candidate, _find_filled_order(account, candidate[0], candidate[2])) for candidate in wanted]
    return tuple(_build_exit(position, reason, name, order) for position, reason, name, order in orders if order)


def _find_filled_order(account: LiveVenue, position: Position, name: str) -> OrderResult | None:
    from webhook_server.protection.position_protection import is_unbooked_exit

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


def _add_unbooked_trades(store: Store, account: LiveVenue, observation: Observation) -> Observation:
    """Adds the account's trades that are not booked, without those before the last adoption."""
    account_symbol, trouble = observation.account_symbol, observation.record_trouble
    trades: tuple[AccountTrade, ...] = ()
    if observation.at_ms is not None:
        try:
            trades = account.fetch_trades(
                account_symbol.symbol, since_ms=_find_record_start_ms(observation, observation.at_ms)
            )
        except UpstreamUnavailable as error:
            trouble = str(error)
    order_ids = {trade.order_id for trade in trades} | {line.order_id for line in observation.fired if line.order_id}
    booked_ids = store.find_booked_orders(
        account_symbol.user_id, account_symbol.exchange, account_symbol.symbol, sorted(order_ids)
    )
    unbooked_exits = {line.position.id: line for line in reversed(observation.fired) if line.order_id not in booked_ids}
    own_ids = {line.order_id for line in unbooked_exits.values()}
    unbooked_ids = {trade.order_id for trade in adoption.find_unbooked_trades(trades, booked_ids)} - own_ids
    priced = convert_fees_to_usd(trades, account.convert_to_usd, unbooked_ids)
    unbooked_trades = tuple(
        trade for trade in adoption.find_unbooked_trades(priced, booked_ids) if trade.order_id not in own_ids
    )
    last_trade_id = max((trade.trade_id for trade in trades), default=None)
    update = {
        "fired": tuple(unbooked_exits.values()),
        "unbooked_trades": unbooked_trades,
        "last_trade_id": last_trade_id,
    }
    return observation.model_copy(update=update | {"record_trouble": trouble})


def _find_record_start_ms(observation: Observation, now_ms: int) -> int:
    """The time (ms) from which trades are read."""
    first_ms = observation.books.first_ms or now_ms
    return max(now_ms - MAX_DAYS * DAY_MS, min(first_ms, now_ms - RECORD_DAYS * DAY_MS))


def _find_position(held: Sequence[VenuePosition], account_symbol: AccountSymbol) -> VenuePosition | None:
    positions = [position for position in held if position.symbol == account_symbol.symbol]
    if len(positions) > 1:
        raise SparkyError(
            f"{account_symbol.exchange} holds {account_symbol.symbol} on both sides: "
            "switch the account to one-way mode, then look again."
        )
    return positions[0] if positions else None


def _build_booking_row(line: Exit | Opening) -> dict[str, Any]:
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


def _build_opening_fields(line: Opening) -> dict[str, Any]:
    strategy = {} if line.strategy_id is None else {"strategy_id": str(line.strategy_id)}
    return {"side": line.side.value, "leverage": line.leverage} | strategy
