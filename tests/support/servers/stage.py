"""One server for many tests, as a server takes a fifth of a second to stop; each test brings its own application."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Stage:
    """Serves `app`, which may be changed between two requests."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.app(scope, receive, send)
