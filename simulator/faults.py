"""``/_control/faults``: faulty HTTP answers of both simulators.

``POST`` with a JSON list replaces the faults, ``GET`` shows those left, ``DELETE`` clears them. Only from the same
host. Example: ``[{"kind": "status", "status": 429, "headers": {"retry-after": "2"}, "times": 3}]``.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.platform.values import Frozen
from simulator.control_address import with_control

CONTROL: Final = "/_control/faults"
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: the peer gets an RST


class Fault(Frozen):
    """One kind of faulty answer, to requests whose path contains `path`.

    - ``status``: answer `status` with `headers` and `body` (any status, any text; also garbage with 200).
    - ``hang``: no byte for `seconds`, then the connection is reset.
    - ``hold``: no byte until the faults are replaced or cleared, then the connection is reset.
    - ``drip``: 200 and then one byte every `seconds` without end. - ``reset``: the connection is reset.
    - ``truncate``: the real answer's headers and half of its body. - ``huge``: `size` bytes of filler.
    - ``edit``: the real answer with other values at some places of its JSON, such as ``{"choices.0.finish_reason":
    "length"}`` in `replace`, and without those in `drop`.

    With `accept` the application handles the request first, so that only the answer is lost. `times` is how often the
    fault occurs (None: until it is cleared), after `after` matching requests have passed.
    """

    kind: Literal["status", "hang", "hold", "drip", "reset", "truncate", "huge", "edit"]
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
    """The active faults; the first that matches a request is taken. `replaced` is set when others take their place."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self.active = list(faults)
        self.replaced = asyncio.Event()

    def replace(self, faults: tuple[Fault, ...]) -> None:
        """Call it on the event loop."""
        self.active = list(faults)
        self.replaced.set()
        self.replaced = asyncio.Event()

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
    """`app` behind the control address and the faults."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        fault = faults.take(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await app(scope, receive, send)
        else:
            await _answer_with_fault(fault, faults.replaced, app, scope, receive, send)

    def show() -> object:
        return [fault.model_dump() for fault in faults.active]

    return with_control(dispatch, CONTROL, show, FAULT_LIST.validate_json, faults.replace, lambda: faults.replace(()))


async def _answer_with_fault(
    fault: Fault, replaced: asyncio.Event, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    # With `accept` the application has handled the request, although its answer is discarded.
    needs_answer = fault.accept or fault.kind in ("truncate", "edit")
    answer = await _collect_answer(app, scope, receive) if needs_answer else []
    if fault.kind == "truncate":
        await _send_truncated(answer, send)
    elif fault.kind == "edit":
        await _send_edited(fault, answer, send)
    elif fault.kind == "hang":
        await _wait_for_disconnect(receive, fault.seconds)
        await _reset(receive, send)
    elif fault.kind == "hold":
        await _wait_for_disconnect_or(replaced, receive)
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


async def _collect_answer(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
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
    _get_transport(send).close()


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
    """Waits for `seconds`, or until the client disconnects."""
    try:
        async with asyncio.timeout(seconds):
            await _receive_disconnect(receive)
    except TimeoutError:
        return


async def _wait_for_disconnect_or(event: asyncio.Event, receive: Receive) -> None:
    waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(_receive_disconnect(receive))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


async def _receive_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(receive: Receive, send: Send) -> None:
    transport = _get_transport(send)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
    await _receive_disconnect(receive)


def _get_transport(send: Send) -> Any:
    """The connection. ASGI does not expose it, but uvicorn's `send` is a method of the request cycle, which has it."""
    return send.__self__.transport  # type: ignore[attr-defined] # see above
