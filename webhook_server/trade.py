"""One signal on its way through the pipeline: what was asked, in which book, and how it may end early."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from engine.errors import SparkyError
from engine.exchanges.venue import client_order_id
from engine.store.rows import Portfolio
from engine.types import Position, Side
from webhook_server.answers import Answer
from webhook_server.schemas import Order

EndState = Literal["refused", "failed", "skipped"]

CLOSE, OPEN = "c", "o"  # the leg's letter in a client order id


@dataclass(frozen=True)
class Request:
    """`id` is unique per user. `asked_at` is when it first came (UTC), `started` this attempt's monotonic second.

    `is_resumed` says that an earlier attempt may have reached the venue; `exit_reason` is what the trade will show;
    `position_id` narrows a CLOSE to one position.
    """

    id: str
    user_id: UUID
    order: Order
    asked_at: datetime
    started: float
    is_resumed: bool = False
    exit_reason: str = "signal"
    position_id: UUID | None = None

    def resumed(self) -> "Request":
        return replace(self, is_resumed=True)


@dataclass(frozen=True)
class Trade:
    """One request, the book it is for, and what that book held when its turn came."""

    request: Request
    is_paper: bool
    held: Position | None
    portfolio: Portfolio | None = None  # read for entries only: exits ask no limit

    @property
    def order(self) -> Order:
        return self.request.order

    @property
    def book(self) -> str:
        return "paper" if self.is_paper else "live"

    @property
    def may_have_been_sent(self) -> bool:
        """Paper orders exist only in the books, so an earlier attempt that was not booked did not happen."""
        return self.request.is_resumed and not self.is_paper

    def client_order_id(self, leg: str) -> str:
        return client_order_id(self.request.id, leg)

    def adds(self) -> bool:
        return self.held is not None and self.held.side is self.order.side

    def side_of(self, leg: str) -> Side:
        """The side of the position that the leg closes or opens."""
        return self.held.side if leg == CLOSE and self.held is not None else self.order.side


class Ended(SparkyError):
    """The request ends without a (further) fill. `state` is refused, failed or skipped, as the store knows them."""

    def __init__(self, state: EndState, answer: Answer, error: str) -> None:
        super().__init__(error)
        self.state = state
        self.answer = answer
        self.error = error


class NothingToDo(SparkyError):
    """The leg needs no order; the text says why and is told to the sender."""
