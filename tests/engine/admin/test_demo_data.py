import base64

from engine.admin.demo_data import DEMO_USER, generate_webhook_secret, seed_demo
from engine.domain.strategy import RiskProfile
from engine.platform.settings.settings import Settings
from engine.store.store import Store


def test_an_empty_database_gets_one_running_paper_strategy_per_profile(store: Store) -> None:
    names = seed_demo(store, Settings(sparky_demo_cadence_s=7))
    rows = store.list_strategies()
    assert tuple(row.name for row in rows) == names
    assert {row.risk_profile for row in rows} == {profile.value for profile in RiskProfile}
    assert all(row.status == "running" and row.is_paper_trading and row.cadence_seconds == 7 for row in rows)
    assert len(store.list_running_strategies()) == 3


def test_the_demo_user_gets_a_webhook_secret_that_lets_it_in(store: Store) -> None:
    seed_demo(store, Settings())
    secret = store.get_webhook_secret(store.ensure_user(DEMO_USER))
    assert secret is not None
    prefix, _, encoded = secret.get_secret_value().partition("_")
    assert prefix == "whsec"
    assert len(base64.b64decode(encoded)) == 32


def test_a_database_with_any_strategy_even_a_terminated_one_is_left_alone(store: Store) -> None:
    seed_demo(store, Settings())
    for row in store.list_strategies():
        store.delete_strategy(row.id)
    assert seed_demo(store, Settings()) == ()
    assert store.list_running_strategies() == ()


def test_two_secrets_are_never_the_same() -> None:
    assert generate_webhook_secret() != generate_webhook_secret()
