"""A copy of the migrations and of the functions' source, to change."""

import shutil
from pathlib import Path

import pytest

MIGRATIONS = Path(__file__).parents[3] / "migrations"


class Copy:
    """The folder of the migrations, and what tests do to the functions in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        return self.folder / "functions" / name

    def replace(self, file: str, old: str, new: str) -> None:
        text = self.file(file).read_text()
        assert old in text
        self.file(file).write_text(text.replace(old, new))

    def add(self, file: str, text: str) -> None:
        path = self.file(file)
        path.write_text((path.read_text() if path.exists() else "") + text)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return Copy(tmp_path / "migrations")
