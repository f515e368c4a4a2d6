"""Formats one decision for people: market, answer of the model, final decision and execution. Pure."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from cli import output
from engine.domain.decimals import format_plain, to_decimal
from engine.platform.plain_text import safe

_INDENT: Final = "  "
_MAX_ANSWER_LENGTH: Final = 2_000


def render_decision(trace: dict[str, Any]) -> str:
    """The text of a `DecisionTrace`, given as JSON data."""
    trace = safe(trace, output.MULTILINE_FIELDS)
    decision = trace["decision"]
    parts = [
        (f"Decision {decision['id']} of {decision['strategy_name']}, {_format_time(decision['created_at'])}", iter(())),
        ("What the model saw", _build_market_lines(decision)),
        ("What it said", _build_answer_lines(decision)),
        ("What the code made of it, and why", _build_decision_lines(decision)),
        ("What became of it", _build_execution_lines(trace)),
    ]
    return "\n\n".join("\n".join([title, *(_INDENT + line for line in lines)]) for title, lines in parts)


def _build_market_lines(decision: dict[str, Any]) -> Iterator[str]:
    market, record = _as_dict(decision["market"]), _as_dict(decision["decision_json"])
    yield from _build_malformed_lines("market", decision["market"])
    yield from _build_malformed_lines("record", decision["decision_json"])
    if record.get("system_sha256"):
        profile, digest = _to_text(market.get("risk_profile")), _to_text(record["system_sha256"])
        yield f"the rules of the profile {profile} (text {digest})"
    if record.get("notes"):
        yield from _to_text(record["notes"]).strip().splitlines()
    for symbol in _as_list(market.get("symbols")):
        yield from _format_or_dump(_build_symbol_lines, symbol)
    if market.get("no_data_close_only"):
        yield f"no data, only to be closed: {', '.join(map(_to_text, _as_list(market['no_data_close_only'])))}"
    yield f"{_describe_positions(market)}; equity {_to_text(output.format_value(market.get('equity_usd')))} USD"
    limits = market.get("limits") or {}
    is_readable = isinstance(limits, dict)
    yield "limits: " + (
        ", ".join(f"{n} {output.format_value(v)}" for n, v in limits.items()) if is_readable else _to_text(limits)
    )


def _describe_positions(market: dict[str, Any]) -> str:
    if market.get("positions") is None:
        return "held: not recorded"
    held = [line for row in _as_list(market["positions"]) for line in _format_or_dump(_build_position_lines, row)]
    return f"held {', '.join(held) or 'nothing'}"


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_list(value: object) -> list[Any]:
    """The entries of a list; another value is one entry."""
    if isinstance(value, list):
        return value
    return [] if value is None or value in ("", {}) else [value]


def _build_malformed_lines(name: str, value: object) -> Iterator[str]:
    """One line with a record that is not a JSON object, which another version may have written."""
    if value is not None and not isinstance(value, dict):
        yield f"{name}: {_to_text(value)}"


def _format_or_dump(form: Callable[[dict[str, Any]], Iterable[str]], part: Any) -> list[str]:
    """The lines that `form` makes of `part`; one line of JSON if another version wrote it in another shape."""
    try:
        return list(form(part))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, OSError):
        return [_to_text(part)]


def _build_symbol_lines(symbol: dict[str, Any]) -> Iterator[str]:
    change = symbol.get("change_24h_percent")
    day = "" if change is None else f", {change:+.2f} % in 24 h"
    yield f"{symbol['symbol']} at {_format_price(symbol['last_price'])}{day}, {_format_unix_ms(symbol['as_of_ms'])}"
    if symbol["candles"]:
        yield _INDENT + " " * 21 + "  ".join(f"{name:>12}" for name in ("open", "high", "low", "close", "volume"))
    for at_ms, *values in symbol["candles"]:
        yield _INDENT + f"{_format_unix_ms(at_ms)}  " + "  ".join(f"{_format_price(value):>12}" for value in values)
    if symbol.get("filled"):
        yield (
            _INDENT + f"{symbol['filled']['in_all']} candles that the venue did not tell are filled with the last close"
        )
    yield _INDENT + _format_indicators(symbol["indicators"])
    for interval, values in symbol.get("context", {}).items():
        yield _INDENT + f"{interval}: " + ("no data" if values is None else _format_indicators(values))


def _format_price(value: Any) -> str:
    """A recorded number in plain digits; anything else as it is."""
    return (
        format_plain(to_decimal(value))
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
    )


def _format_indicators(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {'absent' if value is None else f'{_format_short(value)}'}" for name, value in values.items()
    )


def _format_short(value: Any) -> str:
    return format_plain(to_decimal(f"{value:.6g}"))


def _build_position_lines(row: dict[str, Any]) -> list[str]:
    return [f"{row['side']} {_format_price(row['quantity'])} {row['symbol']} from {_format_price(row['entry_price'])}"]


def _build_answer_lines(decision: dict[str, Any]) -> Iterator[str]:
    calls = _as_list(_as_dict(decision["decision_json"]).get("calls"))
    for number, call in enumerate(calls, 1):
        first, *rest = _format_or_dump(_build_call_lines, call)
        yield f"{number}. {first}"
        yield from rest
    if not calls:
        yield output.format_value(decision["model"])
    yield from _quote_answer(decision["raw_answer"])
    yield f"cost {_format_usd(decision['cost_usd'])} USD; request {output.format_value(decision['request_id'])}"


def _build_call_lines(call: dict[str, Any]) -> Iterator[str]:
    reason = f": {call['reason']}" if call["reason"] else ""
    tokens = f"{call['prompt_tokens']} tokens ({call['cached_tokens']} cached) in, {call['completion_tokens']} out"
    if not call.get("is_usage_told", True):
        most = tokens if call["completion_tokens"] else f"{_format_usd(call['cost_usd'])} USD"
        tokens = f"what it used was not told, counted at the most: {most}"
    yield f"{call['model']} {call['outcome']} in {call['latency_s']:.2f} s{reason}; {tokens}"
    if call["answer"] is not None:
        yield from _quote_answer(call["answer"])


def _quote_answer(answer: str | None) -> list[str]:
    text = "(no answer recorded)" if answer is None else answer[:_MAX_ANSWER_LENGTH]
    return [f"| {line}" for line in text.split("\n")]


def _build_decision_lines(decision: dict[str, Any]) -> Iterator[str]:
    wanted = [str(decision["signal_action"])]
    if decision["symbol"]:
        wanted.append(str(decision["symbol"]))
    if decision["signal_action"] in ("LONG", "SHORT"):
        wanted.append(f"for {_format_size(decision['size_usd'])}")
    stops = [
        f"{name} {float(decision[field]):g} %"
        for name, field in (("stop", "stop_loss_percent"), ("target", "take_profit_percent"))
        if decision[field] is not None
    ]
    score = decision["confidence_score"]
    confidence = "confidence not recorded" if score is None else f"confidence {float(score):g}"
    yield ", ".join([" ".join(wanted), confidence, *stops])
    size_reason = _as_dict(decision["decision_json"]).get("size_reason")
    if size_reason:
        yield _to_text(size_reason)
    if decision["reasoning"]:
        yield f"its reasoning: {decision['reasoning']}"
    if decision["reason"]:
        fault = " (counts as a fault of the strategy)" if decision["is_fault"] else ""
        yield f"because {decision['reason']}{fault}"
    if decision["suppressed"]:
        yield f"no signal: {decision['suppressed']}"


def _format_size(size_usd: object) -> str:
    return "a size that is not recorded" if size_usd is None else f"{output.format_cents(Decimal(str(size_usd)))} USD"


def _build_execution_lines(trace: dict[str, Any]) -> Iterator[str]:
    signal = trace["signal"]
    if signal is None:
        yield "no signal left it"
        return
    attempts = f"{signal['attempts']} attempt{'' if signal['attempts'] == 1 else 's'}"
    yield f"signal {signal['action']} {signal['symbol']}: {signal['status']}, {attempts}"
    for attempt in trace["attempts"]:
        answer = " ".join(str(part) for part in (attempt["status"], attempt["reason"]) if part is not None)
        ended_at = _format_time(attempt["ended_at"])
        yield f"delivery {attempt['attempt']} at {ended_at}: {attempt['outcome']} {answer}".rstrip()
    request = trace["request"]
    if request is not None:
        error = f", {request['error_message']}" if request["error_message"] else ""
        yield f"webhook server: {request['status']}, answered {output.format_value(request['answer_status'])}{error}"
        yield f"answer: {_format_answer(request['answer'])}"
    for fill in trace["fills"]:
        yield (
            f"fill: {fill['kind']} {fill['side']} {_format_number(fill['quantity'])} {fill['symbol']} at "
            f"{_format_number(fill['price'])}, fee {_format_number(fill['fee_usd'])} USD"
            f"{' (paper)' if fill['is_paper'] else ''}"
        )
    for row in trace["positions"]:
        pnl = "" if row["unrealized_pnl_usd"] is None else f", {_format_pnl(row['unrealized_pnl_usd'])} USD so far"
        entry_price = output.price_cell("entry_price")(row)
        yield f"still open: {row['side']} {_format_number(row['quantity'])} from {entry_price}{pnl}"
    for row in trace["trades"]:
        yield (
            f"trade: {row['side']} {_format_number(row['quantity'])} from {output.price_cell('entry_price')(row)} to "
            f"{output.price_cell('exit_price')(row)}, {_format_pnl(row['pnl_usd'])} USD after fees"
        )
    if trace["decision"]["actual_pnl"] is not None:
        yield f"earned {_format_pnl(trace['decision']['actual_pnl'])} USD"


def _format_answer(answer: Any) -> str:
    if answer is not None and not isinstance(answer, dict):
        return _to_text(answer)
    return ", ".join(f"{name}={_to_text(value)}" for name, value in (answer or {}).items() if value is not None) or "-"


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _format_usd(amount: object) -> str:
    if amount is None:
        return "-"
    value = Decimal(str(amount))
    return f"{value:.8f}".rstrip("0").rstrip(".") if value.is_finite() else str(value)


def _format_number(text: str) -> str:
    return format_plain(Decimal(text))


def _format_pnl(text: str | None) -> str:
    return "-" if text is None else output.format_cents(Decimal(text), "+,.2f")


def _format_time(text: str) -> str:
    return f"{output.format_utc(text)} UTC"


def _format_unix_ms(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"
