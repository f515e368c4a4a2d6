"""Rows and values of the webhook server's store methods: requests, portfolios, fills and differences."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import Field, ValidationError

from engine.domain.positions import MarginMode, Position, Side
from engine.domain.strategy import EntryRules, StrategyStatus
from engine.platform.values import Frozen, Row, Utc
from engine.store.values import BookedDecimal, Document, Moment, ShownRow, format_validation_errors

# Replacements for unreadable fields. The entry is refused anyway, because a limit is unreadable. With these values the
# limits that are checked before that one can still name the better reason, and none of them would allow an entry.
_MAX_RESTRICTIVE: Final[Mapping[tuple[str, object], object]] = {
    ("settings", "kill_switch"): False,
    ("settings", "allow_weekends"): False,
    ("strategy", "status"): StrategyStatus.RUNNING,
    ("strategy", "leverage_max"): 1,
    ("strategy", "max_position_usd"): "0.00000001",
    ("strategy", "max_drawdown_percent"): 0.0001,
    ("strategy", "drawdown_percent"): 100,
    ("strategy", "equity_usd"): 0,
}


def replace_invalid_fields(row: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """`row` without the fields that `error` names: of the settings or the strategy, a figure, or a position.

    A required field is then missing, which the next validation reports.
    """
    faulty = [entry["loc"] for entry in error.errors(include_url=False, include_input=False)]
    names = {**row, **{str(loc[0]): None for loc in faulty if loc[0] not in row}}
    return {
        name: _replace_invalid(name, value, [loc[1:] for loc in faulty if loc[0] == name])
        for name, value in names.items()
    }


def _replace_invalid(name: str, value: Any, faulty: list[tuple[int | str, ...]]) -> Any:
    inner = {loc[0] for loc in faulty if loc}
    if not faulty:
        return value
    if isinstance(value, Mapping):
        return {**value, **{field: _MAX_RESTRICTIVE.get((name, field)) for field in inner}}
    if isinstance(value, list):
        return [item for index, item in enumerate(value) if index not in inner]
    return value if name in {"settings", "strategy", "open_positions"} else None


class RequestState(StrEnum):
    """`status` of a row of `webhook_requests`, in the order in which a request goes through them.

    `received`: nothing has left for a venue. `submitted`: an order may have. `filled`: a fill is booked, and more may
    follow. The others are ends. SQL functions have the same words: `begin_request`, `submit_request`, `book_fill`,
    `finish_request`, `is_unsettled`.
    """

    RECEIVED = "received"
    SUBMITTED = "submitted"
    FILLED = "filled"
    BOOKED = "booked"
    REFUSED = "refused"
    FAILED = "failed"
    SKIPPED = "skipped"


RequestEndState = Literal["refused", "failed", "skipped"]  # ends that book nothing more


class UnfinishedRequest(Row):
    """A request that was begun and has not ended."""

    request_id: str
    user_id: UUID
    strategy_id: UUID | None
    exchange: str
    symbol: str
    action: str
    status: RequestState
    fingerprint: str | None = None
    payload: Document
    attempts: int
    created_at: Utc
    rest_waits: bool = False

    @property
    def may_have_traded(self) -> bool:
        """Whether an order of it may have reached a venue, or a fill the books."""
        return self.status is not RequestState.RECEIVED

    @property
    def is_unsettled(self) -> bool:
        """Whether it may have effects at its venue that are not booked; of a row, the SQL function `is_unsettled`."""
        return self.may_have_traded and not self.rest_waits


class RiskSettings(Row):
    """A row of `trade_settings_exchange`; None or 0 is unlimited; for spread and slippage it is the default."""

    kill_switch: bool
    allow_weekends: bool
    max_signal_age_sec: int | None = Field(default=None, ge=0)
    max_daily_loss_usd: Decimal | None = Field(default=None, ge=0)
    max_loss_per_week_usd: Decimal | None = Field(default=None, ge=0)
    max_trades_per_week: int | None = Field(default=None, ge=0)
    max_consecutive_failures: int | None = Field(default=None, ge=0)
    max_concurrent_positions: int | None = Field(default=None, ge=0)
    max_position_size_usd: Decimal | None = Field(default=None, ge=0)
    max_spread_percent: Decimal | None = Field(default=None, ge=0)
    max_slippage_percent: Decimal | None = Field(default=None, ge=0)


class PortfolioStrategy(Row):
    """The strategy's fields for the risk checks; its drawdown is that of the requested book (paper or live)."""

    id: UUID
    user_id: UUID
    name: str
    status: StrategyStatus
    exchange: str
    is_paper_trading: bool
    leverage_max: int = Field(ge=1)
    max_position_usd: Decimal = Field(gt=0)
    max_drawdown_percent: float = Field(gt=0, allow_inf_nan=False)
    equity_usd: Decimal
    drawdown_percent: float = Field(allow_inf_nan=False)
    rules: EntryRules | None = None
    max_spread_percent: Decimal | None = Field(default=None, ge=0)
    max_slippage_percent: Decimal | None = Field(default=None, ge=0)


class UnsettledDifference(Row):
    """An open difference between books and venue in the net quantity of one symbol (base asset, negative when
    short)."""

    booked: Decimal
    at_venue: Decimal
    first_seen_at: Utc


class Portfolio(Row):
    """The input of the risk checks: one user on one exchange, paper or live. Losses are negative P&L.

    `killed_by` is the widest kill switch that is on: global, user or strategy. `trades_this_week` counts entries since
    Monday 00:00 UTC; `consecutive_failures` is 0 an hour after the last. These, and the P&L, are None where no limit
    uses them. `open_position_count` is of the whole book, `open_positions` are those of the order's strategy (or,
    without one, the person's own). `now` is the database's clock; `strategy` is None if none was named or it is not
    this user's.

    `undone_in_symbol` counts live entries in a row, of the whole account in the order's symbol, that could not be
    protected, and `last_undone_at` is when the last of them ended: 0 and None on paper, None where no symbol was
    named. `difference` is the open difference between books and venue in it, never on paper.

    `unreadable` names the limits that could not be read; they are replaced by the most restrictive values.
    """

    now: Utc
    killed_by: Literal["global", "user", "strategy"] | None = None
    settings: RiskSettings | None
    realized_pnl_today_usd: Decimal | None
    realized_pnl_week_usd: Decimal | None
    trades_this_week: int | None
    consecutive_failures: int | None
    undone_in_symbol: int | None = Field(default=None, ge=0)
    last_undone_at: Utc | None = None
    difference: UnsettledDifference | None = None
    open_position_count: int
    open_positions: tuple[Position, ...]
    strategy: PortfolioStrategy | None
    unreadable: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The portfolio without unreadable limits. Raises ValidationError when the rest is unreadable too."""
        try:
            return cls.model_validate(row)
        except ValidationError as error:
            return cls.model_validate(
                replace_invalid_fields(row, error) | {"unreadable": format_validation_errors(error)}
            )


class ExecutionClaim(Row):
    """What the caller does with a request, and the data that its execution needs.

    `new`: execute it. `busy`: it is being executed. `done`: answer with `status` and `answer` again. `conflict`: the id
    was used for other content. `standby`: another webhook server executes. `held`: not begun, because the outcome of
    the `unsettled` requests (oldest first) of the same strategy and symbol is unknown.

    When `state` is new or busy: `is_paper` is the book that an entry goes to, `is_sent` that an earlier attempt may
    have reached a venue, `other_sides` the sides that others of the account hold live in the symbol. An
    entry has `portfolio`, or `unreadable` with the reason; for a CLOSE, `positions` are the sender's in the symbol, in
    both books.
    """

    state: Literal["new", "done", "busy", "conflict", "standby", "held"]
    answer: Document | None = None
    status: int | None = None
    is_paper: bool = True
    is_sent: bool = False
    other_sides: frozenset[Side] = frozenset()
    portfolio: Portfolio | None = None
    unreadable: str | None = None
    positions: tuple[Position, ...] = ()
    unsettled: tuple[UnfinishedRequest, ...] = ()


class KillSwitch(ShownRow):
    """A switch that refuses entries: of all users (neither id), of one person, or of one strategy."""

    user_id: UUID | None
    email: str | None
    strategy_id: UUID | None
    strategy_name: str | None
    reason: str | None
    created_at: Moment


class Fill(Frozen):
    """One execution to be booked. `side` is the position's, also for a close.

    `leverage`, `margin_mode` and `liquidation_price` (of the whole position after it; None: unknown, or there is none)
    apply to an open. An `undo` closes what an `open` of the same request opened; a `rest` is the second part of an
    exit; `dust` ends a position that is too small for any order, without an order. `order_ids` are the venue's orders
    of a fill that needed several; the field `dust` is a remainder of the position that is written off with the fill.
    """

    kind: Literal["open", "close", "rest", "undo", "dust"]
    exchange: str
    symbol: str
    side: Side
    quantity: Annotated[BookedDecimal, Field(gt=0)]
    price: Annotated[BookedDecimal, Field(gt=0)]
    fee_usd: BookedDecimal
    leverage: int = Field(default=1, ge=1)
    margin_mode: MarginMode | None = None
    is_paper: bool
    strategy_id: UUID | None = None
    order_id: str | None = None
    order_ids: tuple[str, ...] = ()
    client_order_id: str | None = None
    dust: BookedDecimal | None = None
    stop_loss_price: BookedDecimal | None = None
    take_profit_price: BookedDecimal | None = None
    liquidation_price: BookedDecimal | None = None
    exit_reason: str | None = None
    market_time_ms: int | None = None


class PlacedProtection(Frozen):
    """The protective orders of a position at the venue; a price that is None stays unchanged."""

    stop_loss_price: BookedDecimal | None = None
    take_profit_price: BookedDecimal | None = None
    stop_loss_order_id: str | None = None
    take_profit_order_id: str | None = None
    stop_loss_client_order_id: str | None = None
    take_profit_client_order_id: str | None = None


class BookedFill(Row):
    """The effect of a booked fill. `answer` is the stored response (a close adds `pnl` to it), to be sent unchanged."""

    position_id: UUID | None
    trade_id: UUID | None
    pnl_usd: Decimal | None
    pnl_percent: Decimal | None
    answer: Document | None = None


class LiveAccount(Row):
    """A person's account on a venue: credentials, or live positions, exist.

    `has_record`: something was held there since books and venue were last seen empty.
    """

    user_id: UUID
    exchange: str
    has_record: bool = False


class Difference(Row):
    """The books and the venue disagree about a net quantity (base asset, negative when short).

    `at_venue` is without what the person holds outside Sparky; `reason` says why no rule explained it.
    """

    user_id: UUID
    exchange: str
    symbol: str
    booked: Decimal
    at_venue: Decimal
    reason: str | None = None
    first_seen_at: Utc
    last_seen_at: Utc


class EquityPoint(Row):
    """One strategy's equity at one moment, in one book."""

    at: Utc
    equity_usd: Decimal
    realized_pnl_usd: Decimal
    unrealized_pnl_usd: Decimal
    drawdown_percent: float
