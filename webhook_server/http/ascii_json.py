"""JSON answers in ASCII: people read them in terminals, and what others wrote must not command these."""

import json
from typing import Any

from starlette.responses import JSONResponse


class AsciiJson(JSONResponse):
    """As starlette's, with every character beyond ASCII escaped: the same JSON to a program."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
