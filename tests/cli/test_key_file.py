"""The key of a home is made once, readable by its owner alone, and a named key goes before it."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli import key_file
from engine.platform.encryption import parse_keys
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings
from tests.support.factories.keys import ENCRYPTION_KEY


def test_it_is_made_once_even_by_many_at_once(home: Path) -> None:
    settings = Settings(sparky_home=home / "new")

    with ThreadPoolExecutor(8) as pool:
        found = {made.sparky_encryption_key for made in pool.map(key_file.ensure_key, [settings] * 16)}

    (key,) = found
    assert key is not None
    assert parse_keys(key.get_secret_value())
    path = key_file.get_key_path(settings)
    assert [entry.name for entry in path.parent.iterdir()] == ["encryption.key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert key_file.load_key(settings).sparky_encryption_key == key


def test_a_named_key_goes_first_and_no_file_is_made(home: Path) -> None:
    settings = Settings(sparky_home=home, sparky_encryption_key=ENCRYPTION_KEY)

    assert key_file.ensure_key(settings) == settings
    assert list(home.iterdir()) == []


def test_looking_makes_nothing(home: Path) -> None:
    assert key_file.load_key(Settings(sparky_home=home)).sparky_encryption_key is None
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "mode", "sentence"),
    [("", 0o600, "must be one key"), ("password", 0o600, "weak"), (ENCRYPTION_KEY.get_secret_value(), 0o640, "Others")],
)
def test_a_bad_file_is_refused(home: Path, text: str, mode: int, sentence: str) -> None:
    path = home / "encryption.key"
    path.write_text(text)
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match=sentence) as caught:
        key_file.load_key(Settings(sparky_home=home))

    assert not text or text not in str(caught.value)
