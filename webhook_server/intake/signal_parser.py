"""Parses a sender's JSON object to a signal, or reports every field that is missing or wrong, all at once.

An entry is refused for a fault in any field. An exit is refused only for faults in the fields that an exit uses:
a position must not stay open because of a wrong take-profit.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from engine.domain.signal import SignalAction
from webhook_server.intake import actions, field_reasons, fields, sent_values, unknown_fields
from webhook_server.intake.field_errors import FieldError, is_safe_to_repeat
from webhook_server.intake.schemas import (
    REQUEST_ID,
    SET_BY_ROUTE,
    WHOLE_PERCENT,
    WebhookSignal,
    list_accepted_names,
)

MAX_UNKNOWN_NAMES: Final = 20
_FIELD_OF: Final = {
    name: field
    for field in WebhookSignal.model_fields
    if field not in SET_BY_ROUTE
    for name in list_accepted_names(field)
}
_ALIAS_GROUPS: Final = [names for names in map(list_accepted_names, WebhookSignal.model_fields) if len(names) > 1]
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
    False: unknown_fields.index_spellings(_CHECKED_NAMES),
    True: unknown_fields.index_spellings(_CHECKED_EXIT_NAMES),
}


def parse_signal(body: Mapping[str, Any], schema: type[WebhookSignal]) -> WebhookSignal:
    """The signal in `body`, which is without its secret. Raises FieldError with every field that is missing or wrong.

    Of an exit only the fields that an exit uses are checked.
    """
    given = _drop_blank_fields(body)
    reasons: dict[str, str] = {}
    intent = _parse_intent(given, reasons)
    is_exit = intent is not None and intent.action is SignalAction.CLOSE
    if intent is not None and intent.is_flat:
        given.pop("sell_percentage", None)  # flat closes all of the position
    if is_exit and not _is_valid_id(given.get("signal_id")):
        given.pop("signal_id", None)  # a malformed id must not stop an exit
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


def list_unknown_names(body: Mapping[str, Any]) -> list[str]:
    """Names in `body` of no known field, for the log: at most MAX_UNKNOWN_NAMES, shortened."""
    return sorted(repr(name[:60]) for name in body if name not in _KNOWN_NAMES)[:MAX_UNKNOWN_NAMES]


def _drop_blank_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    # Alert templates send fields that they cannot fill as empty text: absent, as null is.
    return {
        name: value
        for name, value in body.items()
        if value is not None and not (isinstance(value, str) and not value.strip()) and name not in SET_BY_ROUTE
    }


def _is_valid_id(value: object) -> bool:
    return isinstance(value, str) and REQUEST_ID.fullmatch(value.strip()) is not None


def _parse_intent(given: Mapping[str, Any], reasons: dict[str, str]) -> actions.Intent | None:
    """The intent of the action and position in `given`; None without a valid action. Adds faults to `reasons`."""
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
    """Name and reason of each fault that no type of a single field finds: unusable numbers, placeholders, unknown
    names, and aliases of one field with different values."""
    looked_at = _CHECKED_EXIT_NAMES if is_exit else _CHECKED_NAMES
    for name, value in given.items():
        if name in looked_at or not is_exit:
            yield from _yield_fault(name, sent_values.find_unusable_reason(value))
        if name in looked_at and sent_values.has_placeholder(value):
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
    """What to send in place of the unknown field `name`."""
    advice = None if is_exit else unknown_fields.find_advice(name, value)
    return advice or unknown_fields.find_spelling_advice(name, value, _SPELLINGS[is_exit])


def _is_whole_share(share: object) -> bool:
    try:
        return sent_values.parse_decimal(share) == WHOLE_PERCENT
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
        positions = {name: position for position, name in enumerate(_NAME_ORDER)}
        raise FieldError.from_reasons(
            dict(sorted(reasons.items(), key=lambda each: positions.get(each[0], len(positions))))
        ) from None
    return signal


def _collect_reasons(error: ValidationError, used: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each faulty field's name, as the sender wrote it or else its first name, with the reason."""
    for fault in error.errors(include_url=False, include_input=False):
        field = _FIELD_OF[str(fault["loc"][0])]
        names = [name for name in _FIELD_OF if _FIELD_OF[name] == field]
        yield next((name for name in names if name in used), names[0]), field_reasons.describe_error(fault, field)
