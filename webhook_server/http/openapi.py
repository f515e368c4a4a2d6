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
NUMERAL_SCHEMAS: Final = (_DECIMAL, _WHOLE)
_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_TIMESTAMP: Final[Schema] = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"}]}
_SCHEMA_BY_FIELD: Final[dict[str, Schema]] = {  # what stands before pydantic's own checks, and pydantic cannot tell
    "exchange": {"type": "string", "pattern": "^[A-Za-z0-9]{2,30}$", "examples": ["aster"]},
    "symbol": {
        "type": "string",
        "pattern": r"^ *[A-Za-z0-9_.:/\u0620-\uffdc-]{2,50} *$",
        "examples": ["BTCUSDT", "BINANCE:BTCUSDT.P", "BTC/USDT:USDT"],
        "description": f"A linear perpetual; {symbols.ACCEPTED_FORMS}",
    },
    "action": {"type": "string", "enum": actions.ACTION_WORDS, "description": "In any case"},
    "timestamp": _TIMESTAMP,
    "expires_at": _TIMESTAMP,
}
_TRAILING_STOP_NOTE: Final = "Every entry with it is refused: trailing stops are not kept"
_DESCRIPTIONS: Final = {
    "use_trailing_stop": f"{_TRAILING_STOP_NOTE}; false is the same as none",
    "trailing_stop_percent": _TRAILING_STOP_NOTE,
    **dict.fromkeys(("strategy", "source", "ai_confidence", "ai_reasoning"), "A note, kept with the signal"),
}
_POSITION: Final[Schema] = {
    "anyOf": [{"type": "string", "enum": tuple(actions.POSITION_ACTIONS)}, {"type": "null"}],
    "description": "The position that is wanted after the signal, in any case; flat makes it an exit",
}
_SECRET: Final = {"type": "string", "description": "The user's webhook secret; not needed when the request is signed"}
_RETRY_AFTER: Final = {
    "Retry-After": {"required": True, "description": "seconds", "schema": {"type": "integer", "minimum": 1}}
}


def signal_request(model: type[WebhookSignal]) -> Schema:
    """The request of a route that takes `model`: its body, and the headers of Standard Webhooks."""
    body = {
        "type": "object",
        "required": _list_required(model),
        "properties": {**_body_properties(model), "secret": _SECRET},
    }
    as_text = {"type": "string", "description": "The same JSON object; the content type does not matter"}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}, "text/plain": {"schema": as_text}},
        },
        "parameters": [_header_parameter(name) for name in signature_headers.HEADER_NAMES],
    }


def secret_header_request() -> Schema:
    """The request of a route that shows a person what is theirs."""
    return {"parameters": [_header_parameter("X-Webhook-Secret")]}


def _header_parameter(name: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}


def _list_required(model: type[WebhookSignal]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _body_properties(model: type[WebhookSignal]) -> Schema:
    schemas = model.model_json_schema(by_alias=True)["properties"]
    properties: Schema = {}
    for name, field in model.model_fields.items():
        if name in SET_BY_ROUTE:
            continue
        alias = field.validation_alias
        names = [str(each) for each in alias.choices] if isinstance(alias, AliasChoices) else [name]
        properties[names[0]] = _SCHEMA_BY_FIELD.get(name) or _normalize_bounds(schemas[names[0]]) | _description_of(
            name
        )
        properties |= _alias_properties(names, properties[names[0]])
        if name == "action":
            properties[actions.POSITION_FIELDS[0]] = _POSITION
            properties |= _alias_properties(actions.POSITION_FIELDS, _POSITION)
    return properties


def _description_of(name: str) -> Schema:
    return {"description": _DESCRIPTIONS[name]} if name in _DESCRIPTIONS else {}


def _alias_properties(names: Sequence[str], schema: Schema) -> Schema:
    return {other: {**schema, "description": f"As {names[0]}"} for other in names[1:]}


def _normalize_bounds(schema: Schema) -> Schema:
    """pydantic leaves bounds of Decimals in its own words, and does not know that numbers may come as text."""
    branches: list[Schema] = [dict(each) for each in schema.get("anyOf", [schema])]
    if "anyOf" in branches[0]:  # optional: the number with its bounds, or null
        return {"anyOf": [*_normalize_bounds(branches[0])["anyOf"], *branches[1:]]}
    bounds = {_BOUNDS[key]: float(value) for key, value in {**schema, **branches[0]}.items() if key in _BOUNDS}
    plain_branches = [
        {key: value for key, value in each.items() if key not in (*_BOUNDS, "title", "default")} for each in branches
    ]
    if plain_branches[0].get("type") not in {"number", "integer"}:
        return {"anyOf": plain_branches} if len(plain_branches) > 1 else plain_branches[0]
    others = [each for each in plain_branches[1:] if each != _TEXT]
    numeral = _WHOLE if plain_branches[0]["type"] == "integer" else _DECIMAL
    return {"anyOf": [{"type": plain_branches[0]["type"], **bounds}, numeral, *others]}


def _object_schema(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _response(text: str, schema: Schema, headers: Schema | None = None) -> Schema:
    response = {"description": text, "content": {"application/json": {"schema": schema}}}
    return response if headers is None else {**response, "headers": headers}


def _failure_schema(optional: Schema | None = None, **required: Schema) -> Schema:
    return _object_schema({"success": {"const": False}, "error": _TEXT, **required}, optional)


_REQUEST_FIELDS: Final[Schema] = {"signal_id": _TEXT, "duration": {"type": "integer", "minimum": 0}}
_SIDE: Final[Schema] = {"enum": ["LONG", "SHORT"]}
_BOOLEAN: Final[Schema] = {"type": "boolean"}
_FILL_FIELDS: Final[Schema] = {
    "exchange": _TEXT,
    "symbol": _TEXT,
    "side": _SIDE,
    "order_id": _TEXT,
    "orderId": _TEXT,
    "fill_price": _NUMBER,
    "quantity": _NUMBER,
    "fee_usd": _NUMBER,
}
_TRADE_FIELDS: Final[Schema] = {**_FILL_FIELDS, "paper": _BOOLEAN, **_REQUEST_FIELDS}
_LIMIT_DATA: Final = _object_schema(
    {"limitType": {"enum": [each.value for each in LimitType]}, "current": {}, "limit": {}}
)
_LIMIT_BREACH: Final = _failure_schema(error={"const": "Risk limit exceeded"}, message=_TEXT, data=_LIMIT_DATA)
_PNL: Final = _object_schema({"usd": _NUMBER, "percent": _NUMBER})
_CLOSED_LEG: Final = _object_schema(
    {"order_id": _TEXT, "fill_price": _NUMBER, "quantity": _NUMBER, "fee_usd": _NUMBER, "pnl": _PNL}
)
_SUCCESS: Final = {"success": {"const": True}}
_TEXT_OR_NONE: Final[Schema] = {"type": ["string", "null"]}
_PRICE_OR_NONE: Final[Schema] = {"type": ["number", "null"]}
_WHOLE_POSITION: Final = _object_schema(
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
_OPENED: Final = _object_schema(
    {
        **_SUCCESS,
        "action": {"const": "opened"},
        **_TRADE_FIELDS,
        "position_size_usd": _NUMBER,
        "position": _WHOLE_POSITION,
        "requested_usd": _NUMBER,
        "allowed_usd": _NUMBER,
        "reduced_by": {
            "type": "array",
            "items": {"enum": [each.value for each in ReducedBy]},
        },
    },
    {"closed": _CLOSED_LEG},
)
_CLOSED: Final = _object_schema(
    {
        **_SUCCESS,
        "action": {"const": "closed"},
        **_TRADE_FIELDS,
        "order_id": _TEXT_OR_NONE,  # what is too little for any order ends without one
        "orderId": _TEXT_OR_NONE,
        "exitPrice": _NUMBER,
        "remaining_quantity": _NUMBER,
        "pnl": _PNL,
    },
    {
        "dust": _object_schema({"quantity": _NUMBER, "usd": _NUMBER}),
        "entryRefused": _object_schema({"success": {"const": False}, "message": _TEXT}),
        "still_open": {
            "type": "array",
            "items": _object_schema({"side": _SIDE, "quantity": _NUMBER, "paper": _BOOLEAN}),
        },
    },
)
_SKIPPED: Final = _object_schema(
    {**_SUCCESS, "action": {"const": "skipped"}, "reason": _TEXT, **_REQUEST_FIELDS}, {"closed": _CLOSED_LEG}
)
_UNDONE: Final = _object_schema({**_FILL_FIELDS, "exitPrice": _NUMBER, "exit_order_id": _TEXT})
_REJECTED: Final = _failure_schema(
    {"closed": _CLOSED_LEG, "undone": _UNDONE}, action={"const": "rejected"}, reason=_TEXT, **_REQUEST_FIELDS
)
_UNPROTECTED: Final = _failure_schema(
    {"closed": _CLOSED_LEG}, action={"const": "unprotected"}, reason=_TEXT, **_TRADE_FIELDS
)

SIGNAL_RESPONSES: Final[dict[int | str, Schema]] = {
    200: _response(
        "Done, skipped, or refused by the venue (`success` says which)",
        {"oneOf": [_OPENED, _CLOSED, _SKIPPED, _REJECTED, _UNPROTECTED]},
    ),
    400: _response(
        "Fields are missing or wrong; `fields` names all of them, `field` the first, `error` each one's reason",
        _failure_schema({"hint": _TEXT}, field=_TEXT, fields={"type": "array", "items": _TEXT, "minItems": 1}),
    ),
    401: _response("No valid secret or signature", _failure_schema(hint=_TEXT)),
    408: _response(f"The body took longer than {BODY_TIMEOUT_S:g} s", _failure_schema()),
    409: _response("The same signal_id with another body", _failure_schema(message=_TEXT)),
    413: _response(f"More than {BODY_LIMIT_BYTES} bytes", _failure_schema()),
    429: _response(
        "A risk limit, which `data.limitType` names; or, without `data`, too many signals of one person",
        {"anyOf": [_LIMIT_BREACH, _failure_schema(error={"const": "Too many requests"}, message=_TEXT)]},
    ),
    500: _response("Our own fault; sending again resumes it", _failure_schema(duration=_REQUEST_FIELDS["duration"])),
    503: _response("Send again after Retry-After seconds", _failure_schema(), _RETRY_AFTER),
}
_UPTIME: Final = {"status": _TEXT, "uptime": _NUMBER, "uptimeFormatted": _TEXT, "apiStatus": _TEXT}
_SERVER_HEALTH: Final = _object_schema({**_UPTIME, "openPositions": {"type": ["integer", "null"]}, "timestamp": _TEXT})
SERVER_HEALTH: Final[dict[int | str, Schema]] = {
    200: _response("The database answers", _SERVER_HEALTH),
    503: _response("The database does not answer", _SERVER_HEALTH),
}
LIVENESS: Final[dict[int | str, Schema]] = {
    200: _response("The server serves", _object_schema({"status": {"const": "ok"}}))
}
_LEASE_STATUS: Final = {"status": {"enum": ["executing", "standing by"]}, "timestamp": _TEXT}
LEASE_STATUS: Final[dict[int | str, Schema]] = {
    200: _response("This server executes", _object_schema(_LEASE_STATUS)),
    503: _response("Another server executes, or nobody does yet", _object_schema(_LEASE_STATUS)),
}
_ENGINE_STATES: Final = ["idle", "waiting", "ok", "stalled", "unknown"]
_ENGINE_STATUS: Final = {"status": {"enum": _ENGINE_STATES}, "activeStrategies": {"type": "integer"}}
_LAST_CYCLE: Final = {"lastCycle": {"type": ["string", "null"]}, "metrics": {"type": "object"}, "timestamp": _TEXT}
_ENGINE_HEALTH: Final = _object_schema({**_ENGINE_STATUS, **_LAST_CYCLE})
_NULL: Final = {"type": "null"}
_ENGINE_UNKNOWN: Final = _object_schema(
    {"status": {"const": "unhealthy"}, "error": _TEXT, "timestamp": _TEXT}
    | {"activeStrategies": _NULL, "lastCycle": _NULL, "metrics": {"type": "object"}}
)
ENGINE_HEALTH: Final[dict[int | str, Schema]] = {
    200: _response("Strategies decide, or none runs", _ENGINE_HEALTH),
    503: _response(
        "Running strategies have stopped deciding, or nobody knows", {"anyOf": [_ENGINE_HEALTH, _ENGINE_UNKNOWN]}
    ),
}
_POSITION_FIELDS: Final = {
    "symbol": _TEXT,
    "side": {"enum": ["LONG", "SHORT"]},
    "quantity": _NUMBER,
    "entry_price": _NUMBER,
    "funding_usd": _NUMBER,
}
_MARGIN_FIELDS: Final = {
    "margin_mode": {"enum": ["isolated", "cross", None]},
    "liquidation_price": {"anyOf": [_NUMBER, {"type": "null"}]},
}
_POSITIONS: Final = {"type": "array", "items": _object_schema(_POSITION_FIELDS, _MARGIN_FIELDS)}
POSITIONS: Final[dict[int | str, Schema]] = {
    200: _response(
        "What the owner of the secret holds",
        _object_schema({**_SUCCESS, "count": {"type": "integer"}, "positions": _POSITIONS}),
    ),
    401: SIGNAL_RESPONSES[401],
    503: SIGNAL_RESPONSES[503],
}
