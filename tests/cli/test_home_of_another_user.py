"""A state directory that this user may not enter: every command says so in one sentence and claims nothing about it."""

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.conftest import Sparky

NOBODY: Final = 65534
KEY: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a second user")


def as_nobody(sparky: Sparky, *words: str) -> Any:
    """Exit code, stdout and stderr, by a process that was root while it loaded its modules."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            elsewhere = Sparky(sparky.environment | {"SPARKY_HOME": "/nowhere/at/all"})
            for loaded in (["status"], ["strategy", "list"], ["serve"]):
                elsewhere(*loaded)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            done = sparky(*words)
            told = [done.exit_code, done.stdout, done.stderr, repr(done.exception)]
            os.write(writer, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = json.loads(pipe.read())
    os.waitpid(child, 0)
    return told


@pytest.fixture
def theirs(home: Path) -> Sparky:
    """A home with an embedded database and a key, whose directory is root's alone."""
    place = home / "theirs"
    for directory in (place, place / "run", place / "postgres"):
        directory.mkdir(mode=0o700)
    (place / "encryption.key").write_text(KEY)
    home.chmod(0o711)
    return Sparky({"SPARKY_HOME": str(place)})


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize("words", ["strategy list", "migrate", "kill --show", "serve", "positions"])
def test_a_command_says_what_it_may_not_read(words: str, key: str, theirs: Sparky) -> None:
    theirs.environment["SPARKY_ENCRYPTION_KEY"] = key
    code, out, err, exception = as_nobody(theirs, *words.split())
    assert (code, out) == (78, ""), exception
    assert err.startswith("sparky: ")
    assert err.count("\n") == 1
    assert words == "serve" or "Permission denied" in err


def test_the_doctor_goes_on_behind_what_it_may_not_look_at(theirs: Sparky) -> None:
    theirs.environment["SPARKY_ENCRYPTION_KEY"] = KEY
    code, out, _, exception = as_nobody(theirs, "doctor", "--json")
    assert code == 1, exception
    states = {check["name"]: check["state"] for check in json.loads(out)}
    assert (states["home directory"], states["database"]) == ("fault", "fault")
    assert any(name.startswith("port ") for name in states)


def test_status_does_not_say_that_nothing_runs_where_it_may_not_look(theirs: Sparky) -> None:
    theirs.environment["SPARKY_ENCRYPTION_KEY"] = KEY
    code, out, err, exception = as_nobody(theirs, "status", "--json")
    assert code == 1, exception
    assert json.loads(out)["running"] is None
    assert "is not running" not in err
    assert "cannot be seen" in err
