"""Keys of tests: well-formed, and worth nothing."""

from typing import Final

from eth_account import Account
from pydantic import SecretStr

from engine.platform.encryption import SecretCipher

ENCRYPTION_KEY: Final = SecretStr("pc0nlz8mTuG8Zb5YhO4mIvxBqXw1d0q7sJt2KfLr9gE=")
OTHER_KEY: Final = SecretStr("Zk3V1nQmWcR7yTg5uH8iJ2oL4pS6aD9fE0xCbNvM1hs=")
PRIVATE_KEY: Final = f"{0xC0FFEE:064x}"  # of an account at Aster
OTHER_PRIVATE_KEY: Final = f"{0xDECADE:064x}"


def aster_keys(private_key: str = PRIVATE_KEY) -> dict[str, SecretStr]:
    """Credentials of an account that signs for itself, as `Store.put_credentials` takes them."""
    address = SecretStr(Account.from_key(private_key).address)
    return {"private_key": SecretStr(private_key), "user_address": address, "signer_address": address}


def vault() -> SecretCipher:
    return SecretCipher(ENCRYPTION_KEY)
