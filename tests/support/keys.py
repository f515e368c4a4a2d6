"""Keys of tests: well-formed, and worth nothing."""

from typing import Final

from pydantic import SecretStr

from engine.vault import Vault

ENCRYPTION_KEY: Final = SecretStr("pc0nlz8mTuG8Zb5YhO4mIvxBqXw1d0q7sJt2KfLr9gE=")
OTHER_KEY: Final = SecretStr("Zk3V1nQmWcR7yTg5uH8iJ2oL4pS6aD9fE0xCbNvM1hs=")


def vault() -> Vault:
    return Vault(ENCRYPTION_KEY)
