"""A control address in front of an application: where tests and people change what a simulator does."""

import json
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
Change = TypeVar("Change")


class ControlError(Exception):
    """A change that cannot be made; answered with 400. `code` is the venue's error code, if it has one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.body = {"error": message} | ({} if code is None else {"code": code})


def with_control(
    app: ASGIApp,
    path: str,
    show: Callable[[], object],
    parse: Callable[[bytes], Change],
    apply: Callable[[Change], None],
    clear: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """`app` with a control address at `path`, which answers requests of this host only (403 for others).

    POST applies the change that `parse` makes of the body, DELETE calls `clear`; each answers with `show()` as JSON, as
    GET does. 400 when `parse` raises ValidationError or `apply` raises ControlError.
    """

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == path:
            request = Request(scope, receive)
            response = await _make_change(request, parse, apply, clear) or JSONResponse(show())
            await response(scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


async def _make_change(
    request: Request, parse: Callable[[bytes], Change], apply: Callable[[Change], None], clear: Callable[[], None]
) -> JSONResponse | None:
    """Makes the change that is asked for; the answer if it is refused."""
    if request.client is None or request.client.host not in LOOPBACK:
        return JSONResponse({"error": "only from the same host"}, 403)
    try:
        if request.method == "DELETE":
            clear()
        elif request.method == "POST":
            apply(parse(await request.body()))
    except ValidationError as error:
        # Without the context, because that of our own validators is an exception object.
        return JSONResponse({"error": json.loads(error.json(include_url=False, include_context=False))}, 400)
    except ControlError as error:
        return JSONResponse(error.body, 400)
    return None
