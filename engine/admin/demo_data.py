"""Demo data for an empty database: a demo user with three paper strategies, one per risk profile."""

import base64
import secrets
from decimal import Decimal
from typing import Final

from pydantic import SecretStr

from engine.admin.strategy_checks import DEFAULT_SYMBOLS, NewStrategy
from engine.domain.strategy import RiskProfile, StrategyStatus
from engine.platform.settings.component_settings import PrepareSettings
from engine.store.store import Store

DEMO_USER: Final = "demo@sparky.local"
DEMO_SYMBOLS: Final = DEFAULT_SYMBOLS
MAX_POSITION_USD: Final = {
    RiskProfile.CONSERVATIVE: Decimal(500),
    RiskProfile.BALANCED: Decimal(1000),
    RiskProfile.AGGRESSIVE: Decimal(2000),
}


def generate_webhook_secret() -> SecretStr:
    """A fresh secret in the form of Standard Webhooks: ``whsec_`` and 32 random bytes in base64."""
    return SecretStr(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")


def seed_demo(store: Store, settings: PrepareSettings, symbols: tuple[str, ...] = DEMO_SYMBOLS) -> tuple[str, ...]:
    """Creates the demo user and strategies, running, when the database has no strategy at all; returns their names.

    Raises what the store raises.
    """
    if store.list_strategies():
        return ()
    user_id = store.ensure_user(DEMO_USER)
    store.set_webhook_secret(user_id, generate_webhook_secret())
    strategies = [
        store.create_strategy(
            NewStrategy(
                user_id=user_id,
                name=f"demo-{profile.value}",
                status=StrategyStatus.RUNNING,
                risk_profile=profile,
                target_assets=symbols,
                exchange=settings.exchange,
                cadence_seconds=settings.sparky_demo_cadence_s,
                max_position_usd=MAX_POSITION_USD[profile],
            )
        )
        for profile in RiskProfile
    ]
    return tuple(row.name for row in strategies)
