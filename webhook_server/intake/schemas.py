"""What a sender may write, and the one `WebhookSignal` that all of it becomes: bounded, normalised, nothing guessed."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from engine.domain.positions import Side
from engine.domain.signal import SignalAction
from engine.domain.signal_payload import MIN_SIZE
from webhook_server.intake import actions, field_reasons, fields, numerals
from webhook_server.intake import unknown_fields as unknown_names
from webhook_server.intake.field_errors import FieldError, is_safe_to_repeat

__all__ = [
    "REQUEST_ID",
    "SET_BY_ROUTE",
    "AiSignal",
    "WebhookSignal",
    "load_stored_signal",
    "parse_signal",
    "unknown_fields",
]

REQUEST_ID = re.compile(r"^[A-Za-z0-9._:~-]{1,100}$")
SET_BY_ROUTE = frozenset(
    {"is_ai_signal", "exit_terms"}
)  # no sender's to write: what was sent under such a name means nothing
WHOLE_PERCENT: Final = Decimal(100)
MAX_UNKNOWN_NAMES: Final = 20


class ExitTerms(BaseModel):
    """The price at which the market ended a paper position, and when, in the venue's time; see `liquidation.End`."""

    model_config = ConfigDict(frozen=True)

    price: Decimal
    at_ms: int
    fee_usd: Decimal | None = None


class WebhookSignal(BaseModel):
    """A signal as the pipeline works on it; also the shape in which `webhook_requests.payload` keeps it.

    Sizes in USD of notional, percents as 0 to 100, moments in UTC. `position_size_usd` is present for every entry.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    user_id: UUID | None = Field(default=None, validation_alias=AliasChoices("user_id", "userId"))
    exchange: fields.Exchange
    symbol: fields.Symbol
    action: fields.Action
    position_size_usd: fields.Usd | None = Field(
        default=None, validate_default=True, validation_alias=AliasChoices("position_size_usd", "size", "size_usd")
    )
    sell_percentage: fields.PositionPercent = WHOLE_PERCENT
    stop_loss_percent: fields.Percent | None = None
    take_profit_percent: fields.TakeProfitPercent | None = None
    use_trailing_stop: bool = Field(
        default=False, validation_alias=AliasChoices("useTrailingStop", "use_trailing_stop")
    )
    trailing_stop_percent: fields.Percent | None = None
    order_type: Annotated[Literal["MARKET", "LIMIT"], fields.UPPER] = Field(
        default="MARKET", validation_alias=AliasChoices("order_type", "orderType")
    )
    price: fields.Price | None = Field(default=None, validate_default=True)
    leverage: fields.Leverage = 1
    strategy_id: UUID | None = None
    environment: Annotated[Literal["production", "testnet", "paper"], fields.LOWER] | None = None
    timestamp: fields.Timestamp | None = None
    expires_at: fields.Timestamp | None = None
    signal_id: Annotated[str, StringConstraints(strip_whitespace=True, pattern=REQUEST_ID)] | None = None
    strategy: Annotated[str, fields.truncated_text(200)] | None = None
    source: Annotated[str, fields.truncated_text(100)] | None = None
    ai_confidence: fields.Confidence | None = None
    ai_reasoning: Annotated[str, fields.truncated_text(1000)] | None = None
    is_ai_signal: bool = False  # kept in the payload, so that a resumed request knows it too
    exit_terms: ExitTerms | None = None  # of the server's own exits on paper; kept likewise

    @property
    def is_entry(self) -> bool:
        return self.action is not SignalAction.CLOSE

    @property
    def is_whole_exit(self) -> bool:
        return not self.is_entry and self.sell_percentage >= WHOLE_PERCENT

    @property
    def side(self) -> Side:
        """The side of the position that an entry makes."""
        return Side.LONG if self.action is SignalAction.BUY else Side.SHORT

    # Rules across fields are validators of one field each, so that all that is wrong is reasons at once.

    @field_validator("position_size_usd")
    @classmethod
    def _check_size(cls, size_usd: Any, info: ValidationInfo) -> Any:
        if _is_checked_entry(info) and (size_usd or 0) < MIN_SIZE:
            raise ValueError(
                "is missing; an entry needs it, above 0" if size_usd is None else field_reasons.MUST_BE_ABOVE_ZERO
            )
        return size_usd

    @field_validator("take_profit_percent")
    @classmethod
    def _check_take_profit(cls, percent: Any, info: ValidationInfo) -> Any:
        if _is_checked_entry(info) and info.data["action"] is SignalAction.SELL and (percent or 0) >= 100:
            raise ValueError("must be below 100 for a short, whose price ends at 0")
        return percent

    @field_validator("use_trailing_stop")
    @classmethod
    def _reject_trailing_stop(cls, is_used: Any, info: ValidationInfo) -> Any:
        if is_used and info.context is not fields.WAS_SENT:
            raise ValueError(unknown_names.TRAILING)
        return is_used

    @field_validator("trailing_stop_percent")
    @classmethod
    def _reject_trailing_distance(cls, percent: Any, info: ValidationInfo) -> Any:
        """Older versions stored it without using it."""
        if percent is not None and info.context is fields.FROM_SENDER:
            raise ValueError(unknown_names.TRAILING)
        return percent

    @field_validator("price")
    @classmethod
    def _check_limit_price(cls, price: Any, info: ValidationInfo) -> Any:
        if _is_checked_entry(info) and info.data.get("order_type") == "LIMIT" and price is None:
            raise ValueError("is missing; a LIMIT order needs it")
        return price


class AiSignal(WebhookSignal):
    """Body of POST /webhook/ai-signal: who sends is always named, and the entry rules of its strategy bind it."""

    user_id: UUID = Field(validation_alias=AliasChoices("user_id", "userId"))
    is_ai_signal: Literal[True] = True


def parse_signal(body: Mapping[str, Any], schema: type[WebhookSignal]) -> WebhookSignal:
    """The order in `body` (no secret in it). Raises FieldError that names every field that is missing or wrong.

    For an exit only what concerns an exit is looked at.
    """
    given = _drop_blank_fields(body)
    reasons: dict[str, str] = {}
    intent = _parse_intent(given, reasons)
    is_exit = intent is not None and intent.action is SignalAction.CLOSE
    if intent is not None and intent.is_flat:
        given.pop("sell_percentage", None)  # all of it is closed, whatever part is named
    if is_exit and not _is_valid_id(given.get("signal_id")):
        given.pop("signal_id", None)  # an id that cannot be kept stops no exit
    for name, reason in _find_faults(given, is_exit=is_exit):
        reasons.setdefault(name if is_safe_to_repeat(name) else "body", reason)
    used = {
        name: value
        for name, value in given.items()
        if name in _FIELD_OF and name not in reasons and not (is_exit and _FIELD_OF[name] in _ENTRY_FIELDS)
    }
    signal = _validate(used if intent is None else used | {"action": intent.action}, schema, reasons, is_exit=is_exit)
    return (
        signal.model_copy(update={"sell_percentage": WHOLE_PERCENT})
        if intent is not None and intent.is_flat
        else signal
    )


def load_stored_signal(payload: Mapping[str, Any], *, may_have_traded: bool) -> WebhookSignal:
    """The order that `webhook_requests` keeps. Raises ValidationError.

    What an older version accepted and sent is read whatever is asked of senders by now: it has to be booked.
    """
    return WebhookSignal.model_validate(payload, context=fields.WAS_SENT if may_have_traded else None)


def unknown_fields(body: Mapping[str, Any]) -> list[str]:
    """Names in `body` that mean nothing to us, for the log: MAX_UNKNOWN_NAMES of them, shortened."""
    return sorted(repr(name[:60]) for name in body if name not in _KNOWN_NAMES)[:MAX_UNKNOWN_NAMES]


def _is_checked_entry(info: ValidationInfo) -> bool:
    return info.context is not fields.WAS_SENT and info.data.get("action") in {SignalAction.BUY, SignalAction.SELL}


def _drop_blank_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Alert templates leave fields that they cannot fill empty: that is absence, as null is."""
    return {
        name: value
        for name, value in body.items()
        if value is not None and not (isinstance(value, str) and not value.strip()) and name not in SET_BY_ROUTE
    }


def _is_valid_id(value: object) -> bool:
    return isinstance(value, str) and REQUEST_ID.fullmatch(value.strip()) is not None


def _parse_intent(given: Mapping[str, Any], reasons: dict[str, str]) -> actions.Intent | None:
    """What the words in `given` ask for; None when no action does. What is wrong with them is added to `reasons`."""
    try:
        alone = actions.parse_intent(given.get("action"), None, has_share=False)
    except ValueError:
        return None
    names = [name for name in actions.POSITION_FIELDS if name in given]
    if (
        not names
        and actions.is_buy_or_sell(given["action"])
        and not _is_whole_share(given.get("sell_percentage", WHOLE_PERCENT))
    ):
        reasons["sell_percentage"] = "is of exits; send action CLOSE to close a part of a position"
    disagreement = _find_disagreement(given, names) if alone.action is not SignalAction.CLOSE else None
    if disagreement is not None:
        reasons[names[-1]] = disagreement
        return alone
    position = given[names[0]] if names else None
    try:
        return actions.parse_intent(given["action"], position, has_share="sell_percentage" in given)
    except ValueError as error:
        reasons[names[0]] = str(error)
        return alone


def _find_faults(given: Mapping[str, Any], *, is_exit: bool) -> Iterator[tuple[str, str]]:
    """Names in `given` that cannot be used, each with the reason, for what no single field's type can tell."""
    looked_at = _CHECKED_EXIT_NAMES if is_exit else _CHECKED_NAMES
    for name, value in given.items():
        if name in looked_at or not is_exit:
            yield from _yield_fault(name, numerals.find_unusable_reason(value))
        if name in looked_at and field_reasons.has_placeholder(value):
            yield name, field_reasons.UNFILLED_PLACEHOLDER
        if name not in _KNOWN_NAMES:
            yield from _yield_fault(name, _find_advice(name, value, is_exit=is_exit))
    for choices in _ALIAS_GROUPS:
        names = [name for name in choices if name in given and name in looked_at]
        yield from _yield_fault(names[-1] if names else "", _find_disagreement(given, names))


def _yield_fault(name: str, reason: str | None) -> Iterator[tuple[str, str]]:
    if reason is not None:
        yield name, reason


def _find_advice(name: str, value: object, *, is_exit: bool) -> str | None:
    """What to send in place of a field `name` that means nothing to us."""
    advice = None if is_exit else unknown_names.find_advice(name, value)
    return advice or unknown_names.find_spelling_advice(name, value, _SPELLINGS[is_exit])


def _is_whole_share(share: object) -> bool:
    try:
        return numerals.parse_decimal(share) == WHOLE_PERCENT
    except ValueError:
        return False


def _find_disagreement(given: Mapping[str, Any], names: list[str]) -> str | None:
    return None if fields.are_equal(given[name] for name in names) else f"differs from {names[0]}, which means the same"


def _validate(
    used: Mapping[str, Any], schema: type[WebhookSignal], reasons: dict[str, str], *, is_exit: bool
) -> WebhookSignal:
    signal = None
    try:
        signal = schema.model_validate(used, context=fields.EXIT_FROM_SENDER if is_exit else fields.FROM_SENDER)
    except ValidationError as error:
        found = dict(_collect_reasons(error, used))
        ignorable = {name for name in found if _FIELD_OF[name] in _INFORMATIONAL_FIELDS}
        if is_exit and ignorable:
            rest = {name: value for name, value in used.items() if name not in ignorable}
            return _validate(rest, schema, reasons, is_exit=True)
        named = {_FIELD_OF.get(name) for name in reasons}
        reasons |= {name: reason for name, reason in found.items() if _FIELD_OF[name] not in named}
    if reasons or signal is None:
        places = {name: place for place, name in enumerate(_NAME_ORDER)}
        raise FieldError.from_reasons(
            dict(sorted(reasons.items(), key=lambda each: places.get(each[0], len(places))))
        ) from None
    return signal


def _collect_reasons(error: ValidationError, used: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each faulty field under the name that the sender used, or should have used."""
    for fault in error.errors(include_url=False, include_input=False):
        field = _FIELD_OF[str(fault["loc"][0])]
        names = [name for name in _FIELD_OF if _FIELD_OF[name] == field]
        yield next((name for name in names if name in used), names[0]), field_reasons.describe_error(fault, field)


def _accepted_names(field: str) -> list[str]:
    alias = WebhookSignal.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [field]


_FIELD_OF: Final = {
    name: field for field in WebhookSignal.model_fields if field not in SET_BY_ROUTE for name in _accepted_names(field)
}
_ALIAS_GROUPS: Final = [names for names in map(_accepted_names, WebhookSignal.model_fields) if len(names) > 1]
_AFTER_ACTION: Final = [*_FIELD_OF].index("action") + 1
_NAME_ORDER: Final = [*[*_FIELD_OF][:_AFTER_ACTION], *actions.POSITION_FIELDS, *[*_FIELD_OF][_AFTER_ACTION:]]
_KNOWN_NAMES: Final = frozenset(_NAME_ORDER)
_INFORMATIONAL_FIELDS: Final = frozenset({"strategy", "source", "ai_confidence", "ai_reasoning"})
_ENTRY_FIELDS: Final = frozenset(
    {"position_size_usd", "stop_loss_percent", "take_profit_percent", "use_trailing_stop", "trailing_stop_percent"}
    | {"order_type", "price", "leverage", "timestamp", "expires_at"}
)
_CHECKED_NAMES: Final = frozenset(name for name in _NAME_ORDER if _FIELD_OF.get(name) not in _INFORMATIONAL_FIELDS)
_CHECKED_EXIT_NAMES: Final = frozenset(
    name for name in _CHECKED_NAMES if _FIELD_OF.get(name, "price") not in _ENTRY_FIELDS
)
_SPELLINGS: Final = {
    False: unknown_names.index_spellings(_CHECKED_NAMES),
    True: unknown_names.index_spellings(_CHECKED_EXIT_NAMES),
}
