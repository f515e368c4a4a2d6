"""One live account at a venue and the books of it, both in memory: what a look compares, and what it books."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.domain.positions import Position, Side
from engine.platform.errors import SparkyError
from engine.store.margin import MarginUpdate
from engine.store.venue_record import OutsideExit, RecordProgress, SymbolFacts
from engine.store.webhook_rows import Difference, LiveAccount
from engine.venues.account_state import OpenOrder, VenuePosition
from engine.venues.instrument import GONE, Instrument
from engine.venues.orders import OrderResult
from tests.support.factories.entry_values import USER
from tests.support.factories.venue_records import SYMBOL, RecordedAccount, facts

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
ACCOUNT = LiveAccount(user_id=USER, exchange="aster")
KEY = (USER, "aster", SYMBOL)


@dataclass
class WorldAccount(RecordedAccount):
    """The account at its venue. `away` is raised by the list of positions, of `gone` symbols nothing is listed;
    `ended` are orders that were cancelled too late, by client id, `cancelled` all that were asked to be cancelled."""

    away: SparkyError | None = None
    gone: frozenset[str] = frozenset()
    orders: tuple[OpenOrder, ...] = ()
    ended: dict[str, OrderResult] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)

    def fetch_positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        self._ask("positions", symbol)
        if self.away is not None:
            raise self.away
        return super().fetch_positions(symbol)

    def fetch_instrument(self, symbol: str) -> Instrument:
        status = GONE if symbol in self.gone else "TRADING"
        return Instrument(symbol=symbol, tick=Decimal("0.1"), lot=Decimal("0.001"), status=status)

    def fetch_quote(self, symbol: str) -> None:
        """Nothing that is looked at here depends on it."""

    def fetch_open_orders(self, symbol: str | None = None) -> tuple[OpenOrder, ...]:
        return tuple(each for each in self.orders if symbol in {None, each.symbol})

    def find_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        return None

    def cancel_order(self, symbol: str, client_order_id: str) -> OrderResult | None:  # noqa: ARG002 - the protocol's
        self.cancelled.append(client_order_id)
        self.orders = tuple(each for each in self.orders if each.client_order_id != client_order_id)
        return self.ended.get(client_order_id)


@dataclass
class Books:
    """The store's side: `by_symbol` are the facts; exits that are booked leave their positions. Each of `changes`
    happens to the books once they are about to be written, as if another server traded then."""

    by_symbol: dict[str, SymbolFacts] = field(default_factory=dict)
    booked: list[OutsideExit] = field(default_factory=list)
    read: list[RecordProgress] = field(default_factory=list)
    dust: Decimal = Decimal(0)
    has_credentials: bool = True
    updates: list[MarginUpdate] = field(default_factory=list)
    changes: int = 0
    reports: list[tuple[dict[str, Decimal], dict[str, str], dict[str, int]]] = field(default_factory=list)
    accounts: tuple[LiveAccount, ...] = (ACCOUNT,)

    def get_venue_credentials(self, user_id: UUID, exchange: str) -> object | None:
        return (user_id, exchange) if self.has_credentials else None

    def get_symbol_facts(self, user_id: UUID, exchange: str, symbol: str) -> SymbolFacts:  # noqa: ARG002 - the store's
        return self.by_symbol.get(symbol) or facts()

    def list_open_positions(self) -> tuple[Position, ...]:
        return tuple(position for each in self.by_symbol.values() for position in each.positions)

    def list_live_accounts(self) -> tuple[LiveAccount, ...]:
        return self.accounts

    def list_recent_liquidations(self, _: float) -> tuple[Any, ...]:
        return ()

    def book_outside_exits(  # the store's own signature
        self,
        user_id: UUID,  # noqa: ARG002 - see above
        exchange: str,  # noqa: ARG002
        symbol: str,
        request_id: str | None,  # noqa: ARG002
        seen: SymbolFacts,
        exits: Sequence[OutsideExit],
        record: RecordProgress,
    ) -> bool:
        if self.changes:
            self.changes -= 1
            known = self.by_symbol[symbol]
            self.by_symbol[symbol] = known.model_copy(update={"last_fill_id": known.last_fill_id + 1})
        if self.by_symbol[symbol].last_fill_id != seen.last_fill_id:
            return False
        self.booked += exits
        self.read.append(record)
        left = [
            _reduce(position, [each for each in exits if each.request_id.endswith(str(position.id))])
            for position in seen.positions
        ]
        update = {
            "positions": tuple(each for each in left if each.quantity),
            "unbooked_net": record.unbooked_net,
            "last_trade_id": record.last_trade_id,
        }
        self.by_symbol[symbol] = seen.model_copy(update=update)
        return True

    def reduce_outside_dust(self, user_id: UUID, exchange: str, symbol: str, gap: Decimal) -> bool:  # noqa: ARG002 - see above
        if self.dust * gap >= 0 or abs(gap) > abs(self.dust):
            return False
        self.dust += gap
        return True

    def delete_outside_holding(self, user_id: UUID, exchange: str, symbol: str) -> None:  # noqa: ARG002 - see above
        self.by_symbol[symbol] = self.by_symbol[symbol].model_copy(update={"outside_net": Decimal(0)})

    def update_margins(self, updates: Iterable[MarginUpdate]) -> int:
        self.updates += updates
        return len(self.updates)

    def report_reconciliation(
        self,
        user_id: UUID,
        exchange: str,
        nets: Mapping[str, Decimal],
        reasons: Mapping[str, str],
        checked: Mapping[str, int],
        age_s: float,  # noqa: ARG002 - see above
    ) -> tuple[Difference, ...]:
        """The differences that there are by then."""
        self.reports.append((dict(nets), dict(reasons), dict(checked)))
        pairs = {symbol: (each.net, nets.get(symbol, Decimal(0))) for symbol, each in self.by_symbol.items()}
        return tuple(
            Difference(
                user_id=user_id,
                exchange=exchange,
                symbol=symbol,
                booked=booked,
                at_venue=there,
                reason=reasons.get(symbol),
                first_seen_at=NOW,
                last_seen_at=NOW,
            )
            for symbol, (booked, there) in pairs.items()
            if booked != there
        )


@dataclass
class OneVenue:
    """Where the account is found; `by_user` has those of others."""

    account: WorldAccount
    by_user: dict[UUID, WorldAccount] = field(default_factory=dict)

    def live(self, exchange: str, credentials: Any) -> WorldAccount:
        assert exchange == "aster"
        return self.by_user.get(credentials[0], self.account)


def _reduce(position: Position, exits: Sequence[OutsideExit]) -> Position:
    ended = sum((each.fill.quantity for each in exits), Decimal(0))
    assert all(each.fill.side is position.side for each in exits)
    return position.model_copy(update={"quantity": position.quantity - ended})


def net_of(position: Position) -> Decimal:
    return position.quantity if position.side is Side.LONG else -position.quantity
