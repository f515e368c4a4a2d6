"""The bodies of responses to reads, positions and health. Each class lists its keys in the order they are sent in.

Docstrings here are descriptions in the OpenAPI document.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, PlainSerializer, WithJsonSchema

from engine.domain.positions import MarginMode, Side
from webhook_server.http.body_types import Body, Count, Number, Timestamp

Id = Annotated[UUID, PlainSerializer(str), WithJsonSchema({"type": "string", "format": "uuid"})]


class PositionBody(Body):
    """An open position as the books have it."""

    model_config = ConfigDict(from_attributes=True)  # of a Position, whose owner and internal fields are left out

    id: Id
    strategy_id: Id | None
    exchange: str
    symbol: str
    side: Side
    quantity: Number
    entry_price: Number
    entry_time: Timestamp
    position_size_usd: Number
    fees_usd: Number
    funding_usd: Number
    leverage: int
    margin_mode: MarginMode | None
    current_price: Number | None
    unrealized_pnl_usd: Number | None
    liquidation_price: Number | None
    stop_loss_price: Number | None
    take_profit_price: Number | None
    stop_loss_client_order_id: str | None
    take_profit_client_order_id: str | None
    is_paper: bool


class PositionsBody(Body):
    success: Literal[True]
    count: Count
    positions: tuple[PositionBody, ...]


class ServerHealthBody(Body):
    """`uptime` is in seconds; `openPositions` is null where no round of marking has counted them lately."""

    status: Literal["ok", "unhealthy"]
    uptime: float
    uptimeFormatted: str
    apiStatus: str
    openPositions: Count | None
    timestamp: Timestamp


class LivenessBody(Body):
    status: Literal["ok"]


class LeaseStatusBody(Body):
    status: Literal["executing", "standing by"]
    timestamp: Timestamp


EngineStatus = Literal["idle", "waiting", "ok", "stalled", "unknown"]


class SignalQueueBody(Body):
    """`signalsPending` are signals in the outbox that are not delivered yet; null where the store did not say."""

    signalsPending: Count | None


class EngineHealthBody(Body):
    """`lastCycle` is when the last decision of any strategy was recorded."""

    status: EngineStatus
    activeStrategies: Count
    lastCycle: Timestamp | None
    metrics: SignalQueueBody
    timestamp: Timestamp


class EngineUnknownBody(Body):
    """The store did not say what the engine does."""

    status: Literal["unhealthy"]
    error: str
    activeStrategies: None
    lastCycle: None
    metrics: SignalQueueBody
    timestamp: Timestamp
