"""No live position stays unprotected that asked for protection: looks at the venue for it, and places what is missing.

Orders can be missing because the venue dropped them, somebody cancelled them there, an entry could not be undone, or an
exit failed half way. They are restored as reductions of what the books hold, while nothing of it is under way: also
where books and venue differ, since a reduction ends at zero.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.domain.errors import OrderContradictory, OrderIdTaken
from engine.domain.positions import Position, Side
from engine.platform.errors import ConfigurationError, DatabaseUnavailable, SparkyError, UpstreamUnavailable
from engine.risk.order_sizes import protected_quantity
from engine.risk.protection_gaps import describe_too_small, fetch_net, find_protection_gap
from engine.store.store import Store
from engine.venues.account_state import OpenOrder
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.instrument import Instrument
from engine.venues.orders import OrderResult, OrderStatus, Protection
from engine.venues.venue import LiveVenue
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.execution.executor import OrderExecutor
from webhook_server.execution.position_protection import (
    STOP_LOSS_REASON,
    TAKE_PROFIT_REASON,
    build_protection,
    fetch_unlisted_orders,
    fired_reason_among,
    is_unbooked_exit,
    protective_order_ids,
    split_protection,
    to_placed_protection,
    with_new_ids,
)
from webhook_server.locks import LockTimeout
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.open_order_cache import OpenOrderCache, find_listed_instrument
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()
NOT_LEASE_HOLDER: Final = "not restored, since another server executes"
SYMBOL_LOCK_TIMEOUT_S: Final = 2.0  # that placing an order waits for others' trades in its symbol


@dataclass(frozen=True)
class ProtectionState:
    """What a look found: an order that has `fired` (its exit reason), or why protection is `missing`."""

    fired: str | None = None
    missing: str | None = None


class ProtectionWatchdog:
    """`may_send` says, as late as possible, whether this server is still the one that executes."""

    def __init__(
        self,
        store: Store,
        venues: Venues,
        executor: OrderExecutor,
        exits: ProtectiveExits,
        metrics: Metrics,
        may_send: Callable[[], bool],
    ) -> None:
        self._store = store
        self._venues = venues
        self._executor = executor
        self._exits = exits
        self._metrics = metrics
        self._may_send = may_send
        self._known: dict[UUID, str] = {}
        self._taken_ids: set[str] = set()  # client order ids that a venue took no second order under
        self._unavailable = UnavailableAccounts()
        self._open_orders = OpenOrderCache(())

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> None:
        """Looks at every live position that asked for protection, while it `goes_on`. Raises UpstreamUnavailable for
        the database only.

        Accounts for which their venue did not answer the last time come last, since they may cover others.
        """
        missing_by_id: dict[UUID, str] = {}
        unavailable = UnavailableAccounts()
        held = [each for each in self._store.list_open_positions() if not each.is_paper]
        self._open_orders = OpenOrderCache(held)
        for position in sorted(held, key=self._was_unavailable):
            if (position.stop_loss_price or position.take_profit_price) is None:
                continue
            is_reachable = should_continue() and not unavailable.should_skip(position.user_id, position.exchange)
            state = self._check_position(position, unavailable) if is_reachable else self._previous_state(position)
            if state.fired is not None:
                self._exits.exit(position, state.fired)
            elif state.missing is not None:
                missing_by_id[position.id] = state.missing
        self._unavailable = unavailable
        self._log_changes(missing_by_id)

    def _was_unavailable(self, position: Position) -> bool:
        return self._unavailable.has(position.user_id, position.exchange)

    def _check_position(self, position: Position, unavailable: UnavailableAccounts) -> ProtectionState:
        """In the strategy's turn, so that no signal trades the position meanwhile; what cannot be seen is as before."""
        try:
            with self._executor.lock_strategy((position.user_id, position.exchange, position.strategy_id), 0.0):
                return self._check_and_restore(position)
        except LockTimeout:
            pass
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if isinstance(error, DatabaseUnavailable):
                    raise
                if not isinstance(error, OrderContradictory):
                    unavailable.add(position.user_id, position.exchange)
            logger.warning("protection_check_failed", position=str(position.id), reason=str(error))
        except Exception:  # one position's fault is in no other's way
            logger.exception("protection_check_failed", position=str(position.id))
        return self._previous_state(position)

    def _previous_state(self, position: Position) -> ProtectionState:
        """A position that the books know no order of has none, whether or not the venue can be asked."""
        nothing_known = "no order protects it" if protective_order_ids(position) == (None, None) else None
        return ProtectionState(missing=self._known.get(position.id, nothing_known))

    def _check_and_restore(self, listed: Position) -> ProtectionState:
        """Places what is missing, when nothing else changes books or orders of the symbol: by what both are then."""
        state = self._check_booked_position(listed, can_place=False)
        if state is not None:
            return state
        with self._executor.lock_symbol((listed.user_id, listed.exchange, listed.symbol), SYMBOL_LOCK_TIMEOUT_S):
            state = self._check_booked_position(listed, can_place=True)
        return ProtectionState() if state is None else state

    def _check_booked_position(self, listed: Position, *, can_place: bool) -> ProtectionState | None:
        """None where something is missing, and is not to be placed now."""
        own = self._store.list_strategy_positions(listed.user_id, listed.exchange, listed.strategy_id, listed.symbol)
        position = next((each for each in own if each.id == listed.id), None)
        if position is None:
            return ProtectionState()
        account = self._open_account(position)
        instrument = find_listed_instrument(account, position.symbol)
        if instrument is None:
            return ProtectionState()  # the venue has settled it, as the reconciliation books
        return self._check_orders(position, account, instrument, can_place=can_place)

    def _check_orders(
        self, position: Position, account: LiveVenue, instrument: Instrument, *, can_place: bool
    ) -> ProtectionState | None:
        with low_priority():
            fired, missing, waiting = self._find_missing(account, position, instrument)
            protectable, gap = (
                protected_quantity(position.quantity, instrument),
                find_protection_gap(account, position, instrument),
            )
            if fired is not None or not missing:
                return ProtectionState(fired=fired, missing=gap)
            if protectable == 0:
                return ProtectionState(missing=describe_too_small(position, instrument))
            obstacle = self._why_not_restored(position)
            if obstacle is not None:
                return ProtectionState(missing=f"not restored, since {obstacle}")
            net = fetch_net(account, position.symbol)
        if net == 0 or (net > 0) is not (position.side is Side.LONG):
            # Others' opposite positions cover it, so no reduction can wait; `MarkToMarket` closes it in time, if it can
            # be.
            return ProtectionState(missing=gap)
        if not can_place:
            return None
        if any(half_order_id(half) in self._taken_ids for half in missing):
            state = self._place_under_new_ids(account, position, protectable)
        else:
            self._book_protection(position, missing)
            state = self._place_missing(account, position, missing, waiting)
        return state if gap is None or state != ProtectionState() else ProtectionState(missing=gap)

    def _find_missing(
        self, account: LiveVenue, position: Position, instrument: Instrument
    ) -> tuple[str | None, list[Protection], dict[str | None, OpenOrder]]:
        """Which of its orders has fired, what of its protection does not wait, and the orders that do. A list that was
        read for another position is read again before anything is believed to be missing."""
        waiting, is_fresh = self._open_orders.get(account, position)
        fired, missing = _compare_orders(account, position, waiting, instrument)
        if missing and fired is None and not is_fresh:
            waiting = self._open_orders.refresh(account, position)
            fired, missing = _compare_orders(account, position, waiting, instrument)
        return fired, missing, waiting

    def _open_account(self, position: Position) -> LiveVenue:
        credentials = self._store.get_venue_credentials(position.user_id, position.exchange)
        if credentials is None:
            raise ConfigurationError("there is a live position and there are no credentials")
        return self._venues.live(position.exchange, credentials)

    def _book_protection(self, position: Position, missing: list[Protection]) -> None:
        """What is about to wait is in the books first, so that an exit will cancel it."""
        if all(half_order_id(half) in protective_order_ids(position) for half in missing):
            return
        whole = build_protection(position, position.quantity)
        self._store.book_protection(
            None, position.user_id, position.id, to_placed_protection(whole), status=None, answer=None
        )

    def _place_under_new_ids(self, account: LiveVenue, position: Position, quantity: Decimal) -> ProtectionState:
        """Places all orders of `position` under other ids. At the look after the one that found an id taken, since a
        venue may have shown an older order of that id rather than the one that waits."""
        if not self._may_send():
            return ProtectionState(missing=NOT_LEASE_HOLDER)
        for reason, name in zip((STOP_LOSS_REASON, TAKE_PROFIT_REASON), protective_order_ids(position), strict=True):
            ended = None if name is None else account.cancel_order(position.symbol, name)
            if is_unbooked_exit(ended, position):
                return ProtectionState(fired=reason)
        wanted = with_new_ids(build_protection(position, quantity))
        self._store.book_protection(
            None, position.user_id, position.id, to_placed_protection(wanted), status=None, answer=None
        )
        self._taken_ids.difference_update(name for name in protective_order_ids(position) if name is not None)
        return self._place_missing(account, position, split_protection(wanted), {})

    def _place_missing(
        self,
        account: LiveVenue,
        position: Position,
        missing: Sequence[Protection],
        waiting: Mapping[str | None, OpenOrder],
    ) -> ProtectionState:
        """Places the missing orders, each for itself, since one is better than none. One that turns out to have filled
        was the exit: nothing more is placed."""
        failures: list[str] = []
        for half in missing:
            if not self._may_send():  # each call may take longer than the lease
                return ProtectionState(missing=NOT_LEASE_HOLDER)
            try:
                if _place_or_find_filled(account, position, half, waiting):
                    return ProtectionState(fired=half_exit_reason(half))
            except SparkyError as error:
                failures.append(str(error))
                if isinstance(error, OrderIdTaken):
                    self._taken_ids.add(half_order_id(half))
        if failures:
            self._metrics.protection_failures.labels("loss").inc()
            return ProtectionState(missing="; ".join(failures))
        self._metrics.protection_restored.inc()
        logger.info("protection_restored", symbol=position.symbol, position=str(position.id))
        return ProtectionState()

    def _why_not_restored(self, position: Position) -> str | None:
        key = (position.user_id, position.exchange, position.strategy_id, position.symbol)
        for row in self._store.list_unfinished_requests():
            if (row.user_id, row.exchange, row.strategy_id, row.symbol) == key and row.is_unsettled:
                return f"what {row.request_id} did is not known yet"
        return None

    def _log_changes(self, missing_by_id: dict[UUID, str]) -> None:
        """Transitions only."""
        for position_id, reason in missing_by_id.items():
            if self._known.get(position_id) != reason:
                logger.error("position_unprotected", position=str(position_id), reason=reason)
        for position_id in self._known.keys() - missing_by_id.keys():
            logger.info("position_protected_or_closed", position=str(position_id))
        self._known = missing_by_id
        self._metrics.unprotected.set(len(missing_by_id))


def _compare_orders(
    account: LiveVenue, position: Position, waiting: dict[str | None, OpenOrder], instrument: Instrument
) -> tuple[str | None, list[Protection]]:
    """Which of its orders has fired, and what of its protection does not wait."""
    known = fetch_unlisted_orders(account, position, waiting)
    quantity = protected_quantity(position.quantity, instrument)
    wanted = split_protection(build_protection(position, quantity or position.quantity))
    # An open one that is not listed is being triggered, or new: another in its place would close what others hold.
    missing = [
        half
        for half in wanted
        if not _is_waiting(half, waiting, instrument) and not _is_open(known.get(half_order_id(half)))
    ]
    return fired_reason_among(position, known), missing


def half_order_id(half: Protection) -> str:
    """The client order id of a protection of one order."""
    return half.stop_loss_id if half.stop_loss_price is not None else half.take_profit_id


def half_exit_reason(half: Protection) -> str:
    """What the trade shows when a protection of one order has filled."""
    return STOP_LOSS_REASON if half.stop_loss_price is not None else TAKE_PROFIT_REASON


def _place_or_find_filled(
    account: LiveVenue, position: Position, half: Protection, waiting: Mapping[str | None, OpenOrder]
) -> bool:
    """Places `half`, for an order that waits under its name for another quantity; unless one has filled meanwhile.

    Raises OrderIdTaken too where the venue has another order of that id, which has filled and is in the books.
    """
    if half_order_id(half) in waiting:
        ended = account.cancel_order(half.symbol, half_order_id(half))
        if ended is not None and ended.status is OrderStatus.FILLED:
            return True
    placed = [order for order in account.place_protection(half) if order.status is OrderStatus.FILLED]
    if placed and not any(is_unbooked_exit(order, position) for order in placed):
        raise OrderIdTaken(
            f"the venue takes no second order under the id {half_order_id(half)}, whose order has filled"
        )
    return bool(placed)


def _is_open(order: OrderResult | None) -> bool:
    return order is not None and order.status is OrderStatus.OPEN


def _is_waiting(half: Protection, waiting: dict[str | None, OpenOrder], instrument: Instrument) -> bool:
    """Whether its order is open, as a reduction of just what one order can be for (0 stands for all that is held). One
    that was placed before the sizes of orders changed is as good."""
    order = waiting.get(half_order_id(half))
    if order is None or not order.reduce_only:
        return False
    return order.quantity in (0, half.quantity) or protected_quantity(order.quantity, instrument) == half.quantity
