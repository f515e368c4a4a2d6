"""The bodies of responses to signals. Each class lists its keys in the order in which they are sent.

Docstrings here are descriptions in the OpenAPI document: they are written for senders.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from engine.domain.positions import Side
from engine.risk.limit_breach import LimitType
from engine.risk.sizing import ReducedBy
from webhook_server.http.body_types import Body, Count, Figure, Leverage, Number, OrAbsent, OrderId


class ErrorBody(Body):
    success: Literal[False]
    error: str


class HintedErrorBody(ErrorBody):
    """`hint` says what to do about the error."""

    hint: str


class InvalidBody(Body):
    """`fields` names all faulty fields, `field` the first, `error` each one's reason."""

    success: Literal[False]
    error: str
    field: str
    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    hint: OrAbsent[str] = None


class ConflictBody(Body):
    success: Literal[False]
    error: Literal["Conflict"]
    message: str


class LimitData(Body):
    limitType: LimitType
    current: Figure
    limit: Figure


class LimitBreachBody(Body):
    success: Literal[False]
    error: Literal["Risk limit exceeded"]
    message: str
    data: LimitData


class TooManyRequestsBody(Body):
    success: Literal[False]
    error: Literal["Too many requests"]
    message: str


class FailedBody(Body):
    success: Literal[False]
    error: str
    duration: Count


class PnlBody(Body):
    """In USD, and in percent of the cost of what was closed; both rounded to cents."""

    usd: Number
    percent: Number


class ClosedLegBody(Body):
    """The exit that a reversal made before its entry."""

    order_id: str | None
    fill_price: Number
    quantity: Number
    fee_usd: Number
    pnl: PnlBody | SkipJsonSchema[None]  # None where a fill was booked without P&L; an exit's never is


class WholePositionBody(Body):
    """The position after an entry: what was held before and what was added."""

    symbol: str
    side: Side
    quantity: Number
    entry_price: Number
    position_size_usd: Number
    leverage: Leverage
    stop_loss_price: Number | None
    take_profit_price: Number | None


class OpenedBody(Body):
    """`quantity`, `fill_price` and `position_size_usd` beside `position` are of this order alone."""

    success: Literal[True]
    action: Literal["opened"]
    position: WholePositionBody
    exchange: str
    symbol: str
    side: Side
    order_id: OrderId
    orderId: OrderId
    fill_price: Number
    quantity: Number
    fee_usd: Number
    position_size_usd: Number
    requested_usd: Number
    allowed_usd: Number
    reduced_by: tuple[ReducedBy, ...]
    closed: OrAbsent[ClosedLegBody] = None
    signal_id: str
    duration: Count
    paper: bool


class DustBody(Body):
    quantity: Number
    usd: Number


class StillOpenBody(Body):
    side: Side
    quantity: Number
    paper: bool


class CloseOrderBody(Body):
    orderId: str | None
    price: Number
    quantity: Number


class EntryRefusedBody(Body):
    """Why the entry of a reversal was not made; `error` and `data` are those of a limit."""

    success: Literal[False]
    error: OrAbsent[Literal["Risk limit exceeded"]] = None
    message: str
    data: OrAbsent[LimitData] = None


class UnbookedClosedBody(Body):
    """An exit as it is handed to the database, which adds `pnl` when it books the exit."""

    success: Literal[True]
    action: Literal["closed"]
    exchange: str
    symbol: str
    side: Side
    order_id: str | None
    orderId: str | None
    fill_price: Number
    quantity: Number
    fee_usd: Number
    exitPrice: Number
    remaining_quantity: Number
    dust: OrAbsent[DustBody] = None
    still_open: OrAbsent[tuple[StillOpenBody, ...]] = None
    closeOrder: CloseOrderBody
    entryRefused: OrAbsent[EntryRefusedBody] = None
    signal_id: str
    duration: Count
    paper: bool


class ClosedBody(UnbookedClosedBody):
    """A position was closed, wholly or in part."""

    pnl: PnlBody


class SkippedBody(Body):
    """Nothing had to be done."""

    success: Literal[True]
    action: Literal["skipped"]
    reason: str
    closed: OrAbsent[ClosedLegBody] = None
    signal_id: str
    duration: Count
    paper: OrAbsent[bool] = None


class UndoneBody(Body):
    """An entry that was closed again at once, since its protection could not be placed."""

    exchange: str
    symbol: str
    side: Side
    order_id: OrderId
    orderId: OrderId
    fill_price: Number
    quantity: Number
    fee_usd: Number
    exitPrice: Number
    exit_order_id: OrderId


class RejectedBody(Body):
    """The venue, or the server on its behalf, refused for good."""

    success: Literal[False]
    action: Literal["rejected"]
    error: str
    reason: str
    undone: OrAbsent[UndoneBody] = None
    closed: OrAbsent[ClosedLegBody] = None
    signal_id: str
    duration: Count
    paper: OrAbsent[bool] = None


class UnprotectedBody(Body):
    """The entry stands without the protection that was asked for."""

    success: Literal[False]
    action: Literal["unprotected"]
    error: str
    reason: str
    exchange: str
    symbol: str
    side: Side
    order_id: OrderId
    orderId: OrderId
    fill_price: Number
    quantity: Number
    fee_usd: Number
    closed: OrAbsent[ClosedLegBody] = None
    signal_id: str
    duration: Count
    paper: bool


ExecutedBody = Annotated[
    OpenedBody | ClosedBody | SkippedBody | RejectedBody | UnprotectedBody, Field(discriminator="action")
]
TooManyBody = Annotated[LimitBreachBody | TooManyRequestsBody, Field(discriminator="error")]
