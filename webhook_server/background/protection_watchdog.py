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

from engine.domain.errors import OrderIdTaken, OrderUnclear
from engine.domain.positions import Position, Side
from engine.platform.errors import BadConfiguration, SparkyError, UpstreamUnavailable
from engine.risk.order_sizes import protected_quantity
from engine.risk.protection_gaps import net_of, no_order, uncovered
from engine.store.store import Store
from engine.venues.ccxt_client.request_weight import leaving_room
from engine.venues.venue import Account, Instrument, OpenOrder, OrderResult, OrderStatus, Protection
from webhook_server.background.protective_exits import Exits
from webhook_server.execution.executor import Desk
from webhook_server.execution.position_protection import (
    STOPPED,
    TARGET,
    fired_among,
    halves,
    ids,
    is_new_exit,
    noted,
    protection_of,
    under_other_ids,
    unlisted,
)
from webhook_server.locks import Busy
from webhook_server.metrics import Metrics
from webhook_server.reconciliation.open_order_cache import Listed, listed_instrument
from webhook_server.reconciliation.unavailable_accounts import Away
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()
ANOTHER_EXECUTES: Final = "not restored, since another server executes"
SYMBOL_TURN_S: Final = 2.0  # that placing an order waits for others' trades in its symbol


@dataclass(frozen=True)
class Seen:
    """What a look found: an order that has `fired` (its exit reason), or why protection is `missing`."""

    fired: str | None = None
    missing: str | None = None


class Watch:
    """`may_send` says, as late as possible, whether this server is still the one that executes."""

    def __init__(
        self,
        store: Store,
        venues: Venues,
        desk: Desk,
        exits: Exits,
        metrics: Metrics,
        may_send: Callable[[], bool],
    ) -> None:
        self._store = store
        self._venues = venues
        self._desk = desk
        self._exits = exits
        self._metrics = metrics
        self._may_send = may_send
        self._known: dict[UUID, str] = {}
        self._taken: set[str] = set()  # client order ids that a venue took no second order under
        self._away = Away()
        self._listed = Listed(())

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Looks at every live position that asked for protection, while it `goes_on`. Raises UpstreamUnavailable for
        the database only.

        Accounts for which their venue did not answer the last time come last, since they may cover others.
        """
        bare: dict[UUID, str] = {}
        away = Away()
        held = [each for each in self._store.open_positions() if not each.is_paper]
        self._listed = Listed(held)
        for position in sorted(held, key=self._was_away):
            if (position.stop_loss_price or position.take_profit_price) is None:
                continue
            is_asked = goes_on() and not away.covers(position.user_id, position.exchange)
            seen = self._look(position, away) if is_asked else self._as_before(position)
            if seen.fired is not None:
                self._exits.exit(position, seen.fired)
            elif seen.missing is not None:
                bare[position.id] = seen.missing
        self._away = away
        self._tell(bare)

    def _was_away(self, position: Position) -> bool:
        return self._away.has(position.user_id, position.exchange)

    def _look(self, position: Position, away: Away) -> Seen:
        """In the strategy's turn, so that no signal trades the position meanwhile; what cannot be seen is as before."""
        try:
            with self._desk.turn_of((position.user_id, position.exchange, position.strategy_id), 0.0):
                return self._found(position)
        except Busy:
            pass
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable):
                if error.service == "database":
                    raise
                if not isinstance(error, OrderUnclear):
                    away.add(position.user_id, position.exchange)
            logger.warning("protection_not_seen", position=str(position.id), reason=str(error))
        except Exception:  # one position's fault is in no other's way
            logger.exception("protection_not_seen", position=str(position.id))
        return self._as_before(position)

    def _as_before(self, position: Position) -> Seen:
        """A position that the books know no order of has none, whether or not the venue can be asked."""
        nothing_known = "no order protects it" if ids(position) == (None, None) else None
        return Seen(missing=self._known.get(position.id, nothing_known))

    def _found(self, listed: Position) -> Seen:
        """Places what is missing, when nothing else changes books or orders of the symbol: by what both are then."""
        seen = self._looked_at(listed, may_place=False)
        if seen is not None:
            return seen
        with self._desk.turn_in((listed.user_id, listed.exchange, listed.symbol), SYMBOL_TURN_S):
            seen = self._looked_at(listed, may_place=True)
        return Seen() if seen is None else seen

    def _looked_at(self, listed: Position, *, may_place: bool) -> Seen | None:
        """None where something is missing, and is not to be placed now."""
        own = self._store.own_positions(listed.user_id, listed.exchange, listed.strategy_id, listed.symbol)
        position = next((each for each in own if each.id == listed.id), None)
        if position is None:
            return Seen()
        account = self._account(position)
        instrument = listed_instrument(account, position.symbol)
        if instrument is None:
            return Seen()  # the venue has settled it, as the reconciliation books
        return self._found_of(position, account, instrument, may_place=may_place)

    def _found_of(
        self, position: Position, account: Account, instrument: Instrument, *, may_place: bool
    ) -> Seen | None:
        with leaving_room():
            fired, missing, waiting = self._state(account, position, instrument)
            kept, bare = protected_quantity(position.quantity, instrument), uncovered(account, position, instrument)
            if fired is not None or not missing:
                return Seen(fired=fired, missing=bare)
            if kept == 0:
                return Seen(missing=no_order(position, instrument))
            obstacle = self._obstacle(position)
            if obstacle is not None:
                return Seen(missing=f"not restored, since {obstacle}")
            net = net_of(account, position.symbol)
        if net == 0 or (net > 0) is not (position.side is Side.LONG):
            # Others' opposite positions cover it, so no reduction can wait; `Marks` closes it in time, if it can be.
            return Seen(missing=bare)
        if not may_place:
            return None
        if any(name_of(half) in self._taken for half in missing):
            seen = self._renamed(account, position, kept)
        else:
            self._note(position, missing)
            seen = self._restored(account, position, missing, waiting)
        return seen if bare is None or seen != Seen() else Seen(missing=bare)

    def _state(
        self, account: Account, position: Position, instrument: Instrument
    ) -> tuple[str | None, list[Protection], dict[str | None, OpenOrder]]:
        """Which of its orders has fired, what of its protection does not wait, and the orders that do. A list that was
        read for another position is read again before anything is believed to be missing."""
        waiting, is_fresh = self._listed.orders(account, position)
        fired, missing = _lacking(account, position, waiting, instrument)
        if missing and fired is None and not is_fresh:
            waiting = self._listed.read(account, position)
            fired, missing = _lacking(account, position, waiting, instrument)
        return fired, missing, waiting

    def _account(self, position: Position) -> Account:
        credentials = self._store.venue_credentials(position.user_id, position.exchange)
        if credentials is None:
            raise BadConfiguration("there is a live position and there are no credentials")
        return self._venues.live(position.exchange, credentials)

    def _note(self, position: Position, missing: list[Protection]) -> None:
        """What is about to wait is in the books first, so that an exit will cancel it."""
        if all(name_of(half) in ids(position) for half in missing):
            return
        whole = protection_of(position, position.quantity)
        self._store.book_protection(None, position.user_id, position.id, noted(whole), status=None, answer=None)

    def _renamed(self, account: Account, position: Position, quantity: Decimal) -> Seen:
        """Places all orders of `position` under other ids. At the look after the one that found an id taken, since a
        venue may have shown an older order of that id rather than the one that waits."""
        if not self._may_send():
            return Seen(missing=ANOTHER_EXECUTES)
        for reason, name in zip((STOPPED, TARGET), ids(position), strict=True):
            ended = None if name is None else account.cancel(position.symbol, name)
            if is_new_exit(ended, position):
                return Seen(fired=reason)
        wanted = under_other_ids(protection_of(position, quantity))
        self._store.book_protection(None, position.user_id, position.id, noted(wanted), status=None, answer=None)
        self._taken.difference_update(name for name in ids(position) if name is not None)
        return self._restored(account, position, halves(wanted), {})

    def _restored(
        self,
        account: Account,
        position: Position,
        missing: Sequence[Protection],
        waiting: Mapping[str | None, OpenOrder],
    ) -> Seen:
        """Places the missing orders, each for itself, since one is better than none. One that turns out to have filled
        was the exit: nothing more is placed."""
        failures: list[str] = []
        for half in missing:
            if not self._may_send():  # each call may take longer than the lease
                return Seen(missing=ANOTHER_EXECUTES)
            try:
                if _has_filled_instead(account, position, half, waiting):
                    return Seen(fired=reason_of(half))
            except SparkyError as error:
                failures.append(str(error))
                if isinstance(error, OrderIdTaken):
                    self._taken.add(name_of(half))
        if failures:
            self._metrics.protection_failures.labels("loss").inc()
            return Seen(missing="; ".join(failures))
        self._metrics.protection_restored.inc()
        logger.warning("protection_restored", symbol=position.symbol, position=str(position.id))
        return Seen()

    def _obstacle(self, position: Position) -> str | None:
        who = (position.user_id, position.exchange, position.strategy_id, position.symbol)
        for row in self._store.unfinished_requests():
            if (row.user_id, row.exchange, row.strategy_id, row.symbol) == who and row.is_unsettled:
                return f"what {row.request_id} did is not known yet"
        return None

    def _tell(self, bare: dict[UUID, str]) -> None:
        """Transitions only."""
        for position_id, reason in bare.items():
            if self._known.get(position_id) != reason:
                logger.error("position_unprotected", position=str(position_id), reason=reason)
        for position_id in self._known.keys() - bare.keys():
            logger.info("position_protected_or_closed", position=str(position_id))
        self._known = bare
        self._metrics.unprotected.set(len(bare))


def _lacking(
    account: Account, position: Position, waiting: dict[str | None, OpenOrder], instrument: Instrument
) -> tuple[str | None, list[Protection]]:
    """Which of its orders has fired, and what of its protection does not wait."""
    known = unlisted(account, position, waiting)
    quantity = protected_quantity(position.quantity, instrument)
    wanted = halves(protection_of(position, quantity or position.quantity))
    # An open one that is not listed is being triggered, or new: another in its place would close what others hold.
    missing = [
        half for half in wanted if not _waits(half, waiting, instrument) and not _is_open(known.get(name_of(half)))
    ]
    return fired_among(position, known), missing


def name_of(half: Protection) -> str:
    """The client order id of a protection of one order."""
    return half.stop_loss_id if half.stop_loss_price is not None else half.take_profit_id


def reason_of(half: Protection) -> str:
    """What the trade shows when a protection of one order has filled."""
    return STOPPED if half.stop_loss_price is not None else TARGET


def _has_filled_instead(
    account: Account, position: Position, half: Protection, waiting: Mapping[str | None, OpenOrder]
) -> bool:
    """Places `half`, for an order that waits under its name for another quantity; unless one has filled meanwhile.

    Raises OrderIdTaken too where the venue has another order of that id, which has filled and is in the books.
    """
    if name_of(half) in waiting:
        ended = account.cancel(half.symbol, name_of(half))
        if ended is not None and ended.status is OrderStatus.FILLED:
            return True
    placed = [order for order in account.protect(half) if order.status is OrderStatus.FILLED]
    if placed and not any(is_new_exit(order, position) for order in placed):
        raise OrderIdTaken(f"the venue takes no second order under the id {name_of(half)}, whose order has filled")
    return bool(placed)


def _is_open(order: OrderResult | None) -> bool:
    return order is not None and order.status is OrderStatus.OPEN


def _waits(half: Protection, waiting: dict[str | None, OpenOrder], instrument: Instrument) -> bool:
    """Whether its order is open, as a reduction of just what one order can be for (0 stands for all that is held). One
    that was placed before the sizes of orders changed is as good."""
    order = waiting.get(name_of(half))
    if order is None or not order.reduce_only:
        return False
    return order.quantity in (0, half.quantity) or protected_quantity(order.quantity, instrument) == half.quantity
