"""Store methods and values of margin: the mode of an entry, and liquidation of paper positions."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID

from pydantic import BeforeValidator

from engine.domain.positions import MarginMode
from engine.platform.values import Frozen, Row
from engine.store.transport.rpc import Rpc

_NON_FINITE: Final = ("NaN", "Infinity", "-Infinity")  # as PostgreSQL's JSON has them


class HeldMargin(Row):
    """A live position of another strategy, or of a person (`strategy_name` None), in a symbol.

    `margin_mode` None: the setting that the account had was kept.
    """

    margin_mode: MarginMode | None = None
    strategy_name: str | None = None


class EntryMargin(Row):
    """The margin mode `wanted` for an entry (None: keep the account's), and the other positions in its symbol.

    `paper_free_usd` is the strategy's equity on paper less the initial margins of its paper positions.
    """

    wanted: MarginMode | None = None
    paper_free_usd: Decimal | None = None
    others: tuple[HeldMargin, ...] = ()


def _drop_non_finite(value: object) -> object:
    return None if value in _NON_FINITE else value


class PaperMargin(Row):
    """Data for the margin of a paper position; times are the venue's.

    `entered_ms` is its last entry or addition, `changed_ms` its last change (with cross margin, of any position of its
    strategy), `wallet_usd` the capital plus realised P&L of its strategy (None: it has no strategy, or a capital that
    is no number: one such row must not make the margins of all others unreadable).
    """

    position_id: UUID
    entered_ms: int | None = None
    changed_ms: int | None = None
    wallet_usd: Annotated[Decimal | None, BeforeValidator(_drop_non_finite)] = None


class MarginUpdate(Frozen):
    """Changes of a position: `liquidation_price` if `updates_price` is set, `watched_until_ms` unless None."""

    position_id: UUID
    liquidation_price: Decimal | None = None
    updates_price: bool = False
    watched_until_ms: int | None = None


class MarginStore:
    rpc: Rpc

    def get_entry_margin(self, user_id: UUID, exchange: str, symbol: str, strategy_id: UUID) -> EntryMargin:
        """The margin mode that the strategy wants, and those in which others hold the symbol live."""
        row = self.rpc.call("entry_margin", user_id=user_id, exchange=exchange, symbol=symbol, strategy_id=strategy_id)
        return EntryMargin.model_validate(row)

    def list_paper_margins(self, user_id: UUID | None = None) -> tuple[PaperMargin, ...]:
        """The margin data of every paper position, of one person or of all."""
        return tuple(PaperMargin.model_validate(row) for row in self.rpc.call("paper_margins_of", user_id=user_id))

    def update_margins(self, updates: Iterable[MarginUpdate]) -> int:
        """Writes to positions that are still open; returns how many."""
        payload = {str(update.position_id): _build_update(update) for update in updates}
        return int(self.rpc.call("note_margins", notes=payload)) if payload else 0


def _build_update(update: MarginUpdate) -> dict[str, object]:
    fields: dict[str, object] = {}
    if update.updates_price:
        fields["liquidation_price"] = None if update.liquidation_price is None else str(update.liquidation_price)
    if update.watched_until_ms is not None:
        fields["watched_until_ms"] = update.watched_until_ms
    return fields
