"""One symbol of one account: what the books hold, what the venue holds, and why the two differ."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

from engine.domain.positions import Position
from engine.store.venue_record import SymbolFacts

SymbolKey = tuple[UUID, str, str]  # user, exchange, symbol

IN_PROGRESS: Final = "a signal in this symbol is being executed"
BOOKS_CHANGED: Final = "the books changed while the venue was asked"
NOT_OURS: Final = "the books hold nothing of it, and Sparky did not open what the venue holds"
FIRED: Final = "a protective order has filled and is not booked yet"
NOT_SETTLED: Final = "the venue lists it no more, and has not settled it yet"
NOT_RECORDED: Final = "the venue holds nothing of it any more, and its record does not show the settlement yet"


@dataclass(frozen=True)
class SymbolComparison:
    """`facts` are the books; `net` is the venue's signed quantity less what the person holds outside Sparky.

    `reason` is None where both agree, else why no rule explains the difference. `fired` are positions whose protective
    order has filled and is not booked yet, with the exit reason. `changed_ms` is when the venue last changed its
    position (Unix ms); 0 where it has none.
    """

    facts: SymbolFacts
    net: Decimal
    reason: str | None = None
    fired: tuple[tuple[Position, str], ...] = ()
    changed_ms: int = 0

    @property
    def is_transient(self) -> bool:
        """Whether the next comparison may find both sides equal without anything being booked by hand."""
        return self.reason in {IN_PROGRESS, BOOKS_CHANGED, NOT_RECORDED} or bool(self.fired)


def has_other_requests(facts: SymbolFacts, request_id: str | None) -> bool:
    """Whether a request other than `request_id` is under way in the symbol, so that its fills may not be booked yet."""
    return bool(set(facts.unsettled) - {request_id})
