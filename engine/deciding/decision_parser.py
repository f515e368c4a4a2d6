"""Parses a model's answer into a bounded decision, or into a HOLD with the reason: nothing is ever guessed."""

import json
from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any, Final, NoReturn

from engine.domain.decision import SCHEMA, Action, Decision
from engine.domain.positions import Position, Side
from engine.domain.strategy import EntryRules, StrategyContext
from engine.llm.thoughts import MAX_TEXT, NoAnswer, check_surroundings, strip_thoughts
from engine.platform.plain_text import sanitize_for_storage
from engine.platform.values import Frozen
from engine.risk.entry_rules import BrokenRule, Entry, apply_entry_rules

MAX_ANSWER: Final = 16_384  # characters; 400 answer tokens are about 2,000
MAX_REASONING: Final = 100
_MAX_NUMBER: Final = 32
_MAX_SIZE_USD: Final = Decimal(10) ** 12
_CENT: Final = Decimal("0.01")
_OPTIONAL: Final = frozenset({"stop_loss_percent", "take_profit_percent"})


class DecisionLimits(Frozen):
    """The bounds of a decision, by the strategy's row. `positions` are the strategy's own at its venue: some rules
    depend on whether an entry adds to one of them."""

    target_assets: tuple[str, ...]
    min_confidence: float
    max_position_usd: Decimal
    rules: EntryRules
    positions: tuple[Position, ...] = ()


class _UnusableError(ValueError):
    """Why an answer cannot be used."""


def build_decision_limits(context: StrategyContext) -> DecisionLimits:
    """The limits of the strategy in `context`."""
    strategy = context.strategy
    return DecisionLimits(
        target_assets=strategy.target_assets,
        min_confidence=strategy.min_confidence,
        max_position_usd=strategy.max_position_usd,
        rules=strategy.rules,
        positions=tuple(position for position in context.positions if position.exchange == strategy.exchange),
    )


def parse_decision(text: str, limits: DecisionLimits) -> Decision:
    """The decision in `text`. Never raises, whatever the text.

    An unusable answer becomes a HOLD with `reason` and `is_fault`; a usable entry that is too weak, of size 0 or
    against the rules becomes a HOLD with `reason` alone. Sizes are USD, rounded down to cents and capped at
    `max_position_usd` and at the largest entry that the rules allow.
    """
    try:
        return _apply_limits(_validate(_extract_json_object(text), limits), limits)
    except (_UnusableError, NoAnswer) as fault:
        return build_fault_hold(str(fault))


def build_fault_hold(reason: str) -> Decision:
    """The HOLD that is recorded in place of an answer that cannot be used."""
    return Decision(action=Action.HOLD, reason=reason, is_fault=True)


def build_blameless_hold(reason: str) -> Decision:
    """The HOLD that is recorded where there is no answer and the strategy is not to blame."""
    return Decision(action=Action.HOLD, reason=reason)


def _apply_limits(decision: Decision, limits: DecisionLimits) -> Decision:
    if decision.action not in (Action.LONG, Action.SHORT):
        return decision.model_copy(update={"size_usd": Decimal(0)})
    if decision.confidence < limits.min_confidence:
        return to_hold(decision, f"confidence {decision.confidence:g} is below the minimum {limits.min_confidence:g}")
    allowed = _apply_rules(decision, limits)
    if isinstance(allowed, BrokenRule):
        return to_hold(decision, allowed.reason)
    size_usd = allowed.quantize(_CENT, ROUND_DOWN)
    if size_usd == 0:
        return to_hold(decision, f"{decision.action} with size 0")
    size_reason = f"{decision.size_usd:,.2f} USD were wanted, one entry may have {size_usd:,.2f} USD"
    is_cut = size_usd < decision.size_usd.quantize(_CENT, ROUND_DOWN)
    return decision.model_copy(update={"size_usd": size_usd, "size_reason": size_reason if is_cut else None})


def _apply_rules(decision: Decision, limits: DecisionLimits) -> Decimal | BrokenRule:
    stop = decision.stop_loss_percent
    entry = Entry(Side(decision.action), decision.size_usd, None if stop is None else Decimal(str(stop)))
    held = [position for position in limits.positions if position.symbol == decision.symbol]
    same_side = next((position for position in held if position.side is entry.side), None)
    position = same_side or (held[0] if held else None)
    return apply_entry_rules(entry, limits.rules, limits.max_position_usd, position)


def to_hold(decision: Decision, reason: str) -> Decision:
    """The HOLD that replaces a usable `decision`."""
    return decision.model_copy(update={"action": Action.HOLD, "size_usd": Decimal(0), "reason": reason})


def _validate(answer: Mapping[str, Any], limits: DecisionLimits) -> Decision:
    action = _parse_action(answer["action"]) if "action" in answer else None
    if action is Action.CLOSE:  # before all other checks, since an exit needs no complete answer
        return _validate_close(answer, limits)
    unknown = sorted(set(answer) - set(SCHEMA["properties"]))
    if unknown:
        raise _UnusableError(f"unknown field {_describe(unknown[0])}")
    missing = [name for name in SCHEMA["properties"] if name not in answer and name not in _OPTIONAL]
    if action is None or missing:
        raise _UnusableError(f"missing {missing[0]}")
    symbol = _parse_symbol(answer["symbol"], action, limits.target_assets)
    if action is Action.HOLD:
        return Decision(action=action, symbol=symbol, **_parse_text_fields(answer))
    return Decision(
        action=action,
        symbol=symbol,
        size_usd=_check_range(answer["size_usd"], "size_usd", Decimal(0), _MAX_SIZE_USD),
        confidence=float(_check_range(answer["confidence"], "confidence", Decimal(0), Decimal(1))),
        reasoning=_parse_reasoning(answer["reasoning"]),
        stop_loss_percent=_parse_percent(answer.get("stop_loss_percent"), "stop_loss_percent"),
        take_profit_percent=_parse_percent(answer.get("take_profit_percent"), "take_profit_percent"),
    )


def _validate_close(answer: Mapping[str, Any], limits: DecisionLimits) -> Decision:
    """Only the symbol must be right: an exit is never blocked by a field that has no effect on it."""
    if "symbol" not in answer:
        raise _UnusableError("missing symbol")
    symbol = _parse_symbol(answer["symbol"], Action.CLOSE, limits.target_assets)
    return Decision(action=Action.CLOSE, symbol=symbol, **_parse_text_fields(answer))


def _parse_text_fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Confidence and reasoning of a CLOSE or HOLD; 0 and an empty text where they are invalid."""
    confidence, reasoning = answer.get("confidence"), answer.get("reasoning")
    is_confidence = isinstance(confidence, Decimal) and 0 <= confidence <= 1
    return {
        "confidence": float(confidence) if isinstance(confidence, Decimal) and is_confidence else 0.0,
        "reasoning": _parse_reasoning(reasoning) if isinstance(reasoning, str) else "",
    }


def _parse_action(value: object) -> Action:
    if isinstance(value, str) and value in Action.__members__:
        return Action(value)
    raise _UnusableError(f"action is {_describe(value)}")


def _parse_symbol(value: object, action: Action, allowed: tuple[str, ...]) -> str | None:
    if value is None and action is Action.HOLD:
        return None
    if isinstance(value, str) and value in allowed:
        return value
    raise _UnusableError(f"symbol is {_describe(value)}, not one of the strategy's own")


def _parse_reasoning(value: object) -> str:
    if not isinstance(value, str):
        raise _UnusableError(f"reasoning is {_describe(value)}")
    return sanitize_for_storage(value)[:MAX_REASONING]


def _check_range(value: object, name: str, low: Decimal, high: Decimal) -> Decimal:
    if isinstance(value, Decimal) and low <= value <= high:
        return value
    raise _UnusableError(f"{name} is {_describe(value)}")


def _parse_percent(value: object, name: str) -> float | None:
    if value is None:
        return None
    percent = round(float(_check_range(value, name, Decimal(0), Decimal(100))), 4)
    if not 0 < percent < 100:
        raise _UnusableError(f"{name} is {_describe(value)}")
    return percent


def _extract_json_object(text: str) -> dict[str, Any]:
    """The one JSON object that `text` is, or that follows the model's thoughts in it, also after a fence or sentence.

    Raises _UnusableError and NoAnswer.
    """
    if len(text) > MAX_TEXT:
        raise _UnusableError(f"an answer of {len(text)} characters")
    # Before thoughts are stripped: a clean answer needs no stripping, which could take its strings for marks.
    whole = _decode_whole_object(text)
    if whole is not None:
        return whole
    answer = strip_thoughts(text)
    if len(answer) > MAX_ANSWER:
        raise _UnusableError(f"an answer of {len(answer)} characters")
    start = answer.find("{")
    if start < 0:
        raise _UnusableError("no JSON object in the answer" if answer.strip() else "an empty answer")
    value, end = _decode_object(answer, start)
    before, after = answer[:start].rstrip(), answer[end:].lstrip()
    # Of several objects none is certainly the answer, so none is taken.
    if any(brace in after for brace in "{}") or before.endswith("[") or after.startswith("]"):
        raise _UnusableError("more than one JSON value in the answer")
    check_surroundings(before, after)
    return value


def _decode_whole_object(text: str) -> dict[str, Any] | None:
    """`text` as one JSON object; None when it is anything else. It comes first, since strings of a clean answer may
    contain words that look like marks of thoughts."""
    stripped = text.strip("\ufeff \t\r\n")
    if not stripped.startswith("{") or len(stripped) > MAX_ANSWER:
        return None
    try:
        value, end = _DECODER.raw_decode(stripped)
    except (ValueError, RecursionError):
        return None  # `_extract_json_object` goes on and finds the reason
    return value if end == len(stripped) else None


def _decode_object(text: str, start: int) -> tuple[dict[str, Any], int]:
    try:
        value, end = _DECODER.raw_decode(text, start)
    except _UnusableError:
        raise
    except (ValueError, RecursionError):
        raise _UnusableError("the answer's JSON is broken") from None
    return value, end


def _reject_duplicate_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _UnusableError("a field is given twice")
    return fields


def _parse_number(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER:
        raise _UnusableError(f"a number of {len(text)} characters")
    try:
        return Decimal(text)
    except ArithmeticError:
        raise _UnusableError(f"{text} is too large a number") from None


def _reject_constant(name: str) -> NoReturn:
    raise _UnusableError(f"{name} is no number")


def _describe(value: object) -> str:
    kind = {dict: "an object", list: "a list", Decimal: str(value)}.get(type(value))
    return kind or sanitize_for_storage(repr(value))[:60]


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_fields,
    parse_float=_parse_number,
    parse_int=_parse_number,
    parse_constant=_reject_constant,
)
