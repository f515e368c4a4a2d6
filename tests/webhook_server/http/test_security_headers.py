"""Every response has the security headers once; /metrics is for the bearer of the token, under a name of this host."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from pydantic import SecretStr

from webhook_server.http.security_headers import METRICS_PATH, Receive, Scope, SecurityHeadersMiddleware, Send

TOKEN = SecretStr("opensesame")


async def serve_page(scope: Scope, receive: Receive, send: Send) -> None:
    """An application whose only page has a policy of its own."""
    headers = [(b"Content-Security-Policy", b"default-src 'self'")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"page"})


def ask(
    path: str, *headers: tuple[bytes, bytes], token: SecretStr | None = None, is_local: bool = False
) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers (lower-case names) of a request through the middleware."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    app = SecurityHeadersMiddleware(serve_page, token, only_loopback_names=is_local)
    scope = {"type": "http", "method": "GET", "path": path, "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], [(name.decode().lower(), value.decode()) for name, value in sent[0]["headers"]]


@pytest.mark.parametrize("path", ["/", METRICS_PATH])
def test_a_response_has_each_header_once_and_keeps_its_own(path: str) -> None:
    _, headers = ask(path)
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    assert dict(headers)["content-security-policy"] == "default-src 'self'"
    assert dict(headers)["cache-control"] == "no-store"
    assert dict(headers)["x-content-type-options"] == "nosniff"


def test_a_refusal_has_the_headers_too() -> None:
    status, headers = ask(METRICS_PATH, token=TOKEN)
    assert status == 401
    assert {"www-authenticate": "Bearer", "x-frame-options": "DENY"}.items() <= dict(headers).items()


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"Bearer opensesame", 200), (b"Bearer opensesam", 401), (b"opensesame", 401), (b"", 401), (b"bearer x", 401)],
)
def test_the_figures_are_for_the_bearer_of_the_whole_token(sent: bytes, status: int) -> None:
    assert ask(METRICS_PATH, (b"authorization", sent), token=TOKEN)[0] == status
    assert ask("/health", (b"authorization", sent), token=TOKEN)[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [(b"127.0.0.1:3000", 200), (b"localhost", 200), (b"[::1]:3000", 200), (b"evil.example", 421), (b"", 421)],
)
def test_a_foreign_name_that_resolves_to_this_host_is_refused(host: bytes, status: int) -> None:
    assert ask(METRICS_PATH, (b"host", host), is_local=True)[0] == status
    assert ask(METRICS_PATH, (b"host", host))[0] == 200


def test_a_right_token_does_not_open_the_figures_to_a_foreign_name() -> None:
    sent = (b"authorization", b"Bearer opensesame")
    assert ask(METRICS_PATH, sent, (b"host", b"evil.example"), token=TOKEN, is_local=True)[0] == 421


def test_what_is_no_http_passes_unchanged() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> Any:
        raise AssertionError("nothing is sent or received")

    asyncio.run(
        SecurityHeadersMiddleware(inner, TOKEN, only_loopback_names=True)({"type": "lifespan"}, nothing, nothing)
    )
    assert seen == ["lifespan"]
