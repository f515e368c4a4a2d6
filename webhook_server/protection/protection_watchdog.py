"""Watches the stop-losses and take-profits of live positions at their venues, and places those that are missing.

Orders can be missing because the venue dropped them, a person cancelled them there, an entry could not be undone, or an
exit failed half way. They are restored as reduce-only orders for the quantity in the books while no request is under
way, also where books and venue differ, since a reduce-only order ends at zero.
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
from engine.risk.exit_quantities import protected_quantity
from engine.risk.protection_gaps import describe_too_small, fetch_net_quantity, find_protection_gap
from engine.store.store import Store
from engine.venues.account_state import OpenOrder
from engine.venues.ccxt_client.request_weight import low_priority
from engine.venues.instrument import Instrument
from engine.venues.orders import Protection
from engine.venues.venue import LiveVenue
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.execution.executor import OrderExecutor
from webhook_server.locks import LockTimeout
from webhook_server.metrics import Metrics
from webhook_server.protection.position_protection import (
    STOP_LOSS_REASON,
    TAKE_PROFIT_REASON,
    build_protection,
    is_unbooked_exit,
    protective_order_ids,
    split_protection,
    to_placed_protection,
    with_new_ids,
)
from webhook_server.protection.protection_orders import (
    compare_orders,
    get_exit_reason,
    get_order_id,
    place_or_find_filled,
)
from webhook_server.reconciliation.open_order_cache import OpenOrderCache, find_listed_instrument
from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()
NOT_LEASE_HOLDER: Final = "not restored, since another server executes"
SYMBOL_LOCK_TIMEOUT_S: Final = 2.0  # while other strategies trade the symbol


@dataclass(frozen=True)
class ProtectionState:
    """`fired` is the exit reason of a protective order that has filled; `missing` says why protection is missing. Both
    are None where all protection waits at the venue."""

    fired: str | None = None
    missing: str | None = None


class ProtectionWatchdog:
    """`may_send` is asked right before each order is placed: whether this server still holds the lease."""

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
        self._missing_by_id: dict[UUID, str] = {}
        self._taken_ids: set[str] = set()  # client order ids under which a venue takes no second order
        self._unavailable = UnavailableAccounts()
        self._open_orders = OpenOrderCache(())

    def run(self, should_continue: Callable[[], bool] = lambda: True) -> None:
        """Checks every live position with a stop-loss or take-profit, until `should_continue` is False.

        Accounts whose venue did not answer the last time come last: each of their timeouts delays the accounts behind.
        Raises UpstreamUnavailable for the database only.
        """
        missing_by_id: dict[UUID, str] = {}
        unavailable = UnavailableAccounts()
        held = [position for position in self._store.list_open_positions() if not position.is_paper]
        self._open_orders = OpenOrderCache(held)
        for position in sorted(held, key=self._was_unavailable):
            if (position.stop_loss_price or position.take_profit_price) is None:
                continue
            is_reachable = should_continue() and not unavailable.should_skip(position.user_id, position.exchange)
            state = self._check_position(position, unavailable) if is_reachable else self._get_previous_state(position)
            if state.fired is not None:
                self._exits.exit(position, state.fired)
            elif state.missing is not None:
                missing_by_id[position.id] = state.missing
        self._unavailable = unavailable
        self._log_changes(missing_by_id)

    def _was_unavailable(self, position: Position) -> bool:
        return self._unavailable.has(position.user_id, position.exchange)

    def _check_position(self, position: Position, unavailable: UnavailableAccounts) -> ProtectionState:
        """Checks under the strategy's lock, so that no signal trades the position meanwhile; without an answer the
        state is the previous one. Does not wait for the lock: a signal that holds it sees to protection itself."""
        try:
            with self._executor.lock_strategy((position.user_id, position.exchange, position.strategy_id), 0.0):
                return self._check_and_restore(position)
        except LockTimeout:
            pass  # checked again in the next round
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if isinstance(error, DatabaseUnavailable):
                    raise
                if not isinstance(error, OrderContradictory):  # then the venue answers, and others can be asked
                    unavailable.add(position.user_id, position.exchange)
            logger.warning("protection_check_failed", position=str(position.id), reason=str(error))
        except Exception:  # a fault in one position must not keep the others from being checked
            logger.exception("protection_check_failed", position=str(position.id))
        return self._get_previous_state(position)

    def _get_previous_state(self, position: Position) -> ProtectionState:
        """The state as of the last check. A position without an order in the books is unprotected, whether or not the
        venue can be asked."""
        without_orders = "no order protects it" if protective_order_ids(position) == (None, None) else None
        return ProtectionState(missing=self._missing_by_id.get(position.id, without_orders))

    def _check_and_restore(self, listed: Position) -> ProtectionState:
        """Checks without the symbol's lock first, since most positions lack nothing; places what is missing under the
        lock, by books and orders read again, so that no other request changes them meanwhile."""
        state = self._check_booked_position(listed, can_place=False)
        if state is not None:
            return state
        with self._executor.lock_symbol((listed.user_id, listed.exchange, listed.symbol), SYMBOL_LOCK_TIMEOUT_S):
            state = self._check_booked_position(listed, can_place=True)
        return ProtectionState() if state is None else state

    def _check_booked_position(self, listed: Position, *, can_place: bool) -> ProtectionState | None:
        """None where an order is missing and may not be placed, as `can_place` is False."""
        own = self._store.list_strategy_positions(listed.user_id, listed.exchange, listed.strategy_id, listed.symbol)
        position = next((position for position in own if position.id == listed.id), None)
        if position is None:
            return ProtectionState()
        account = self._open_account(position)
        instrument = find_listed_instrument(account, position.symbol)
        if instrument is None:
            return ProtectionState()  # delisted: reconciliation books what the venue settles
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
            obstacle = self._find_obstacle(position)
            if obstacle is not None:
                return ProtectionState(missing=f"not restored, since {obstacle}")
            net = fetch_net_quantity(account, position.symbol)
        if net == 0 or (net > 0) is not (position.side is Side.LONG):
            # Opposite positions of other strategies offset it in the account's net, so the venue refuses a reduce-only
            # order; `MarkToMarket` closes the position when the price is reached.
            return ProtectionState(missing=gap)
        if not can_place:
            return None
        if any(get_order_id(protection) in self._taken_ids for protection in missing):
            state = self._place_under_new_ids(account, position, protectable)
        else:
            self._book_protection(position, missing)
            state = self._place_missing(account, position, missing, waiting)
        return state if gap is None or state != ProtectionState() else ProtectionState(missing=gap)

    def _find_missing(
        self, account: LiveVenue, position: Position, instrument: Instrument
    ) -> tuple[str | None, list[Protection], dict[str | None, OpenOrder]]:
        """The exit reason of a filled order, the protection without an order, and the symbol's open orders.

        A cached list may be older than an order, so it is read again before an order counts as missing.
        """
        waiting, is_fresh = self._open_orders.get(account, position)
        fired, missing = compare_orders(account, position, waiting, instrument)
        if missing and fired is None and not is_fresh:
            waiting = self._open_orders.refresh(account, position)
            fired, missing = compare_orders(account, position, waiting, instrument)
        return fired, missing, waiting

    def _open_account(self, position: Position) -> LiveVenue:
        credentials = self._store.get_venue_credentials(position.user_id, position.exchange)
        if credentials is None:
            raise ConfigurationError("there is a live position and there are no credentials")
        return self._venues.live(position.exchange, credentials)

    def _book_protection(self, position: Position, missing: list[Protection]) -> None:
        """Books the order ids before the orders are placed, so that an exit cancels them even after a crash."""
        if all(get_order_id(protection) in protective_order_ids(position) for protection in missing):
            return
        whole = build_protection(position, position.quantity)
        self._store.book_protection(
            None, position.user_id, position.id, to_placed_protection(whole), status=None, answer=None
        )

    def _place_under_new_ids(self, account: LiveVenue, position: Position, quantity: Decimal) -> ProtectionState:
        """Cancels the orders of `position` and places all of them under new ids.

        Called at the check after the one that found an id taken: the venue may have shown an older order of that id
        although the newer one waits.
        """
        if not self._may_send():
            return ProtectionState(missing=NOT_LEASE_HOLDER)
        for reason, name in zip((STOP_LOSS_REASON, TAKE_PROFIT_REASON), protective_order_ids(position), strict=True):
            cancelled = None if name is None else account.cancel_order(position.symbol, name)
            if is_unbooked_exit(cancelled, position):
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
        """Places the missing orders one by one: a failure of one leaves the other, which is better than none. An order
        that turns out to have filled was the exit, so nothing more is placed."""
        failures: list[str] = []
        for protection in missing:
            if not self._may_send():  # each call may take longer than the lease
                return ProtectionState(missing=NOT_LEASE_HOLDER)
            try:
                if place_or_find_filled(account, position, protection, waiting):
                    return ProtectionState(fired=get_exit_reason(protection))
            except SparkyError as error:
                failures.append(str(error))
                if isinstance(error, OrderIdTaken):
                    self._taken_ids.add(get_order_id(protection))
        if failures:
            self._metrics.protection_failures.labels("loss").inc()
            return ProtectionState(missing="; ".join(failures))
        self._metrics.protection_replaced.inc()
        # A warning although it is repaired: no line before it says that the order was missing at the venue.
        logger.warning("protection_replaced", symbol=position.symbol, position=str(position.id))
        return ProtectionState()

    def _find_obstacle(self, position: Position) -> str | None:
        key = (position.user_id, position.exchange, position.strategy_id, position.symbol)
        for row in self._store.list_unfinished_requests():
            if (row.user_id, row.exchange, row.strategy_id, row.symbol) == key and row.is_unsettled:
                return f"what {row.request_id} did is not known yet"
        return None

    def _log_changes(self, missing_by_id: dict[UUID, str]) -> None:
        """Logs transitions only."""
        for position_id, reason in missing_by_id.items():
            if self._missing_by_id.get(position_id) != reason:
                logger.error("position_unprotected", position=str(position_id), reason=reason)
        for position_id in self._missing_by_id.keys() - missing_by_id.keys():
            logger.info("position_protected_or_closed", position=str(position_id))
        self._missing_by_id = missing_by_id
        self._metrics.unprotected.set(len(missing_by_id))
