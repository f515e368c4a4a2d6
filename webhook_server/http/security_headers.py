"""Security headers on every response, and access control of /metrics.

The server has no pages for browsers except /docs, but a browser on the same host can be made to request it.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from pydantic import SecretStr

from engine.platform.settings.settings import names_loopback
from webhook_server.http.ascii_json import AsciiJson
from webhook_server.http.response_models import ErrorBody

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

METRICS_PATH: Final = "/metrics"
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class SecurityHeadersMiddleware:
    """ASGI middleware: adds the headers that `inner` did not set. With a `token`, /metrics requires it as a bearer.

    With `only_loopback_names`, /metrics responds 421 unless the Host header names a loopback address: otherwise a web
    page could read it through a DNS name of its own that resolves to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, inner: AsgiApp, token: SecretStr | None, *, only_loopback_names: bool) -> None:
        self._inner = inner
        self._only_loopback_names = only_loopback_names
        self._authorization = None if token is None else f"Bearer {token.get_secret_value()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message.get("headers", ())}
                more = [header for header in _HEADERS if header[0] not in present]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        inner = self._authorize_metrics(dict(scope["headers"])) if scope["path"] == METRICS_PATH else self._inner
        await inner(scope, receive, send_with_headers)

    def _authorize_metrics(self, headers: Mapping[bytes, bytes]) -> AsgiApp:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._only_loopback_names and not names_loopback(host):
            return _send_misdirected
        # compare_digest: == would take the longer, the more of the token is right.
        if self._authorization is None or hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            return self._inner
        return _send_unauthorized


async def _send_misdirected(scope: Scope, receive: Receive, send: Send) -> None:
    body = ErrorBody(success=False, error="This is not the host you asked for")
    await AsciiJson(body.to_json(), status_code=421)(scope, receive, send)


async def _send_unauthorized(scope: Scope, receive: Receive, send: Send) -> None:
    body = ErrorBody(success=False, error="Send SPARKY_ADMIN_TOKEN as a bearer token")
    await AsciiJson(body.to_json(), status_code=401, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
