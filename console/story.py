"""A decision told to people: what the model saw, what it said, what code made of it, and what became of it. Pure."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from console import output
from engine.plain_text import safe

_INDENT: Final = "  "
_LONGEST_ANSWER: Final = 2_000


def told(story: dict[str, Any]) -> str:
    """The whole story in plain lines; `story` is a `DecisionStory` as JSON data."""
    story = safe(story, output.SEVERAL_LINES)
    decision = story["decision"]
    parts = [
        (f"Decision {decision['id']} of {decision['strategy_name']}, {_at(decision['created_at'])}", iter(())),
        ("What the model saw", _saw(decision)),
        ("What it said", _said(decision)),
        ("What the code made of it, and why", _made(decision)),
        ("What became of it", _became(story)),
    ]
    return "\n\n".join("\n".join([title, *(_INDENT + line for line in lines)]) for title, lines in parts)


def _saw(decision: dict[str, Any]) -> Iterator[str]:
    market, record = decision["market"] or {}, decision["decision_json"] or {}
    if record.get("system_sha256"):
        yield f"the rules of the profile {market.get('risk_profile')} (text {record['system_sha256']})"
    if record.get("notes"):
        yield from record["notes"].strip().splitlines()
    for symbol in market.get("symbols", []):
        yield from _symbol(symbol)
    held = [_position(row) for row in market.get("positions", [])]
    yield f"held {', '.join(held) or 'nothing'}; equity {output.shown(market.get('equity_usd'))} USD"
    yield "limits: " + ", ".join(f"{name} {output.shown(value)}" for name, value in market.get("limits", {}).items())


def _symbol(symbol: dict[str, Any]) -> Iterator[str]:
    change = symbol.get("change_24h_percent")
    day = "" if change is None else f", {change:+.2f} % in 24 h"
    yield f"{symbol['symbol']} at {symbol['last_price']}{day}, {_moment(symbol['as_of_ms'])}"
    if symbol["candles"]:
        yield _INDENT + " " * 21 + "  ".join(f"{name:>12}" for name in ("open", "high", "low", "close", "volume"))
    for at_ms, *values in symbol["candles"]:
        yield _INDENT + f"{_moment(at_ms)}  " + "  ".join(f"{value:>12}" for value in values)
    yield _INDENT + _figures(symbol["indicators"])
    for interval, values in symbol.get("context", {}).items():
        yield _INDENT + f"{interval}: " + ("no data" if values is None else _figures(values))


def _figures(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'absent' if value is None else f'{value:.6g}'}" for name, value in values.items())


def _position(row: dict[str, Any]) -> str:
    return f"{row['side']} {row['quantity']} {row['symbol']} from {row['entry_price']}"


def _said(decision: dict[str, Any]) -> Iterator[str]:
    calls = (decision["decision_json"] or {}).get("calls", [])
    for number, call in enumerate(calls, 1):
        reason = f": {call['reason']}" if call["reason"] else ""
        tokens = f"{call['prompt_tokens']} tokens ({call['cached_tokens']} cached) in, {call['completion_tokens']} out"
        if not call.get("is_usage_told", True):
            most = tokens if call["completion_tokens"] else f"{_usd(call['cost_usd'])} USD"
            tokens = f"what it used was not told, counted at the most: {most}"
        yield f"{number}. {call['model']} {call['outcome']} in {call['latency_s']:.2f} s{reason}; {tokens}"
        if call["answer"] is not None:
            yield from _quoted(call["answer"])
    if not calls:
        yield output.shown(decision["model"])
    yield from _quoted(decision["raw_answer"])
    yield f"cost {_usd(decision['cost_usd'])} USD; request {output.shown(decision['request_id'])}"


def _quoted(answer: str | None) -> list[str]:
    text = "(nothing)" if answer is None else answer[:_LONGEST_ANSWER]
    return [f"| {line}" for line in text.split("\n")]


def _made(decision: dict[str, Any]) -> Iterator[str]:
    wanted = [str(decision["signal_action"])]
    if decision["symbol"]:
        wanted.append(str(decision["symbol"]))
    if decision["signal_action"] in ("LONG", "SHORT"):
        wanted.append(f"for {output.cents(Decimal(str(decision['size_usd'] or 0)))} USD")
    stops = [
        f"{name} {decision[field]:g} %"
        for name, field in (("stop", "stop_loss_percent"), ("target", "take_profit_percent"))
        if decision[field] is not None
    ]
    confidence = f"confidence {decision['confidence_score'] or 0:g}"
    yield ", ".join([" ".join(wanted), confidence, *stops])
    size_reason = (decision["decision_json"] or {}).get("size_reason")
    if size_reason:
        yield size_reason
    if decision["reasoning"]:
        yield f"its reasoning: {decision['reasoning']}"
    if decision["reason"]:
        fault = " (counts as a fault of the strategy)" if decision["is_fault"] else ""
        yield f"because {decision['reason']}{fault}"
    if decision["suppressed"]:
        yield f"no signal: {decision['suppressed']}"


def _became(story: dict[str, Any]) -> Iterator[str]:
    signal = story["signal"]
    if signal is None:
        yield "no signal left it"
        return
    attempts = f"{signal['attempts']} attempt{'' if signal['attempts'] == 1 else 's'}"
    yield f"signal {signal['action']} {signal['symbol']}: {signal['status']}, {attempts}"
    for attempt in story["attempts"]:
        answer = " ".join(str(part) for part in (attempt["status"], attempt["reason"]) if part is not None)
        yield f"delivery {attempt['attempt']} at {_at(attempt['ended_at'])}: {attempt['outcome']} {answer}".rstrip()
    request = story["request"]
    if request is not None:
        error = f", {request['error_message']}" if request["error_message"] else ""
        yield f"webhook server: {request['status']}, answered {output.shown(request['answer_status'])}{error}"
        yield f"answer: {_answer(request['answer'])}"
    for fill in story["fills"]:
        yield (
            f"fill: {fill['kind']} {fill['side']} {_number(fill['quantity'])} {fill['symbol']} at "
            f"{_number(fill['price'])}, fee {_number(fill['fee_usd'])} USD{' (paper)' if fill['is_paper'] else ''}"
        )
    for row in story["positions"]:
        pnl = "" if row["unrealized_pnl_usd"] is None else f", {_pnl(row['unrealized_pnl_usd'])} USD so far"
        yield f"still open: {row['side']} {_number(row['quantity'])} from {_number(row['entry_price'])}{pnl}"
    for row in story["trades"]:
        yield (
            f"trade: {row['side']} {_number(row['quantity'])} from {_number(row['entry_price'])} to "
            f"{output.price('exit_price')(row)}, {_pnl(row['pnl_usd'])} USD after fees"
        )
    if story["decision"]["actual_pnl"] is not None:
        yield f"earned {_pnl(story['decision']['actual_pnl'])} USD"


def _answer(answer: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in (answer or {}).items() if value is not None) or "-"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _usd(amount: object) -> str:
    return "-" if amount is None else f"{Decimal(str(amount)):.8f}".rstrip("0").rstrip(".")


def _number(text: str) -> str:
    return f"{Decimal(text).normalize():f}"


def _pnl(text: str | None) -> str:
    return "-" if text is None else output.cents(Decimal(text), "+,.2f")


def _at(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _moment(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"
