"""From bytes to one JSON object without a secret in it: the limits that stand before anything is understood."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from pydantic import SecretStr

from engine.errors import SparkyError
from webhook_server.proof_headers import with_standard_names
from webhook_server.schemas import FieldError

BODY_LIMIT_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0


class TooLarge(SparkyError):
    """More than BODY_LIMIT_BYTES were sent or announced."""


class TooSlow(SparkyError):
    """The body was not complete in time."""


@dataclass(frozen=True)
class Envelope:
    """A request as received: `raw` is what a signature covers, `body` is the object without its `secret`."""

    raw: bytes
    body: Mapping[str, Any]
    secret: SecretStr | None
    headers: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical body without its secret: the same for every retry of one signal.

        `expires_at` is left out: a person who lets an undelivered signal be sent again gives it more time.
        """
        body = {name: value for name, value in self.body.items() if name != "expires_at"}
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


async def read_body(stream: AsyncIterator[bytes], announced: str | None, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be, TooSlow when it takes longer than `timeout_s`."""
    if announced is not None and announced.isdecimal() and int(announced[:20]) > BODY_LIMIT_BYTES:
        raise TooLarge
    received = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in stream:
                received += chunk
                if len(received) > BODY_LIMIT_BYTES:
                    raise TooLarge
    except TimeoutError:
        raise TooSlow from None
    return bytes(received)


def open_envelope(raw: bytes, headers: Mapping[str, str]) -> Envelope:
    """Parses `raw` as a JSON object, whatever its content type says (charting services send text/plain).

    `headers` has lower-case names. Raises FieldError.
    """
    body = _json_object(raw)
    secret = body.pop("secret", None)
    if secret is not None and not isinstance(secret, str):
        raise FieldError("secret", "must be text")
    return Envelope(raw, body, SecretStr(secret) if secret else None, with_standard_names(headers))


def _json_object(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise FieldError("body", "is empty; send one JSON object")
    try:
        text = raw.decode("utf-8-sig")
        body = json.loads(text, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_once_each)
    except FieldError:
        raise
    except (ValueError, RecursionError, ArithmeticError):
        raise FieldError("body", "is not JSON; send one JSON object") from None
    if not isinstance(body, dict):
        raise FieldError("body", "must be one JSON object")
    return body


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON leaves open which of two fields of one name counts; where money moves, neither does."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise FieldError(name if name.isascii() and name.isidentifier() else "body", "is there more than once")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
