"""Misbehaviour on request, for both simulators: what a test or a person asks for over the control address happens next.

``POST /_control/faults`` with a JSON list replaces the standing orders, ``GET`` shows what is left, ``DELETE`` clears;
only from the same host. Example: ``[{"kind": "status", "status": 429, "headers": {"retry-after": "2"}, "times": 3}]``.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.platform.values import Frozen

CONTROL: Final = "/_control/faults"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: the peer gets an RST


class Fault(Frozen):
    """One order to misbehave, for requests whose path contains `path`.

    - ``status``: answer `status` with `headers` and `body` (any status, any text; also garbage with 200).
    - ``hang``: no byte for `seconds`, then the connection is reset.
    - ``drip``: 200 and then one byte every `seconds` without end. - ``reset``: the connection is reset.
    - ``truncate``: the true answer's headers and half of its body. - ``huge``: `size` bytes of filler.
    - ``edit``: the true answer with other values at some places of its JSON, such as ``{"choices.0.finish_reason":
    "length"}`` in `replace`, and without those in `drop`.

    With `accept` the true server handles the request first, so that its effect happens and only the answer is lost.
    `times` is how often; None: until told otherwise. `after` lets that many matching requests through before.
    """

    kind: Literal["status", "hang", "drip", "reset", "truncate", "huge", "edit"]
    path: str = ""
    method: str | None = None
    times: int | None = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    accept: bool = False
    status: int = Field(default=500, ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    seconds: float = Field(default=1.0, gt=0)
    size: int = Field(default=64 * 1024 * 1024, gt=0)
    replace: dict[str, Any] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()


FAULT_LIST: Final = TypeAdapter(tuple[Fault, ...])


class Faults:
    """The standing orders, first match first."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self.active = list(faults)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, if any; counts it."""
        for index, fault in enumerate(self.active):
            if fault.path in path and fault.method in (None, method):
                return self._count_use(index, fault)
        return None

    def _count_use(self, index: int, fault: Fault) -> Fault | None:
        if fault.after:
            self.active[index] = fault.model_copy(update={"after": fault.after - 1})
            return None
        if fault.times == 1:
            del self.active[index]
        elif fault.times is not None:
            self.active[index] = fault.model_copy(update={"times": fault.times - 1})
        return fault


def with_faults(app: ASGIApp, faults: Faults) -> ASGIApp:
    """`app` behind the control address and whatever it was told to do."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif scope["path"] == CONTROL:
            await (await _handle_control(Request(scope, receive), faults))(scope, receive, send)
        elif fault := faults.take(scope["method"], scope["path"]):
            await _misbehave(fault, app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


async def _handle_control(request: Request, faults: Faults) -> Response:
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    if request.method == "DELETE":
        faults.active.clear()
    if request.method == "POST":
        try:
            faults.active = list(FAULT_LIST.validate_json(await request.body()))
        except ValidationError as error:
            return JSONResponse({"error": json.loads(error.json(include_url=False))}, 400)
    return JSONResponse([fault.model_dump() for fault in faults.active])


async def _misbehave(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    is_true = fault.accept or fault.kind in ("truncate", "edit")
    answer = await _true_answer(app, scope, receive) if is_true else []
    if fault.kind == "truncate":
        await _send_truncated(answer, send)
    elif fault.kind == "edit":
        await _send_edited(fault, answer, send)
    elif fault.kind == "hang":
        await _wait_for_disconnect(receive, fault.seconds)
        await _reset(receive, send)
    elif fault.kind == "reset":
        await _reset(receive, send)
    else:
        await _build_response(fault)(scope, receive, send)


def _build_response(fault: Fault) -> Response:
    if fault.kind == "drip":
        return StreamingResponse(_drip(fault.seconds), media_type="application/json")
    if fault.kind == "huge":
        return Response(b'{"filler":"' + b"x" * fault.size + b'"}', media_type="application/json")
    return Response(fault.body, fault.status, {"content-type": "application/json", **fault.headers})


async def _drip(seconds: float) -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(seconds)


async def _true_answer(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    messages: list[Message] = []

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, collect)
    return messages


async def _send_truncated(answer: list[Message], send: Send) -> None:
    start, *bodies = answer
    body = b"".join(message.get("body", b"") for message in bodies)
    await send(start)  # with the length of the whole
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    _transport(send).close()


async def _send_edited(fault: Fault, answer: list[Message], send: Send) -> None:
    start, *bodies = answer
    body = json.loads(b"".join(message.get("body", b"") for message in bodies))
    for path in (*fault.replace, *fault.drop):
        *parents, last = path.split(".")
        place = body
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        if path in fault.replace:
            place[int(last) if isinstance(place, list) else last] = fault.replace[path]
        else:
            del place[int(last) if isinstance(place, list) else last]
    content = json.dumps(body).encode()
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    await send({**start, "headers": [*headers, (b"content-length", str(len(content)).encode())]})
    await send({"type": "http.response.body", "body": content})


async def _wait_for_disconnect(receive: Receive, seconds: float) -> None:
    """Waits, but not longer than the client does."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


async def _reset(receive: Receive, send: Send) -> None:
    transport = _transport(send)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(send: Send) -> Any:
    """The connection itself. ASGI hides it; uvicorn's `send` is a method of the request cycle, which has it."""
    return send.__self__.transport  # type: ignore[attr-defined] # see above
