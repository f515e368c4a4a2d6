"""What a strategy's row must satisfy before it is created or started, for whatever creates one: a command, a page, a
backtest. Every fault is one sentence, the same for all of them. Pure, apart from ccxt's list of venues.

The bounds that a row keeps for its whole life are the types of `engine.domain.strategy`, by which the engine reads it
again. The table's own constraints (`migrations/`) hold for every writer;
`tests/engine/admin/test_strategy_checks.py` holds that the table takes all that passes here, and that the engine can
run it.
"""

import difflib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple, Self
from uuid import UUID

from pydantic import AfterValidator, Field, ValidationError

from engine.domain import symbol_names
from engine.domain.positions import MAX_USD, MarginMode
from engine.domain.strategy import (
    Adding,
    CadenceSeconds,
    Confidence,
    ContextInterval,
    DrawdownLimitPercent,
    EntryShare,
    Leverage,
    ModelName,
    RiskProfile,
    StopDistancePercent,
    StrategyStatus,
)
from engine.platform.errors import InvalidCommand
from engine.platform.plain_text import is_plain
from engine.platform.settings.component_settings import DEFAULT_EXCHANGE
from engine.platform.settings.setting_types import VENUE_NAME_PATTERN, describe_unkept_budget
from engine.platform.validation_errors import fault_message
from engine.platform.values import Frozen

DEFAULT_SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
MAX_SYMBOLS: Final = 100
MAX_NAME_LENGTH: Final = 100
MAX_NOTES_LENGTH: Final = 4_000
MIN_FIGURE: Final = Decimal("0.01")  # the columns have two decimals: less would be kept as 0, which no engine can read


def check_plain_line(text: str) -> str:
    """`text`. Raises ValueError unless it is one line of visible characters."""
    if not is_plain(text):
        raise ValueError("must be one line of visible characters")
    return text


def check_symbol(text: str) -> str:
    """`text`. Raises ValueError unless it can be the name of a perpetual."""
    if not symbol_names.is_name(text):
        raise ValueError("must be written like BTCUSDT: 2 to 30 capital letters and digits")
    return text


def check_symbol_count(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """`symbols`. Raises ValueError for none, or too many.

    It comes after the check of each symbol, because pydantic's own check of a length does not count invalid ones.
    """
    if not 1 <= len(symbols) <= MAX_SYMBOLS:
        raise ValueError(f"must name 1 to {MAX_SYMBOLS} symbols, such as BTCUSDT")
    return symbols


def check_venue_name(text: str) -> str:
    """`text`. Raises ValueError unless it can be the name of a venue; `find_exchange_fault` says whether it is one."""
    if not re.fullmatch(VENUE_NAME_PATTERN, text):
        raise ValueError("must be written like aster: 2 to 30 small letters and digits")
    return text


UsdLimit = Annotated[Decimal, Field(ge=MIN_FIGURE, le=MAX_USD)]
CostPercent = Annotated[Decimal, Field(gt=0, lt=100, decimal_places=4)]


class NewStrategy(Frozen):
    """A strategy to be created; the defaults are those of the table.

    Of the entry rules (`engine.domain.strategy.EntryRules`), None means: as the risk profile says. Of the limits of
    spread and slippage None means the default, and of the margin mode what `engine.domain.positions.MarginMode` says.
    """

    user_id: UUID
    name: Annotated[str, AfterValidator(check_plain_line)] = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    status: StrategyStatus = StrategyStatus.PAUSED
    risk_profile: RiskProfile = RiskProfile.BALANCED
    target_assets: Annotated[
        tuple[Annotated[str, AfterValidator(check_symbol)], ...], AfterValidator(check_symbol_count)
    ] = DEFAULT_SYMBOLS
    exchange: Annotated[str, AfterValidator(check_venue_name)] = DEFAULT_EXCHANGE
    is_paper_trading: bool = True
    cadence_seconds: CadenceSeconds = 45
    min_confidence: Confidence = 0.6
    max_drawdown_percent: Annotated[DrawdownLimitPercent, Field(ge=float(MIN_FIGURE))] = 20
    leverage_max: Leverage = 10
    max_position_usd: UsdLimit = Decimal(1000)
    capital_usd: UsdLimit = Decimal(10_000)
    daily_llm_budget_usd: Decimal | None = Field(default=None, ge=0, le=100_000)
    model: Annotated[ModelName, Field(max_length=200)] | None = None
    custom_prompt: str | None = Field(default=None, max_length=MAX_NOTES_LENGTH)
    context_intervals: tuple[ContextInterval, ...] = Field(default=(), max_length=2)
    stop_loss_required: bool | None = None
    max_entry_percent: Annotated[EntryShare, Field(decimal_places=2)] | None = None
    adding: Adding | None = None
    min_stop_loss_percent: Annotated[StopDistancePercent, Field(decimal_places=4)] | None = None
    max_spread_percent: CostPercent | None = None
    max_slippage_percent: CostPercent | None = None
    margin_mode: MarginMode | None = None

    @classmethod
    def from_input(cls, values: Mapping[str, object]) -> Self:
        """From what a person wrote. Raises InvalidCommand with one sentence that names each unknown or invalid
        field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _refuse(_list_faults(error)) from None


class FieldFault(NamedTuple):
    """A field of a strategy (``target_assets.1`` is the second symbol), and what is wrong with it."""

    field: str
    message: str


def find_field_faults(values: Mapping[str, object]) -> tuple[FieldFault, ...]:
    """Each unknown, missing or invalid field of a strategy to be created, in the order of `NewStrategy`.

    `user_id` may be missing: whose strategy it is may be found out once everything else is right.
    """
    try:
        NewStrategy.model_validate(values)
    except ValidationError as error:
        return tuple(fault for fault in _list_faults(error) if fault.field != "user_id" or "user_id" in values)
    return ()


def check_fields(values: Mapping[str, object]) -> None:
    """Raises InvalidCommand with one sentence for all that `find_field_faults` finds."""
    faults = find_field_faults(values)
    if faults:
        raise _refuse(faults)


def find_budget_fault(budget_usd: Decimal | None, unpriced_model: str | None) -> str | None:
    """Why a daily budget of a strategy cannot be kept: a model that it may ask has no price. None if it can."""
    if budget_usd is None or unpriced_model is None:
        return None
    return describe_unkept_budget("daily_llm_budget_usd", unpriced_model)


def find_exchange_fault(exchange: str, *, is_paper_trading: bool) -> str | None:
    """Why a strategy cannot trade at `exchange`: no venue has the name, or live trading there is not tested."""
    from engine.venues.ccxt_client.client import find_unknown_venue  # ccxt takes a second to import
    from engine.venues.verified_venues import find_live_trading_obstacle

    untested = None if is_paper_trading else find_live_trading_obstacle(exchange)
    return untested or find_unknown_venue(exchange)


def _refuse(faults: tuple[FieldFault, ...]) -> InvalidCommand:
    named = "; ".join(f"{field}: {message}" for field, message in faults)
    return InvalidCommand(f"The strategy cannot be created: {named}.")


def _list_faults(error: ValidationError) -> tuple[FieldFault, ...]:
    return tuple(
        FieldFault(".".join(str(part) for part in entry["loc"]), _describe_fault(entry))
        for entry in error.errors(include_url=False, include_input=False)
    )


def _describe_fault(entry: Mapping[str, Any]) -> str:
    if entry["type"] != "extra_forbidden":
        return fault_message(entry)
    known = list(NewStrategy.model_fields)
    close = difflib.get_close_matches(str(entry["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}"
    return f"no such field ({hint})"
