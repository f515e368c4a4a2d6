"""Encryption of users' secrets before they are stored in the database.

AES-256-GCM (NIST SP 800-38D) with a random nonce. The associated data is the value's place, ``user/exchange/field``: a
value that is copied into another user's row, or another column, does not decrypt.
"""

import base64
import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from engine.platform.errors import ConfigurationError, CredentialsError, SealedElsewhere

if TYPE_CHECKING:  # it costs memory, and most processes never encrypt: it is imported where it is used
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX: Final = "enc:v1:"
KEY_BYTES: Final = 32
MAX_KEYS: Final = 2  # the one that seals, and while rotating the one before it
_NONCE_BYTES: Final = 12
_MIN_DISTINCT_BYTES: Final = 16  # of 32; random ones have about 30, fewer than 16 once in 10**20 keys
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_HOW: Final = "make one with: openssl rand -base64 32"


def parse_keys(text: str) -> tuple[bytes, ...]:
    """The keys in `text`, comma-separated base64, the sealing one first. Raises ValueError, which never quotes them."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_KEYS:
        raise ValueError(f"must be one key, or two separated by a comma while rotating; {_HOW}")
    return tuple(_key(part) for part in parts)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ValueError(f"must be {KEY_BYTES} random bytes in base64; {_HOW}") from None
    if len(key) != KEY_BYTES or len(set(key)) < _MIN_DISTINCT_BYTES:
        raise ValueError(f"is weak: it must be {KEY_BYTES} random bytes in base64; {_HOW}")
    return key


def new_key() -> SecretStr:
    return SecretStr(base64.b64encode(os.urandom(KEY_BYTES)).decode())


def key_id(key: bytes) -> str:
    """A public name of a key, from which it cannot be computed."""
    return hashlib.sha256(b"sparky encryption key\0" + key).hexdigest()[:8]


def is_sealed(stored: str) -> bool:
    return stored.startswith(PREFIX)


class SecretCipher:
    """Seals with the first of `keys`, opens with any. Without keys it opens what was never sealed and seals nothing."""

    def __init__(self, keys: SecretStr | None) -> None:
        parsed = () if keys is None else parse_keys(keys.get_secret_value())
        self._keys = {key_id(key): key for key in parsed}
        self.sealing_id = next(iter(self._keys), None)

    @property
    def key_ids(self) -> frozenset[str]:
        return frozenset(self._keys)

    def seal(self, secret: SecretStr, place: str) -> str:
        """Raises ConfigurationError without a key: no secret is ever written in the clear."""
        if self.sealing_id is None:
            raise ConfigurationError(
                f"SPARKY_ENCRYPTION_KEY is not set, and secrets are never stored in the clear: {_HOW}"
            )
        nonce = os.urandom(_NONCE_BYTES)
        cipher = _cipher(self._keys[self.sealing_id])
        sealed = nonce + cipher.encrypt(nonce, secret.get_secret_value().encode(), place.encode())
        return f"{PREFIX}{self.sealing_id}:{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, stored: str, place: str) -> SecretStr:
        """What was sealed, or `stored` itself if it never was.

        Raises SealedElsewhere if the key is not there, CredentialsError if the value was made for another place or
        changed.
        """
        if not is_sealed(stored):
            return SecretStr(stored)
        name, _, text = stored.removeprefix(PREFIX).partition(":")
        if name not in self._keys and _KEY_ID.fullmatch(name):
            raise SealedElsewhere(f"{place} is sealed with key {name}, which SPARKY_ENCRYPTION_KEY does not hold")
        try:
            raw = base64.urlsafe_b64decode(text)
            return SecretStr(_decrypt(self._keys.get(name, b""), raw, place))
        except ValueError:
            raise CredentialsError(f"{place} was changed since it was sealed, or sealed for another place") from None

    def is_sealed_with_current_key(self, stored: str) -> bool:
        """True if `stored` is as `seal` would leave it today: neither in the clear nor under an older key."""
        return self.sealing_id is not None and stored.startswith(f"{PREFIX}{self.sealing_id}:")


def _decrypt(key: bytes, raw: bytes, place: str) -> str:
    """Raises ValueError."""
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
    except InvalidTag:
        raise ValueError("it does not open") from None


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
