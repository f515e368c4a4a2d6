"""What is read and written to margin positions: the mode of an entry, and what liquidates on paper."""

from decimal import Decimal
from uuid import UUID

from engine.types import Frozen, MarginMode, Row


class HeldMargin(Row):
    """The margin mode of a live position of others in a symbol (None: as the account had it); `strategy_name` is None
    where a person holds it."""

    margin_mode: MarginMode | None = None
    strategy_name: str | None = None


class EntryMargin(Row):
    """The margin mode that an entry wants (None: as it is), and those that others on its account hold in the symbol.

    `paper_free_usd` is what the strategy's equity on paper has left beside the initial margins of what it holds there.
    """

    wanted: MarginMode | None = None
    paper_free_usd: Decimal | None = None
    others: tuple[HeldMargin, ...] = ()


class PaperMargin(Row):
    """What is known beside a paper position: when it was last entered or added to, in the venue's time, when it (with
    cross margin anything of its strategy) last changed, and the capital and realised P&L of its strategy (None: it has
    none)."""

    position_id: UUID
    entered_ms: int | None = None
    changed_ms: int | None = None
    wallet_usd: Decimal | None = None


class MarginNote(Frozen):
    """What is written to a position: `liquidation_price` if `notes_price` says so, `watched_until_ms` unless None."""

    position_id: UUID
    liquidation_price: Decimal | None = None
    notes_price: bool = False
    watched_until_ms: int | None = None
