"""Authenticates senders: `user_id` is a claim; the user's secret, or a signature made with it, is the proof."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError

from engine.platform.errors import SparkyError
from webhook_server.intake import field_reasons, sent_values
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.request_body import SIGNATURE_HEADERS, Envelope

MISSING_PROOF: Final = "No webhook secret was sent"
CACHE_TTL_S: Final = 1.0
MAX_CACHED_USERS: Final = 10_000
# Verified against when the user has no secret: the time to respond must not tell which users exist.
_DUMMY_SECRET = SecretStr("whsec_bm8gdXNlciBoYXMgdGhpcyBzZWNyZXQgb2Ygb3Vycw==")


class Unauthenticated(SparkyError):
    """The sender is not authenticated; the text is safe to send to it."""


class SecretStore(Protocol):
    """The store's functions for secrets."""

    def find_user_by_secret_digest(self, secret_sha256: str) -> UUID | None:
        """The user who owns the secret with this digest (hex)."""

    def list_webhook_secrets(self, user_id: UUID) -> Sequence[SecretStr]:
        """All valid secrets of the user; several while one is being replaced."""


class CachedSecrets:
    """Caches the secrets of `store` for CACHE_TTL_S: a withdrawn secret stays valid no longer than that. Thread-safe.

    Only found secrets are cached: a user's first secret works at once, and random user ids do not fill the cache.
    """

    def __init__(self, store: SecretStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._cache: dict[UUID, tuple[float, Sequence[SecretStr]]] = {}

    def find_user_by_secret_digest(self, secret_sha256: str) -> UUID | None:
        return self._store.find_user_by_secret_digest(secret_sha256)

    def list_webhook_secrets(self, user_id: UUID) -> Sequence[SecretStr]:
        now = self._monotonic()
        until, secrets = self._cache.get(user_id, (now, ()))
        if now < until:
            return secrets
        secrets = self._store.list_webhook_secrets(user_id)
        if len(self._cache) >= MAX_CACHED_USERS:
            self._cache.clear()
        if secrets:
            self._cache[user_id] = (now + CACHE_TTL_S, secrets)
        return secrets


def authenticate(envelope: Envelope, store: SecretStore) -> UUID:
    """The user who sent `envelope`. Every proof in it must be valid, and none may contradict the claimed `user_id`.

    Raises Unauthenticated, or FieldError when the claimed user_id is no UUID or a signed body claims none.
    """
    claimed = parse_claimed_user(envelope.body)
    is_signed = "webhook-signature" in envelope.headers
    if not is_signed and envelope.secret is None:
        raise Unauthenticated(MISSING_PROOF)
    if is_signed:
        claimed = _verify_signature(envelope, claimed, store)
    if envelope.secret is None and claimed is not None:
        return claimed
    return find_secret_owner(envelope.secret, claimed, store)


def find_secret_owner(secret: SecretStr | None, claimed: UUID | None, store: SecretStore) -> UUID:
    """The owner of the secret. Raises Unauthenticated when there is none, or when it is not `claimed`."""
    user_id = None if secret is None else store.find_user_by_secret_digest(hash_secret(secret))
    if user_id is None or (claimed is not None and not hmac.compare_digest(user_id.bytes, claimed.bytes)):
        raise Unauthenticated("Invalid webhook secret")
    return user_id


def hash_secret(secret: SecretStr) -> str:
    """SHA-256 (hex) of the secret's UTF-8 text: the key under which the store finds its owner."""
    return hashlib.sha256(secret.get_secret_value().encode("utf-8", "surrogatepass")).hexdigest()


def parse_claimed_user(body: Mapping[str, Any]) -> UUID | None:
    """The `user_id` that the body claims, unproven."""
    claim = body.get("user_id") or body.get("userId")
    if claim is None or claim == "":
        return None
    try:
        return UUID(claim)
    except (ValueError, AttributeError, TypeError):
        raise FieldError(
            "user_id", field_reasons.UNFILLED_PLACEHOLDER if sent_values.has_placeholder(claim) else "must be a UUID"
        ) from None


def _verify_signature(envelope: Envelope, claimed: UUID | None, store: SecretStore) -> UUID:
    if claimed is None:
        raise FieldError("user_id", "a signed body must say whose secret signed it")  # secrets are stored by user
    secrets = store.list_webhook_secrets(claimed) or (_DUMMY_SECRET,)
    headers = {name: envelope.headers.get(name, "") for name in SIGNATURE_HEADERS}
    matches = [
        _is_signed_with(secret, envelope.raw, headers) for secret in secrets
    ]  # all are tried, as any() would stop early: equal time
    if not any(matches):
        raise Unauthenticated("Invalid webhook signature")
    return claimed


def _is_signed_with(secret: SecretStr, raw: bytes, headers: dict[str, str]) -> bool:
    """Standard Webhooks 1.0.0: HMAC-SHA256 over `id.timestamp.body`, the timestamp within 5 minutes of now."""
    try:
        Webhook(secret.get_secret_value()).verify(raw, headers, json_parse=False)
    except (WebhookVerificationError, EmptyWebhookSecretError, ValueError):
        return False  # ValueError: a malformed signature header, a secret that is no base64, a body that is no UTF-8
    return True
