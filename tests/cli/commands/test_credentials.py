"""`sparky credentials`: secrets go in by stdin, are sealed, and are never shown again."""

import json

import pytest

from engine.store.store import Store
from tests.cli.conftest import Sparky
from tests.support.factories.keys import ENCRYPTION_KEY, OTHER_KEY

SECRET = "whsec_a-secret-long-enough-to-be-one"


@pytest.fixture
def sealing(sparky: Sparky) -> Sparky:
    sparky.environment["SPARKY_ENCRYPTION_KEY"] = ENCRYPTION_KEY.get_secret_value()
    return sparky


@pytest.mark.parametrize("form", [json.dumps({"api_key": "k1", "api_secret": "s1"}), "api_key=k1\napi_secret=s1\n"])
def test_keys_of_a_venue_are_read_from_stdin(sealing: Sparky, store: Store, form: str) -> None:
    done = sealing("credentials", "set", "Bybit", "--user", "owner@example.org", stdin=form)

    assert done.exit_code == 0
    assert "k1" not in done.output
    assert "Stored api_key, api_secret of owner@example.org on bybit, sealed." in done.stderr
    assert "Live trading at bybit has not been tested" in done.stderr
    found = store.get_venue_credentials(store.ensure_user("owner@example.org"), "bybit")
    assert found is not None
    assert found.api_secret is not None
    assert found.api_secret.get_secret_value() == "s1"


def test_a_webhook_secret_may_stand_alone_or_be_made(sealing: Sparky, store: Store) -> None:
    user = store.ensure_user("demo@sparky.local")

    sealing.ok("credentials", "set", "webhook", stdin=f"{SECRET}\n")
    assert [secret.get_secret_value() for secret in store.list_webhook_secrets(user)] == [SECRET]

    made = sealing.ok("credentials", "set", "webhook", "--new").strip()
    assert made.startswith("whsec_")
    assert [secret.get_secret_value() for secret in store.list_webhook_secrets(user)] == [made]


def test_the_list_tells_how_secrets_are_kept_and_nothing_else(sealing: Sparky, store: Store) -> None:
    sealing.ok("credentials", "set", "webhook", stdin=SECRET)

    (row,) = sealing.json("credentials", "list")
    table = sealing.ok("credentials", "list")

    assert row["secrets"] == {"webhook_secret": store.vault.sealing_id}
    assert SECRET not in table + str(row)
    assert str(store.vault.sealing_id) in table


def test_rotation_takes_a_second_key(sealing: Sparky, store: Store) -> None:
    sealing.ok("credentials", "set", "webhook", stdin=SECRET)
    new, old = OTHER_KEY.get_secret_value(), ENCRYPTION_KEY.get_secret_value()

    sealing.environment["SPARKY_ENCRYPTION_KEY"] = new
    done = sealing("credentials", "rotate")
    assert done.exit_code == 1
    assert "1 of the secrets do not open" in done.stderr

    sealing.environment["SPARKY_ENCRYPTION_KEY"] = f"{new},{old}"
    assert sealing.ok("credentials", "rotate") == "1 sealed now, 0 were already, 0 changed meanwhile.\n"
    sealing.environment["SPARKY_ENCRYPTION_KEY"] = new
    assert sealing.json("credentials", "rotate") == {"current": 1, "sealed": 0, "unreadable": 0, "changed": 0}


def test_without_a_key_nothing_is_stored_on_a_named_database(sparky: Sparky, store: Store) -> None:
    said = sparky.refused("credentials", "set", "webhook", stdin=SECRET, code=78)

    assert "SPARKY_ENCRYPTION_KEY is not set" in said
    assert store.list_credentials() == ()


@pytest.mark.parametrize(
    ("words", "stdin", "sentence"),
    [
        (("webhook",), "short-secret", "at least 24 characters"),
        (("aster",), "", "Nothing was given"),
        (("aster",), "hunter2hunter2", "name=value"),
        (("aster",), "hunter2hunter2==", "The fields of credentials are"),
        (("aster",), '{"api_key": "hunter2hunter2"', "not JSON"),
        (("aster",), '{"api_key": ["hunter2hunter2"]}', "values are strings"),
        (
            ("webhok", "--new"),
            "",
            "--new is for `webhook` only; webhok is taken for a venue, whose keys are made at the venue.",
        ),
    ],
)
def test_what_cannot_be_stored_is_said_without_repeating_it(
    sealing: Sparky, words: tuple[str, ...], stdin: str, sentence: str
) -> None:
    said = sealing.refused("credentials", "set", *words, stdin=stdin)

    assert sentence in said
    assert "hunter2" not in said
    assert "short-secret" not in said
