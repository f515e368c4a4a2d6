"""Secrets as the store gives them: opened for those who trade with them, and told about without telling them."""

from uuid import UUID

from pydantic import SecretStr

from engine.types import Frozen, Row, Utc


class VenueCredentials(Row):
    environment: str = "production"
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    passphrase: SecretStr | None = None
    user_address: str | None = None
    signer_address: str | None = None
    private_key: SecretStr | None = None


class CredentialsRow(Row):
    """`secrets` says of each how it is kept: ``clear``, or the name of the key that sealed it."""

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
    """One value as it stands in the database: sealed, or not yet."""

    credentials_id: UUID
    user_id: UUID
    exchange: str
    field: str
    stored: str


class Resealed(Frozen):
    """How many secrets were current already, were sealed now, did not open, and were changed by others meanwhile."""

    current: int
    sealed: int
    unreadable: int
    changed: int


class GuardReport(Row):
    """What is not as the migrations leave it; `secrets` counts by how they are kept (see CredentialsRow)."""

    without_row_level_security: tuple[str, ...]
    open_to_people: tuple[str, ...]
    readable_by_anon: tuple[str, ...]
    secrets: dict[str, int]
