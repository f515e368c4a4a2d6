"""Names of exchanges that do not exist, accounts without keys, and why a trade ended."""

from engine.store.store import Store
from tests.cli.conftest import Sparky
from tests.support.factories.keys import ENCRYPTION_KEY


def test_keys_of_an_exchange_that_does_not_exist_are_refused_with_a_suggestion(sparky: Sparky, store: Store) -> None:
    sparky.environment["SPARKY_ENCRYPTION_KEY"] = ENCRYPTION_KEY.get_secret_value()
    said = sparky.refused("credentials", "set", "astr", stdin="api_key=k\n")
    assert "aster" in said
    assert store.list_credentials() == ()


def test_a_strategy_on_an_exchange_that_does_not_exist_is_refused(sparky: Sparky, store: Store) -> None:
    assert "binance" in sparky.refused("strategy", "create", "--name", "one", "--exchange", "binanc")
    assert store.list_strategies() == ()


def test_a_live_strategy_without_keys_is_created_with_a_word_on_what_is_missing(sparky: Sparky, store: Store) -> None:
    store.ensure_user("demo@sparky.local")
    done = sparky("strategy", "create", "--name", "real", "--live", "--exchange", "aster")
    assert done.exit_code == 0
    assert "sparky credentials set aster" in done.stderr


def test_a_live_strategy_without_keys_is_a_fault_at_the_simulated_venue_too(sparky: Sparky, store: Store) -> None:
    store.ensure_user("demo@sparky.local")
    sparky.ok("strategy", "create", "--name", "real", "--live", "--exchange", "aster", "--start")
    told = sparky("doctor").output
    assert "there are no credentials for it" in told
    assert "sparky credentials set aster" in told
