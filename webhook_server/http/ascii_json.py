"""JSON responses in ASCII: people read them in terminals, where control characters in others' text act as commands."""

import json
from typing import Any

from starlette.responses import JSONResponse


class AsciiJson(JSONResponse):
    """starlette's JSONResponse with every character beyond ASCII escaped; to a program it is the same JSON."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
