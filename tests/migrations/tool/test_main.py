"""The command behind `make migration`: what it says, and with which exit code."""

import pytest

from engine.store.schema.migrate import read_migrations
from migrations.tool.__main__ import main


@pytest.mark.parametrize("arguments", [[], ["two", "words"], ["Two"]])
def test_a_name_that_is_none_is_told_and_writes_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_migrations()

    assert main(arguments) == 1

    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("NAME must be words in small letters")
    assert read_migrations() == before


def test_that_nothing_has_changed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    before = read_migrations()

    assert main(["nothing_new"]) == 0

    assert capsys.readouterr().out == "No function has changed, so nothing was written.\n"
    assert read_migrations() == before
