"""The encryption key in a home's `encryption.key`, used if SPARKY_ENCRYPTION_KEY is not set."""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from engine.platform.encryption import new_key, parse_keys
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings

_MAX_BYTES: Final = 1_000


def get_key_path(settings: Settings) -> Path:
    return settings.sparky_home / "encryption.key"


def load_key(settings: Settings) -> Settings:
    """`settings` with the key of their home, if they have none and the home has one.

    Raises ConfigurationError if other users may read the file, or it is not a key.
    """
    path = get_key_path(settings)
    if settings.sparky_encryption_key is not None:
        return settings
    try:
        if not path.exists():
            return settings
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigurationError(f"Others may read {path}: chmod 600 it, and rotate the key if they are strangers.")
        text = path.read_text("ascii")[:_MAX_BYTES].strip()
        parse_keys(text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} {error}.") from None
    return settings.model_copy(update={"sparky_encryption_key": SecretStr(text)})


def ensure_key(settings: Settings) -> Settings:
    """As `load_key`; creates a key for a home without one. Raises ConfigurationError."""
    settings = load_key(settings)
    if settings.sparky_encryption_key is not None:
        return settings
    try:
        settings.sparky_home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(get_key_path(settings), new_key().get_secret_value() + "\n")
    except FileExistsError:
        pass  # another process has just made it
    except OSError as error:
        raise ConfigurationError(f"SPARKY_HOME cannot be used: {error.strerror}: {error.filename}") from None
    return load_key(settings)


def _write(path: Path, text: str) -> None:
    """Creates the file atomically, readable by its owner only. Raises FileExistsError."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")  # so that drafts of other processes do not collide
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    finally:
        fresh.unlink()
