"""Secrets in the database: sealed on the way in, opened on the way out, sealed where people left them in the clear."""

import hashlib
from uuid import UUID

import pytest
from pydantic import SecretStr

from engine.platform.encryption import SecretCipher, is_sealed
from engine.platform.errors import ConfigurationError, CredentialsError, SealedElsewhere
from engine.store.store import Store
from tests.support.clients.sql import Sql
from tests.support.factories.keys import ENCRYPTION_KEY, OTHER_KEY

KEYS = {
    "api_key": SecretStr("the-api-key"),
    "api_secret": SecretStr("the-api-secret"),
    "private_key": SecretStr("0x" + "ab" * 32),
    "user_address": SecretStr("0xfeed"),
}
WEBHOOK_SECRET = SecretStr("whsec_dGhpcyBpcyBhIHRlc3Qgc2VjcmV0IG9mIG91cnM=")


@pytest.fixture
def user(store: Store) -> UUID:
    return store.ensure_user("owner@example.org")


def other_keys(store: Store, keys: str | None) -> Store:
    return Store(store.rpc, SecretCipher(None if keys is None else SecretStr(keys)))


def everything(sql: Sql) -> str:
    return str(sql("select to_jsonb(c) from bot_credentials c"))


def test_what_is_stored_is_sealed_and_what_is_read_is_open(store: Store, user: UUID, sql: Sql) -> None:
    store.put_credentials(user, "aster", KEYS)
    store.set_webhook_secret(user, WEBHOOK_SECRET)

    found = store.get_venue_credentials(user, "Aster")
    assert found is not None
    assert (found.api_key, found.api_secret, found.private_key) == tuple(list(KEYS.values())[:3])
    assert (found.passphrase, found.user_address) == (None, "0xfeed")
    assert store.get_webhook_secret(user) == WEBHOOK_SECRET
    assert store.list_webhook_secrets(user) == (WEBHOOK_SECRET,)
    for secret in (*list(KEYS.values())[:3], WEBHOOK_SECRET):
        assert secret.get_secret_value() not in everything(sql)


def test_a_webhook_secret_is_found_by_its_digest_however_often_it_is_sealed(store: Store, user: UUID) -> None:
    store.set_webhook_secret(user, WEBHOOK_SECRET)
    digest = hashlib.sha256(WEBHOOK_SECRET.get_secret_value().encode()).hexdigest()
    assert store.find_user_by_secret_digest(digest) == user

    other_keys(store, f"{OTHER_KEY.get_secret_value()},{ENCRYPTION_KEY.get_secret_value()}").reseal()

    assert store.find_user_by_secret_digest(digest) == user
    store.set_webhook_secret(user, SecretStr("another-secret-of-the-same-user"))
    assert store.find_user_by_secret_digest(digest) is None


def test_what_is_not_named_stays(store: Store, user: UUID) -> None:
    store.put_credentials(user, "aster", KEYS)

    store.put_credentials(user, "ASTER", {"api_key": SecretStr("newer"), "passphrase": SecretStr("open sesame")})

    found = store.get_venue_credentials(user, "aster")
    assert found is not None
    assert (found.api_key, found.api_secret) == (SecretStr("newer"), KEYS["api_secret"])
    assert (found.passphrase, found.private_key) == (SecretStr("open sesame"), KEYS["private_key"])
    assert len(store.list_credentials()) == 1


def test_without_a_key_nothing_is_stored(store: Store, user: UUID, sql: Sql) -> None:
    keyless = other_keys(store, None)

    with pytest.raises(ConfigurationError, match="SPARKY_ENCRYPTION_KEY is not set"):
        keyless.put_credentials(user, "aster", KEYS)
    with pytest.raises(ConfigurationError, match="SPARKY_ENCRYPTION_KEY is not set"):
        keyless.set_webhook_secret(user, WEBHOOK_SECRET)
    assert sql("select 1 from bot_credentials") == []


def test_rows_in_the_clear_are_read_and_sealed_by_the_first_reading(store: Store, user: UUID, sql: Sql) -> None:
    sql(
        "insert into bot_credentials (user_id, exchange, api_key, api_secret, extra_metadata) "
        "values (%s, 'aster', 'old-key', 'old-secret', '{\"private_key\": \"old-private\", \"api_version\": \"v3\"}')",
        user,
    )
    sql("insert into bot_credentials (user_id, exchange, webhook_secret) values (%s, 'webhook', 'old-webhook')", user)
    assert other_keys(store, None).get_webhook_secret(user) == SecretStr("old-webhook")
    assert "old-webhook" in everything(sql)

    found = store.get_venue_credentials(user, "aster")

    assert found is not None
    assert (found.api_key, found.private_key) == (SecretStr("old-key"), SecretStr("old-private"))
    for old in ("old-key", "old-secret", "old-private", "old-webhook"):
        assert old not in everything(sql)
    assert "v3" in everything(sql)
    assert store.list_webhook_secrets(user) == (SecretStr("old-webhook"),)
    assert store.find_user_by_secret_digest(hashlib.sha256(b"old-webhook").hexdigest()) == user


def test_rotation_seals_everything_with_the_first_key_and_the_order_of_secrets_stays(
    store: Store, user: UUID, sql: Sql
) -> None:
    store.put_credentials(user, "aster", KEYS)
    store.put_credentials(user, "webhook", {"webhook_secret": SecretStr("first")}, "testnet")
    store.put_credentials(user, "webhook", {"webhook_secret": SecretStr("second")})
    before = store.list_webhook_secrets(user)
    rotating = other_keys(store, f"{OTHER_KEY.get_secret_value()},{ENCRYPTION_KEY.get_secret_value()}")

    done = rotating.reseal()

    assert (done.current, done.sealed, done.unreadable, done.changed) == (0, 5, 0, 0)
    assert rotating.reseal().current == 5
    renewed = other_keys(store, OTHER_KEY.get_secret_value())
    assert renewed.list_webhook_secrets(user) == before == (SecretStr("second"), SecretStr("first"))
    assert renewed.get_venue_credentials(user, "aster") is not None
    with pytest.raises(SealedElsewhere):
        store.get_webhook_secret(user)


def test_what_does_not_open_is_counted_and_left(store: Store, user: UUID, sql: Sql) -> None:
    store.put_credentials(user, "aster", KEYS)
    before = everything(sql)

    done = other_keys(store, OTHER_KEY.get_secret_value()).reseal()

    assert (done.sealed, done.unreadable) == (0, 3)
    assert everything(sql) == before


def test_a_value_that_its_owner_changed_meanwhile_is_not_overwritten(store: Store, user: UUID, sql: Sql) -> None:
    sql("insert into bot_credentials (user_id, exchange, api_key) values (%s, 'aster', 'first')", user)
    ((id_,),) = sql("select id from bot_credentials")

    answer = store.rpc.call("reseal_secret", credentials_id=id_, field="api_key", before="older", after="enc:v1:x:y")

    assert answer is False
    assert sql("select api_key from bot_credentials") == [("first",)]


def test_a_sealed_value_moved_to_another_person_does_not_open(store: Store, user: UUID, sql: Sql) -> None:
    thief = store.ensure_user("thief@example.org")
    store.put_credentials(user, "aster", KEYS)

    sql(
        "insert into bot_credentials (user_id, exchange, api_key) select %s, exchange, api_key from bot_credentials",
        thief,
    )

    with pytest.raises(CredentialsError, match="another place"):
        store.get_venue_credentials(thief, "aster")


def test_a_listing_tells_no_secret(store: Store, user: UUID, sql: Sql) -> None:
    store.put_credentials(user, "aster", KEYS)
    sql("insert into bot_credentials (user_id, exchange, webhook_secret) values (%s, 'webhook', 'in-the-clear')", user)

    aster, webhook = store.list_credentials()

    assert (aster.email, aster.exchange) == ("owner@example.org", "aster")
    assert aster.secrets == dict.fromkeys(("api_key", "api_secret", "private_key"), store.vault.sealing_id)
    assert webhook.secrets == {"webhook_secret": "clear"}
    assert "in-the-clear" not in repr((aster, webhook))
    assert store.get_security_report().secrets == {"clear": 1, store.vault.sealing_id: 3}


def test_an_unknown_field_is_refused(store: Store, user: UUID) -> None:
    with pytest.raises(ConfigurationError, match="no field called pin"):
        store.put_credentials(user, "aster", {"pin": SecretStr("1234")})


def test_sealed_text_is_recognised(store: Store, user: UUID, sql: Sql) -> None:
    store.set_webhook_secret(user, WEBHOOK_SECRET)

    ((stored,),) = sql("select webhook_secret from bot_credentials")
    assert is_sealed(str(stored))
