"""Store methods and values of credentials: sealed when written, opened when read, never logged."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import structlog
from pydantic import SecretStr

from engine.platform.encryption import SecretCipher, is_sealed
from engine.platform.errors import ConfigurationError, SealedElsewhere, UpstreamUnavailable
from engine.platform.values import Frozen, Row, Utc
from engine.store.transport.rpc import Rpc

logger = structlog.get_logger()

SECRET_FIELDS: Final = ("api_key", "api_secret", "passphrase", "webhook_secret", "private_key")
PLAIN_FIELDS: Final = ("user_address", "signer_address", "label", "account_id")
WEBHOOK: Final = "webhook"


class VenueCredentials(Row):
    environment: str = "production"
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    passphrase: SecretStr | None = None
    user_address: str | None = None
    signer_address: str | None = None
    private_key: SecretStr | None = None


class CredentialsRow(Row):
    """Credentials without secret values; `secrets` maps each to ``clear`` or the id of the key that sealed it."""

    id: UUID
    user_id: UUID
    email: str | None
    exchange: str
    environment: str
    label: str | None
    secrets: dict[str, str]
    last_tested: Utc | None
    updated_at: Utc


class StoredSecret(Row):
    """One stored value, sealed or in the clear."""

    credentials_id: UUID
    user_id: UUID
    exchange: str
    field: str
    stored: str


class ResealResult(Frozen):
    """Counts of secrets: already current, sealed now, not openable, and changed by others meanwhile."""

    current: int
    sealed: int
    unreadable: int
    changed: int


class SecurityReport(Row):
    """Deviations from the migrations' access rights; `secrets` counts by how they are sealed (see CredentialsRow)."""

    without_row_level_security: tuple[str, ...]
    open_to_people: tuple[str, ...]
    readable_by_anon: tuple[str, ...]
    secrets: dict[str, int]


class SecretsStore:
    """Methods that open a secret raise SealedElsewhere when it is sealed with another key."""

    rpc: Rpc
    vault: SecretCipher

    def find_user_by_secret_digest(self, secret_sha256: str) -> UUID | None:
        """The user whose webhook secret has this SHA-256 (hex); None if there is none.

        None also for several users with the same secret, because the sender could be any of them.
        """
        user_id = self.rpc.call("user_by_secret_digest", secret_sha256=secret_sha256)
        return UUID(user_id) if user_id else None

    def get_webhook_secret(self, user_id: UUID) -> SecretStr | None:
        """The user's newest webhook secret, to sign with. Raises CredentialsError if it cannot be opened."""
        stored = self.rpc.call("webhook_secret", user_id=user_id)
        return self._open_secrets(user_id, WEBHOOK, {"webhook_secret": stored})["webhook_secret"] if stored else None

    def list_webhook_secrets(self, user_id: UUID) -> tuple[SecretStr, ...]:
        """All webhook secrets of the user, newest first. Raises CredentialsError if one cannot be opened."""
        sealed = self.rpc.call("webhook_secrets", user_id=user_id)
        return tuple(
            self._open_secrets(user_id, WEBHOOK, {"webhook_secret": text})["webhook_secret"] for text in sealed
        )

    def get_venue_credentials(self, user_id: UUID, exchange: str) -> VenueCredentials | None:
        """The user's newest credentials on the exchange, production before others.

        Raises CredentialsError if they cannot be opened.
        """
        row = self.rpc.call("venue_credentials", user_id=user_id, exchange=exchange)
        if row is None:
            return None
        stored = {field: row[field] for field in SECRET_FIELDS if row.get(field)}
        return VenueCredentials.model_validate(row | self._open_secrets(user_id, exchange, stored))

    def set_webhook_secret(self, user_id: UUID, secret: SecretStr) -> None:
        """Raises ConfigurationError without an encryption key."""
        self.put_credentials(user_id, WEBHOOK, {"webhook_secret": secret})

    def put_credentials(
        self, user_id: UUID, exchange: str, values: Mapping[str, SecretStr], environment: str = "production"
    ) -> None:
        """Stores `values` by SECRET_FIELDS and PLAIN_FIELDS; other fields stay unchanged.

        Raises ConfigurationError without an encryption key, for an unknown field, and if there is no such user.
        """
        unknown = set(values) - {*SECRET_FIELDS, *PLAIN_FIELDS}
        if unknown:
            raise ConfigurationError(f"Credentials have no field called {', '.join(sorted(unknown))}.")
        stored = {
            field: self.vault.seal(value, _build_associated_data(user_id, exchange, field))
            if field in SECRET_FIELDS
            else value.get_secret_value()
            for field, value in values.items()
        }
        if "webhook_secret" in values:
            stored["webhook_secret_sha256"] = _hash_secret(values["webhook_secret"])
        self.rpc.call("put_credentials", user_id=user_id, exchange=exchange, environment=environment, values=stored)

    def list_credentials(self) -> tuple[CredentialsRow, ...]:
        """All credentials, without their secrets."""
        return tuple(CredentialsRow.model_validate(row) for row in self.rpc.call("list_credentials"))

    def reseal(self, user_id: UUID | None = None) -> ResealResult:
        """Seals with the current key all secrets (of one user, or of all) that are in the clear or sealed with another.

        Raises ConfigurationError without an encryption key. A secret that cannot be opened is counted and left as it
        is.
        """
        secrets = [StoredSecret.model_validate(row) for row in self.rpc.call("stored_secrets", user_id=user_id)]
        outcomes = [self._reseal_one(secret) for secret in secrets]
        counted = ("current", "sealed", "unreadable", "changed")
        return ResealResult(**{outcome: outcomes.count(outcome) for outcome in counted})

    def get_security_report(self) -> SecurityReport:
        """Access rights and secrets in the database, for `sparky doctor`."""
        return SecurityReport.model_validate(self.rpc.call("security_report"))

    def _reseal_one(self, secret: StoredSecret) -> str:
        if self.vault.is_sealed_with_current_key(secret.stored):
            return "current"
        associated_data = _build_associated_data(secret.user_id, secret.exchange, secret.field)
        try:
            opened = self.vault.open(secret.stored, associated_data)
        except (ConfigurationError, SealedElsewhere) as error:
            logger.warning("secret_decryption_failed", reason=str(error))
            return "unreadable"
        # Compare and swap: a secret that a person has replaced meanwhile stays.
        is_replaced = self.rpc.call(
            "reseal_secret",
            credentials_id=secret.credentials_id,
            field=secret.field,
            before=secret.stored,
            after=self.vault.seal(opened, associated_data),
        )
        return "sealed" if is_replaced else "changed"

    def _open_secrets(self, user_id: UUID, exchange: str, stored: Mapping[str, str]) -> dict[str, Any]:
        opened = {
            field: self.vault.open(text, _build_associated_data(user_id, exchange, field))
            for field, text in stored.items()
        }
        if self.vault.sealing_id is not None and not all(is_sealed(text) for text in stored.values()):
            self._seal_clear_text(user_id)
        return opened

    def _seal_clear_text(self, user_id: UUID) -> None:
        """Seals secrets that people stored in the clear. A failed write is logged only, because the secret was read."""
        try:
            self.reseal(user_id)
        except (UpstreamUnavailable, ConfigurationError) as error:
            logger.warning("secret_not_encrypted", user=str(user_id), reason=str(error))


def _build_associated_data(user_id: UUID, exchange: str, field: str) -> str:
    """Binds a sealed secret to its place: copied to another user, venue or field it does not open."""
    return f"{user_id}/{exchange.lower()}/{field}"


def _hash_secret(secret: SecretStr) -> str:
    return hashlib.sha256(secret.get_secret_value().encode()).hexdigest()
