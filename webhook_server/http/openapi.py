"""What OpenAPI says of requests and responses, out of the models of both.

FastAPI cannot derive the request: routes take the raw body, since a signature covers its bytes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from webhook_server.http.read_models import (
    EngineHealthBody,
    EngineUnknownBody,
    LeaseStatusBody,
    LivenessBody,
    PositionsBody,
    ServerHealthBody,
)
from webhook_server.http.response_models import (
    ConflictBody,
    ErrorBody,
    ExecutedBody,
    FailedBody,
    HintedErrorBody,
    InvalidBody,
    TooManyBody,
)
from webhook_server.intake.actions import POSITION_ACTIONS, POSITION_FIELDS
from webhook_server.intake.request_body import BODY_LIMIT_BYTES, BODY_TIMEOUT_S, SIGNATURE_HEADERS
from webhook_server.intake.schemas import WebhookSignal, list_accepted_names

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

# Two fields that senders write and the signal models lack: one becomes part of the action, the other proves the sender.
_POSITION: Final[Schema] = {
    "anyOf": [{"type": "string", "enum": list(POSITION_ACTIONS)}, {"type": "null"}],
    "description": "The position that is wanted after the signal, in any case; flat makes it an exit",
}
_SECRET: Final = {"type": "string", "description": "The user's webhook secret; not needed when the request is signed"}


def build_signal_request(model: type[WebhookSignal]) -> Schema:
    """The request of a route that takes `model`: its body, and the headers of Standard Webhooks."""
    schema = model.model_json_schema()
    body = {
        "type": "object",
        "required": schema["required"],
        "properties": {**dict(_list_properties(schema["properties"])), "secret": _SECRET},
    }
    as_text = {"type": "string", "description": "The same JSON object; the content type does not matter"}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body}, "text/plain": {"schema": as_text}},
        },
        "parameters": [_build_header_parameter(name) for name in SIGNATURE_HEADERS],
    }


def build_secret_header_request() -> Schema:
    """The request of a route that shows a person what is theirs."""
    return {"parameters": [_build_header_parameter("X-Webhook-Secret")]}


def _build_header_parameter(name: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}


def _list_properties(schemas: Schema) -> Iterator[tuple[str, Schema]]:
    """The properties of a signal, each under all of its names: pydantic describes a field under the first one alone."""
    for field in WebhookSignal.model_fields:
        names = list_accepted_names(field)
        if names[0] in schemas:  # those that only a route may set are not
            yield from _list_names(names, schemas[names[0]])
        if field == "action":
            yield from _list_names(POSITION_FIELDS, _POSITION)


def _list_names(names: Sequence[str], schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield names[0], schema
    for other in names[1:]:
        yield other, {**schema, "description": f"As {names[0]}"}


_UNAUTHENTICATED: Final[dict[str, Any]] = {"model": HintedErrorBody, "description": "No valid secret or signature"}
_RETRY_LATER: Final[dict[str, Any]] = {
    "model": ErrorBody,
    "description": "Send again after Retry-After seconds",
    "headers": {
        "Retry-After": {"required": True, "description": "seconds", "schema": {"type": "integer", "minimum": 1}}
    },
}
SIGNAL_RESPONSES: Final[Responses] = {
    200: {
        "model": ExecutedBody,
        "description": "Done, skipped, or refused by the venue (`success` says which)",
    },
    400: {
        "model": InvalidBody,
        "description": "Fields are missing or wrong; `fields` names all of them, `field` the first, `error` each one's "
        "reason",
    },
    401: _UNAUTHENTICATED,
    408: {"model": ErrorBody, "description": f"The body took longer than {BODY_TIMEOUT_S:g} s"},
    409: {"model": ConflictBody, "description": "The same signal_id with another body"},
    413: {"model": ErrorBody, "description": f"More than {BODY_LIMIT_BYTES} bytes"},
    429: {
        "model": TooManyBody,
        "description": "A risk limit, which `data.limitType` names; or, without `data`, too many signals of one person",
    },
    500: {"model": FailedBody, "description": "Our own fault; sending again resumes it"},
    503: _RETRY_LATER,
}
SERVER_HEALTH: Final[Responses] = {
    200: {"model": ServerHealthBody, "description": "The database answers"},
    503: {"model": ServerHealthBody, "description": "The database does not answer"},
}
LIVENESS: Final[Responses] = {200: {"model": LivenessBody, "description": "The server serves"}}
LEASE_STATUS: Final[Responses] = {
    200: {"model": LeaseStatusBody, "description": "This server executes"},
    503: {"model": LeaseStatusBody, "description": "Another server executes, or none does yet"},
}
ENGINE_HEALTH: Final[Responses] = {
    200: {"model": EngineHealthBody, "description": "Strategies decide, or none runs"},
    503: {
        "model": EngineHealthBody | EngineUnknownBody,
        "description": "Running strategies have stopped deciding, or it is not known whether they have",
    },
}
POSITIONS: Final[Responses] = {
    200: {"model": PositionsBody, "description": "What the owner of the secret holds"},
    401: _UNAUTHENTICATED,
    503: _RETRY_LATER,
}
