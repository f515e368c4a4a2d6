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
        """The one user whose webhook secret has this SHA-256 (hex); None if there is none, or more than one."""
        found = self.rpc.call("user_by_secret_digest", secret_sha256=secret_sha256)
        return UUID(found) if found else None

    def get_webhook_secret(self, user_id: UUID) -> SecretStr | None:
        """The user's newest webhook secret, to sign with. Raises CredentialsError if it cannot be opened."""
        stored = self.rpc.call("webhook_secret", user_id=user_id)
        return self._open_secrets(user_id, WEBHOOK, {"webhook_secret": stored})["webhook_secret"] if stored else None

    def list_webhook_secrets(self, user_id: UUID) -> tuple[SecretStr, ...]:
        """All webhook secrets of the user, newest first. Raises CredentialsError if one cannot be opened."""
        found = self.rpc.call("webhook_secrets", user_id=user_id)
        return tuple(self._open_secrets(user_id, WEBHOOK, {"webhook_secret": one})["webhook_secret"] for one in found)

    def get_venue_credentials(self, user_id: UUID, exchange: str) -> VenueCredentials | None:
        """The user's newest credentials on the exchange, production before others.

        Raises CredentialsError if they cannot be opened.
        """
        found = self.rpc.call("venue_credentials", user_id=user_id, exchange=exchange)
        if found is None:
            return None
        stored = {field: found[field] for field in SECRET_FIELDS if found.get(field)}
        return VenueCredentials.model_validate(found | self._open_secrets(user_id, exchange, stored))

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
            stored["webhook_secret_sha256"] = _sha256(values["webhook_secret"])
        self.rpc.call("put_credentials", user_id=user_id, exchange=exchange, environment=environment, values=stored)

    def list_credentials(self) -> tuple[CredentialsRow, ...]:
        """All credentials, without their secrets."""
        return tuple(CredentialsRow.model_validate(row) for row in self.rpc.call("list_credentials"))

    def reseal(self, user_id: UUID | None = None) -> ResealResult:
        """Seals with the first key what is in the clear or under an older one, of everybody or one user.

        Raises ConfigurationError without an encryption key. What does not open is counted and left as it is.
        """
        stored = [StoredSecret.model_validate(row) for row in self.rpc.call("stored_secrets", user_id=user_id)]
        outcomes = [self._reseal_one(one) for one in stored]
        return ResealResult(**{end: outcomes.count(end) for end in ("current", "sealed", "unreadable", "changed")})

    def get_security_report(self) -> SecurityReport:
        """Access rights and secrets in the database, for `sparky doctor`."""
        return SecurityReport.model_validate(self.rpc.call("security_report"))

    def _reseal_one(self, one: StoredSecret) -> str:
        if self.vault.is_sealed_with_current_key(one.stored):
            return "current"
        associated_data = _build_associated_data(one.user_id, one.exchange, one.field)
        try:
            secret = self.vault.open(one.stored, associated_data)
        except (ConfigurationError, SealedElsewhere) as error:
            logger.warning("secret_decryption_failed", reason=str(error))
            return "unreadable"
        after = self.vault.seal(secret, associated_data)
        is_ours = self.rpc.call(
            "reseal_secret", credentials_id=one.credentials_id, field=one.field, before=one.stored, after=after
        )
        return "sealed" if is_ours else "changed"

    def _open_secrets(self, user_id: UUID, exchange: str, stored: Mapping[str, str]) -> dict[str, Any]:
        opened = {
            field: self.vault.open(text, _build_associated_data(user_id, exchange, field))
            for field, text in stored.items()
        }
        if self.vault.sealing_id is not None and not all(is_sealed(text) for text in stored.values()):
            self._seal_clear_text(user_id)
        return opened

    def _seal_clear_text(self, user_id: UUID) -> None:
        """Seals secrets that people stored in the clear. Never raises for a failed write, because reading must go
        on."""
        try:
            self.reseal(user_id)
        except (UpstreamUnavailable, ConfigurationError) as error:
            logger.warning("secret_not_encrypted", user=str(user_id), reason=str(error))


def _build_associated_data(user_id: UUID, exchange: str, field: str) -> str:
    return f"{user_id}/{exchange.lower()}/{field}"


def _sha256(secret: SecretStr) -> str:
    return hashlib.sha256(secret.get_secret_value().encode()).hexdigest()
