"""What OpenAPI tells of signals and answers: bodies are read raw, since a signature covers bytes, so all must be said.

Schemas are JSON Schema 2020-12, as OpenAPI 3.1 has them.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import AliasChoices

from engine.risk.limit_breach import LimitType
from engine.risk.sizing import ReducedBy
from webhook_server.intake import actions, signature_headers, symbols
from webhook_server.intake.request_body import BODY_LIMIT_BYTES, BODY_TIMEOUT_S
from webhook_server.intake.schemas import SET_BY_ROUTE, WebhookSignal

Schema = dict[str, Any]

_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_DECIMAL: Final = {"type": "string", "pattern": r"^ *[0-9]{1,15}(\.[0-9]{1,15})? *$"}
_WHOLE: Final = {"type": "string", "pattern": "^ *[0-9]{1,30} *$"}
NUMERALS: Final = (_DECIMAL, _WHOLE)
_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_MOMENT: Final[Schema] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"}]}
_WRITTEN: Final[dict[str, Schema]] = {  # what stands before pydantic's own checks, and pydantic cannot tell
    "exchange": {"type": "string", "pattern": "^[A-Za-z0-9]{2,30}$", "examples": ["aster"]},
    "symbol": {
        "type": "string",
        "pattern": r"^ *[A-Za-z0-9_.:/\u0620-\uffdc-]{2,50} *$",
        "examples": ["BTCUSDT", "BINANCE:BTCUSDT.P", "BTC/USDT:USDT"],
        "description": f"A linear perpetual; {symbols.ACCEPTED_FORMS}",
    },
    "action": {"type": "string", "enum": actions.WORDS, "description": "In any case"},
    "timestamp": _MOMENT,
    "expires_at": _MOMENT,
}
_REFUSED: Final = "Every entry with it is refused: trailing stops are not kept"
_NOTES: Final = {
    "use_trailing_stop": f"{_REFUSED}; false is the same as none",
    "trailing_stop_percent": _REFUSED,
    **dict.fromkeys(("strategy", "source", "ai_confidence", "ai_reasoning"), "A note, kept with the signal"),
}
_POSITION: Final[Schema] = {
    "anyOf": [{"type": "string", "enum": tuple(actions.POSITIONS)}, {"type": "null"}],
    "description": "The position that is wanted after the signal, in any case; flat makes it an exit",
}
_SECRET: Final = {"type": "string", "description": "The user's webhook secret; not needed when the request is signed"}
_RETRY_AFTER: Final = {
    "Retry-After": {"required": True, "description": "seconds", "schema": {"type": "integer", "minimum": 1}}
}


def signal(model: type[WebhookSignal]) -> Schema:
    """The request of a route that takes `model`: its body, and the headers of Standard Webhooks."""
    body = {"type": "object", "required": _required(model), "properties": {**_properties(model), "secret": _SECRET}}
    as_text = {"type": "string", "description": "The same JSON object; the content type does not matter"}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}, "text/plain": {"schema": as_text}},
        },
        "parameters": [_header(name) for name in signature_headers.HEADER_NAMES],
    }


def secret_header() -> Schema:
    """The request of a route that shows a person what is theirs."""
    return {"parameters": [_header("X-Webhook-Secret")]}


def _header(name: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}


def _required(model: type[WebhookSignal]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _properties(model: type[WebhookSignal]) -> Schema:
    told = model.model_json_schema(by_alias=True)["properties"]
    found: Schema = {}
    for name, field in model.model_fields.items():
        if name in SET_BY_ROUTE:
            continue
        alias = field.validation_alias
        names = [str(each) for each in alias.choices] if isinstance(alias, AliasChoices) else [name]
        found[names[0]] = _WRITTEN.get(name) or _bounded(told[names[0]]) | _noted(name)
        found |= _also_called(names, found[names[0]])
        if name == "action":
            found[actions.POSITION_NAMES[0]] = _POSITION
            found |= _also_called(actions.POSITION_NAMES, _POSITION)
    return found


def _noted(name: str) -> Schema:
    return {"description": _NOTES[name]} if name in _NOTES else {}


def _also_called(names: Sequence[str], told: Schema) -> Schema:
    return {other: {**told, "description": f"As {names[0]}"} for other in names[1:]}


def _bounded(told: Schema) -> Schema:
    """pydantic leaves bounds of Decimals in its own words, and does not know that numbers may come as text."""
    branches: list[Schema] = [dict(each) for each in told.get("anyOf", [told])]
    if "anyOf" in branches[0]:  # optional: the number with its bounds, or null
        return {"anyOf": [*_bounded(branches[0])["anyOf"], *branches[1:]]}
    bounds = {_BOUNDS[key]: float(value) for key, value in {**told, **branches[0]}.items() if key in _BOUNDS}
    kept = [
        {key: value for key, value in each.items() if key not in (*_BOUNDS, "title", "default")} for each in branches
    ]
    if kept[0].get("type") not in {"number", "integer"}:
        return {"anyOf": kept} if len(kept) > 1 else kept[0]
    others = [each for each in kept[1:] if each != _TEXT]
    numeral = _WHOLE if kept[0]["type"] == "integer" else _DECIMAL
    return {"anyOf": [{"type": kept[0]["type"], **bounds}, numeral, *others]}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _answer(text: str, schema: Schema, headers: Schema | None = None) -> Schema:
    told = {"description": text, "content": {"application/json": {"schema": schema}}}
    return told if headers is None else {**told, "headers": headers}


def _no(optional: Schema | None = None, **required: Schema) -> Schema:
    return _object({"success": {"const": False}, "error": _TEXT, **required}, optional)


_ENDED: Final[Schema] = {"signal_id": _TEXT, "duration": {"type": "integer", "minimum": 0}}
_SIDE: Final[Schema] = {"enum": ["LONG", "SHORT"]}
_BOOLEAN: Final[Schema] = {"type": "boolean"}
_FILL: Final[Schema] = {
    "exchange": _TEXT,
    "symbol": _TEXT,
    "side": _SIDE,
    "order_id": _TEXT,
    "orderId": _TEXT,
    "fill_price": _NUMBER,
    "quantity": _NUMBER,
    "fee_usd": _NUMBER,
}
_TRADED: Final[Schema] = {**_FILL, "paper": _BOOLEAN, **_ENDED}
_LIMIT: Final = _object({"limitType": {"enum": [each.value for each in LimitType]}, "current": {}, "limit": {}})
_OVER: Final = _no(error={"const": "Risk limit exceeded"}, message=_TEXT, data=_LIMIT)
_PNL: Final = _object({"usd": _NUMBER, "percent": _NUMBER})
_HALF: Final = _object({"order_id": _TEXT, "fill_price": _NUMBER, "quantity": _NUMBER, "fee_usd": _NUMBER, "pnl": _PNL})
_MADE: Final = {"success": {"const": True}}
_TEXT_OR_NONE: Final[Schema] = {"type": ["string", "null"]}
_PRICE_OR_NONE: Final[Schema] = {"type": ["number", "null"]}
_WHOLE_POSITION: Final = _object(
    {
        "symbol": _TEXT,
        "side": _SIDE,
        "quantity": _NUMBER,
        "entry_price": _NUMBER,
        "position_size_usd": _NUMBER,
        "leverage": {"type": "integer", "minimum": 1},
        "stop_loss_price": _PRICE_OR_NONE,
        "take_profit_price": _PRICE_OR_NONE,
    }
)
_OPENED: Final = _object(
    {
        **_MADE,
        "action": {"const": "opened"},
        **_TRADED,
        "position_size_usd": _NUMBER,
        "position": _WHOLE_POSITION,
        "requested_usd": _NUMBER,
        "allowed_usd": _NUMBER,
        "reduced_by": {
            "type": "array",
            "items": {"enum": [each.value for each in ReducedBy]},
        },
    },
    {"closed": _HALF},
)
_CLOSED: Final = _object(
    {
        **_MADE,
        "action": {"const": "closed"},
        **_TRADED,
        "order_id": _TEXT_OR_NONE,  # what is too little for any order ends without one
        "orderId": _TEXT_OR_NONE,
        "exitPrice": _NUMBER,
        "remaining_quantity": _NUMBER,
        "pnl": _PNL,
    },
    {
        "dust": _object({"quantity": _NUMBER, "usd": _NUMBER}),
        "entryRefused": _object({"success": {"const": False}, "message": _TEXT}),
        "still_open": {"type": "array", "items": _object({"side": _SIDE, "quantity": _NUMBER, "paper": _BOOLEAN})},
    },
)
_SKIPPED: Final = _object({**_MADE, "action": {"const": "skipped"}, "reason": _TEXT, **_ENDED}, {"closed": _HALF})
_UNDONE: Final = _object({**_FILL, "exitPrice": _NUMBER, "exit_order_id": _TEXT})
_REJECTED: Final = _no({"closed": _HALF, "undone": _UNDONE}, action={"const": "rejected"}, reason=_TEXT, **_ENDED)
_UNPROTECTED: Final = _no({"closed": _HALF}, action={"const": "unprotected"}, reason=_TEXT, **_TRADED)

SIGNAL_ANSWERS: Final[dict[int | str, Schema]] = {
    200: _answer(
        "Done, skipped, or refused by the venue (`success` says which)",
        {"oneOf": [_OPENED, _CLOSED, _SKIPPED, _REJECTED, _UNPROTECTED]},
    ),
    400: _answer(
        "Fields are missing or wrong; `fields` names all of them, `field` the first, `error` each one's reason",
        _no({"hint": _TEXT}, field=_TEXT, fields={"type": "array", "items": _TEXT, "minItems": 1}),
    ),
    401: _answer("No valid secret or signature", _no(hint=_TEXT)),
    408: _answer(f"The body took longer than {BODY_TIMEOUT_S:g} s", _no()),
    409: _answer("The same signal_id with another body", _no(message=_TEXT)),
    413: _answer(f"More than {BODY_LIMIT_BYTES} bytes", _no()),
    429: _answer(
        "A risk limit, which `data.limitType` names; or, without `data`, too many signals of one person",
        {"anyOf": [_OVER, _no(error={"const": "Too many requests"}, message=_TEXT)]},
    ),
    500: _answer("Our own fault; sending again resumes it", _no(duration=_ENDED["duration"])),
    503: _answer("Send again after Retry-After seconds", _no(), _RETRY_AFTER),
}
_UPTIME: Final = {"status": _TEXT, "uptime": _NUMBER, "uptimeFormatted": _TEXT, "apiStatus": _TEXT}
_OF_SERVER: Final = _object({**_UPTIME, "openPositions": {"type": ["integer", "null"]}, "timestamp": _TEXT})
SERVER_HEALTH: Final[dict[int | str, Schema]] = {
    200: _answer("The database answers", _OF_SERVER),
    503: _answer("The database does not answer", _OF_SERVER),
}
LIVE: Final[dict[int | str, Schema]] = {200: _answer("The server serves", _object({"status": {"const": "ok"}}))}
_ROLE: Final = {"status": {"enum": ["executing", "standing by"]}, "timestamp": _TEXT}
ROLE: Final[dict[int | str, Schema]] = {
    200: _answer("This server executes", _object(_ROLE)),
    503: _answer("Another server executes, or nobody does yet", _object(_ROLE)),
}
_STATES: Final = ["idle", "waiting", "ok", "stalled", "unknown"]
_STATED: Final = {"status": {"enum": _STATES}, "activeStrategies": {"type": "integer"}}
_LAST: Final = {"lastCycle": {"type": ["string", "null"]}, "metrics": {"type": "object"}, "timestamp": _TEXT}
_OF_ENGINE: Final = _object({**_STATED, **_LAST})
_NONE: Final = {"type": "null"}
_BLIND: Final = _object(
    {"status": {"const": "unhealthy"}, "error": _TEXT, "timestamp": _TEXT}
    | {"activeStrategies": _NONE, "lastCycle": _NONE, "metrics": {"type": "object"}}
)
ENGINE_HEALTH: Final[dict[int | str, Schema]] = {
    200: _answer("Strategies decide, or none runs", _OF_ENGINE),
    503: _answer("Running strategies have stopped deciding, or nobody knows", {"anyOf": [_OF_ENGINE, _BLIND]}),
}
_HELD: Final = {
    "symbol": _TEXT,
    "side": {"enum": ["LONG", "SHORT"]},
    "quantity": _NUMBER,
    "entry_price": _NUMBER,
    "funding_usd": _NUMBER,
}
_MARGIN: Final = {
    "margin_mode": {"enum": ["isolated", "cross", None]},
    "liquidation_price": {"anyOf": [_NUMBER, {"type": "null"}]},
}
_POSITIONS: Final = {"type": "array", "items": _object(_HELD, _MARGIN)}
POSITIONS: Final[dict[int | str, Schema]] = {
    200: _answer(
        "What the owner of the secret holds",
        _object({**_MADE, "count": {"type": "integer"}, "positions": _POSITIONS}),
    ),
    401: SIGNAL_ANSWERS[401],
    503: SIGNAL_ANSWERS[503],
}
