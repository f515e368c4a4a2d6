"""The part of the store that is about margin: the mode of entries, and what liquidates positions."""

from collections.abc import Iterable
from uuid import UUID

from engine.store.margin_rows import EntryMargin, MarginNote, PaperMargin
from engine.store.rpc import Rpc


class MarginStore:
    rpc: Rpc

    def entry_margin(self, user_id: UUID, exchange: str, symbol: str, strategy_id: UUID) -> EntryMargin:
        """The margin mode that the strategy wants, and those in which others hold the symbol live."""
        found = self.rpc.call(
            "entry_margin", user_id=user_id, exchange=exchange, symbol=symbol, strategy_id=strategy_id
        )
        return EntryMargin.model_validate(found)

    def paper_margins(self, user_id: UUID | None = None) -> tuple[PaperMargin, ...]:
        """One for every paper position, of one person or of all."""
        return tuple(PaperMargin.model_validate(row) for row in self.rpc.call("paper_margins_of", user_id=user_id))

    def note_margins(self, notes: Iterable[MarginNote]) -> int:
        """Writes to positions that are held still; how many there were."""
        told = {str(note.position_id): _told(note) for note in notes}
        return int(self.rpc.call("note_margins", notes=told)) if told else 0


def _told(note: MarginNote) -> dict[str, object]:
    told: dict[str, object] = {}
    if note.notes_price:
        told["liquidation_price"] = None if note.liquidation_price is None else str(note.liquidation_price)
    if note.watched_until_ms is not None:
        told["watched_until_ms"] = note.watched_until_ms
    return told
