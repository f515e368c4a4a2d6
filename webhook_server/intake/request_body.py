"""Reads a request within its limits of size and time, and separates the secret from the JSON object.

The limits come first: an unauthenticated sender can make the server spend no more than these.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from engine.platform.errors import SparkyError
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.json_body import parse_object
from webhook_server.intake.sent_values import UnusableNumber

BODY_LIMIT_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
SIGNATURE_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")  # of Standard Webhooks


class BodyTooLarge(SparkyError):
    """More than BODY_LIMIT_BYTES were sent or announced."""


class BodyTimeout(SparkyError):
    """The body was not complete in time."""


@dataclass(frozen=True)
class Envelope:
    """A request as received: `raw` are the bytes that a signature covers, `body` is the object without `secret`."""

    raw: bytes
    body: Mapping[str, Any]
    secret: SecretStr | None
    headers: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical body without its secret: the same for every retry of one signal.

        `expires_at` is left out: the command that sends an undelivered signal again extends it.
        """
        body = {name: value for name, value in self.body.items() if name != "expires_at"}
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()


async def read_body(
    stream: AsyncIterator[bytes], content_length: str | None, timeout_s: float = BODY_TIMEOUT_S
) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is known to be, BodyTimeout after `timeout_s`."""
    if content_length is not None and _is_too_large(content_length):
        raise BodyTooLarge
    received = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in stream:
                received += chunk
                if len(received) > BODY_LIMIT_BYTES:
                    raise BodyTooLarge
    except TimeoutError:
        raise BodyTimeout from None
    return bytes(received)


def parse_envelope(raw: bytes, headers: Mapping[str, str]) -> Envelope:
    """Parses `raw` as a JSON object, whatever its content type says (charting services send text/plain).

    `headers` has lower-case names. Raises FieldError.
    """
    body = parse_object(raw)
    secret = body.pop("secret", None)
    if isinstance(secret, UnusableNumber):
        raise FieldError("secret", secret.reason)
    if secret is not None and not isinstance(secret, str):
        raise FieldError("secret", "must be text")
    return Envelope(raw, body, SecretStr(secret) if secret else None, _with_standard_names(headers))


def _with_standard_names(headers: Mapping[str, str]) -> Mapping[str, str]:
    """`headers` (lower-case names) with Svix's own names (`svix-id` …) taken as the standard ones.

    Raises FieldError when the two names of one header have two values.
    """
    found = dict(headers)
    for name in SIGNATURE_HEADERS:
        other = name.replace("webhook-", "svix-")
        if other not in found:
            continue
        if found.setdefault(name, found[other]) != found[other]:
            raise FieldError(other, f"differs from {name}, which means the same")
    return found


def _is_too_large(content_length: str) -> bool:
    digits = content_length.strip().lstrip("0")
    if not digits.isascii() or not digits.isdigit():
        return False  # a wrong header changes nothing: the received bytes are counted
    return len(digits) > len(str(BODY_LIMIT_BYTES)) or int(digits) > BODY_LIMIT_BYTES
