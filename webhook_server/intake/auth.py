"""Who sends this? A `user_id` is a claim; the secret, or a signature made with it, is the proof."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError

from engine.platform.errors import SparkyError
from webhook_server.intake import field_reasons, signature_headers
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import Envelope

NO_PROOF: Final = "No webhook secret was sent"
KEPT_S: Final = 1.0
MOST_KEPT: Final = 10_000
# Compared against when the user has no secret, so that an unknown user costs the same time as a wrong signature.
_NOBODYS_SECRET = SecretStr("whsec_bm8gdXNlciBoYXMgdGhpcyBzZWNyZXQgb2Ygb3Vycw==")


class Unauthenticated(SparkyError):
    """The sender did not prove who it is; the text may be told to it."""


class SecretBook(Protocol):
    """The part of the store that knows secrets."""

    def find_user_by_secret_digest(self, secret_sha256: str) -> UUID | None:
        """The user who owns the secret with this digest (hex)."""

    def list_webhook_secrets(self, user_id: UUID) -> Sequence[SecretStr]:
        """All valid secrets of the user; several while one is being replaced."""


class RecentSecrets:
    """`book`, asked again after KEPT_S: a secret that is withdrawn is good for no longer than that. Safe for threads.

    Only what proves something is kept, never that nobody has a secret.
    """

    def __init__(self, book: SecretBook, monotonic: Callable[[], float]) -> None:
        self._book = book
        self._monotonic = monotonic
        self._kept: dict[UUID, tuple[float, Sequence[SecretStr]]] = {}

    def find_user_by_secret_digest(self, secret_sha256: str) -> UUID | None:
        return self._book.find_user_by_secret_digest(secret_sha256)

    def list_webhook_secrets(self, user_id: UUID) -> Sequence[SecretStr]:
        now = self._monotonic()
        until, secrets = self._kept.get(user_id, (now, ()))
        if now < until:
            return secrets
        secrets = self._book.list_webhook_secrets(user_id)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        if secrets:
            self._kept[user_id] = (now + KEPT_S, secrets)
        return secrets


def authenticate(envelope: Envelope, book: SecretBook) -> UUID:
    """The user who sends `envelope`. Every proof that is offered must hold; none may contradict the claimed `user_id`.

    Raises Unauthenticated, or FieldError when the claimed user_id is no UUID or a signed body claims none.
    """
    claimed = claimed_user(envelope.body)
    signed = "webhook-signature" in envelope.headers
    if not signed and envelope.secret is None:
        raise Unauthenticated(NO_PROOF)
    if signed:
        claimed = _verified(envelope, claimed, book)
    if envelope.secret is None and claimed is not None:
        return claimed
    return owner(envelope.secret, claimed, book)


def owner(secret: SecretStr | None, claimed: UUID | None, book: SecretBook) -> UUID:
    """The user whose secret this is. Raises Unauthenticated, also when it is not `claimed`."""
    user_id = None if secret is None else book.find_user_by_secret_digest(digest(secret))
    if user_id is None or (claimed is not None and not hmac.compare_digest(user_id.bytes, claimed.bytes)):
        raise Unauthenticated("Invalid webhook secret")
    return user_id


def digest(secret: SecretStr) -> str:
    """SHA-256 (hex) of the secret's UTF-8 text: the key under which the store finds its owner."""
    return hashlib.sha256(secret.get_secret_value().encode("utf-8", "surrogatepass")).hexdigest()


def claimed_user(body: Mapping[str, Any]) -> UUID | None:
    """The `user_id` that the body claims, unproven."""
    claim = body.get("user_id") or body.get("userId")
    if claim is None or claim == "":
        return None
    try:
        return UUID(claim)
    except (ValueError, AttributeError, TypeError):
        raise FieldError(
            "user_id", field_reasons.UNFILLED_PLACEHOLDER if field_reasons.has_placeholder(claim) else "must be a UUID"
        ) from None


def _verified(envelope: Envelope, claimed: UUID | None, book: SecretBook) -> UUID:
    if claimed is None:
        raise FieldError("user_id", "a signed body must say whose secret signed it")
    secrets = book.list_webhook_secrets(claimed) or (_NOBODYS_SECRET,)
    headers = {name: envelope.headers.get(name, "") for name in signature_headers.HEADER_NAMES}
    matches = [_matches(secret, envelope.raw, headers) for secret in secrets]  # all are always tried
    if not any(matches):
        raise Unauthenticated("Invalid webhook signature")
    return claimed


def _matches(secret: SecretStr, raw: bytes, headers: dict[str, str]) -> bool:
    """Standard Webhooks 1.0.0: HMAC-SHA256 over `id.timestamp.body`, at most 5 minutes old or early."""
    try:
        Webhook(secret.get_secret_value()).verify(raw, headers, json_parse=False)
    except (WebhookVerificationError, EmptyWebhookSecretError, ValueError):
        return False  # ValueError: a signature header of another shape, a secret or body that is no base64 or UTF-8
    return True
