"""What is sealed opens with its key, in its place, and nowhere else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import SecretStr

from engine.platform.encryption import SecretCipher, is_sealed, key_id, new_key, parse_keys
from engine.platform.errors import ConfigurationError, CredentialsError, SealedElsewhere
from tests.support.factories.keys import ENCRYPTION_KEY, OTHER_KEY

PLACE = "user/aster/api_key"


def both(first: SecretStr, second: SecretStr) -> SecretStr:
    return SecretStr(f"{first.get_secret_value()}, {second.get_secret_value()}")


@given(some.text())
def test_what_was_sealed_is_opened(text: str) -> None:
    vault = SecretCipher(ENCRYPTION_KEY)
    if not text.isprintable():
        text = text.encode("utf-8", "replace").decode()

    sealed = vault.seal(SecretStr(text), PLACE)

    assert is_sealed(sealed)
    assert vault.open(sealed, PLACE).get_secret_value() == text
    assert len(text) < 4 or text not in sealed


def test_the_same_secret_is_never_sealed_alike() -> None:
    vault = SecretCipher(ENCRYPTION_KEY)

    assert len({vault.seal(SecretStr("same"), PLACE) for _ in range(20)}) == 20


def test_it_opens_in_its_own_place_only() -> None:
    vault = SecretCipher(ENCRYPTION_KEY)
    sealed = vault.seal(SecretStr("mine"), PLACE)

    for place in ("user/aster/api_secret", "user/other/api_key", "thief/aster/api_key"):
        with pytest.raises(CredentialsError, match="sealed for another place"):
            vault.open(sealed, place)


def test_a_changed_byte_anywhere_is_noticed() -> None:
    vault = SecretCipher(ENCRYPTION_KEY)
    sealed = vault.seal(SecretStr("hidden-value"), PLACE)
    head, _, text = sealed.rpartition(":")
    raw = bytearray(base64.urlsafe_b64decode(text))

    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1
        with pytest.raises(CredentialsError):
            vault.open(f"{head}:{base64.urlsafe_b64encode(changed).decode()}", PLACE)
    for broken in (f"{head}:", f"{head}:????", sealed[:-8], "enc:v1:", "enc:v1::"):
        with pytest.raises(CredentialsError) as caught:
            vault.open(broken, PLACE)
        assert "hidden-value" not in str(caught.value)


def test_two_keys_open_and_the_first_seals() -> None:
    old, new = SecretCipher(OTHER_KEY), SecretCipher(both(ENCRYPTION_KEY, OTHER_KEY))
    sealed = old.seal(SecretStr("kept"), PLACE)

    assert new.open(sealed, PLACE) == SecretStr("kept")
    assert not new.is_sealed_with_current_key(sealed)
    assert new.is_sealed_with_current_key(new.seal(SecretStr("kept"), PLACE))
    with pytest.raises(SealedElsewhere, match=f"sealed with key {old.sealing_id}"):
        SecretCipher(ENCRYPTION_KEY).open(sealed, PLACE)


def test_without_a_key_nothing_is_sealed_and_the_clear_is_read() -> None:
    vault = SecretCipher(None)

    assert vault.open("in the clear", PLACE) == SecretStr("in the clear")
    assert not vault.is_sealed_with_current_key("in the clear")
    with pytest.raises(ConfigurationError, match="SPARKY_ENCRYPTION_KEY is not set") as caught:
        vault.seal(SecretStr("hidden-value"), PLACE)
    assert "hidden-value" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "password",
        "correct horse battery staple, and then some more",
        base64.b64encode(bytes(32)).decode(),
        base64.b64encode(b"a" * 32).decode(),
        base64.b64encode(bytes(range(31))).decode(),
        base64.b64encode(bytes(range(64))).decode(),
        ",".join([ENCRYPTION_KEY.get_secret_value()] * 3),
    ],
)
def test_a_weak_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32") as caught:
        parse_keys(text)

    assert not text or text not in str(caught.value)


def test_keys_are_taken_in_either_alphabet_with_or_without_padding() -> None:
    (key,) = parse_keys(ENCRYPTION_KEY.get_secret_value())

    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert parse_keys(encode(key).decode().rstrip("=")) == (key,)
    assert len(key_id(key)) == 8


def test_new_keys_are_good_keys() -> None:
    keys = [parse_keys(new_key().get_secret_value())[0] for _ in range(200)]

    assert len(set(keys)) == 200
