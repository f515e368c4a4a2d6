"""Writes docs/settings.md from the settings in the code."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from engine.platform.settings.settings import Settings

# By field; a test checks that these are exactly the fields of the settings.
MEANING: Final = {
    "groq_api_key": "Key of the model's provider. Without it (and without `GROQ_BASE_URL`) a local stand-in answers.",
    "groq_base_url": "Address of another Groq-compatible endpoint, without `/openai/v1`.",
    "groq_model": "Models to use, comma-separated: strategies without a model of their own use the first that is "
    "served.",
    "supabase_url": "URL of a Supabase project as the database; needs `SUPABASE_SERVICE_ROLE_KEY`.",
    "supabase_service_role_key": "Service-role key of that project.",
    "database_url": "DSN of a PostgreSQL (14 or newer) as the database. Without it and a Supabase project, an "
    "embedded one runs.",
    "webhook_url": "Where signals are delivered. Unset: the webhook server of `sparky up`.",
    "sparky_encryption_key": "Encrypts secrets in the database: 32 random bytes in base64 (`openssl rand -base64 32`); "
    "two, comma-separated, while rotating. `sparky up` creates `<SPARKY_HOME>/encryption.key` where it is unset.",
    "sparky_admin_token": "When set, /metrics and /status require it (`Authorization: Bearer …`).",
    "sparky_behind_tls": "`true` when a TLS terminator stands in front; other addresses than loopback need it. "
    "X-Forwarded-For of one on this host is trusted.",
    "sparky_home": "State directory: embedded database, sockets, locks. `/var/lib/sparky` for root, else `~/.sparky`.",
    "sparky_market": "Venue, by ccxt's name, or `simulator`; new strategies trade there. "
    "Unset: `aster` with a Groq key, else simulated.",
    "sparky_market_url": "Another base address of that venue.",
    "sparky_candles": "CSV of one-minute candles (`open_time_ms,open,high,low,close,volume`) for the simulated venue.",
    "sparky_sim_speed": "Market seconds per real second in the simulated venue.",
    "sparky_sim_seed": "Seed of synthetic candles.",
    "sparky_sim_groq_port": "Port of the simulated Groq, on loopback.",
    "sparky_sim_aster_port": "Port of the simulated Aster, on loopback.",
    "sparky_webhook_host": "Address that the webhook server listens on.",
    "sparky_webhook_port": "Its port.",
    "sparky_webhook_rate_per_s": "Entries per second that it accepts from one person, with bursts of twice as many.",
    "sparky_monitor_host": "Address of /metrics, /healthz and /status.",
    "sparky_monitor_port": "Their port.",
    "sparky_llm_rpm": "Requests per minute that the provider allows for a model.",
    "sparky_llm_tpm": "Tokens per minute; unset: learned from the provider's answers.",
    "sparky_llm_rpd": "Requests per day; unset: learned from the provider's answers.",
    "sparky_llm_tpd": "Tokens per day; unset: learned when the provider refuses by it.",
    "sparky_llm_concurrency": "Requests to the model in flight at once.",
    "sparky_llm_timeout_s": "Longest total time of one request to the model, in seconds.",
    "sparky_llm_reasoning_effort": "Reasoning effort of models that reason: `low`, `medium` or `high`.",
    "sparky_llm_prices": "USD per million tokens by model, as JSON, such as "
    '`{"my/model": {"input": 1, "output": 2}}`'
    "; adds to the known prices. Cached input costs as much as input unless `cached_input` is given.",
    "sparky_daily_llm_budget_usd": "USD that all strategies together may spend on the model per UTC day.",
    "sparky_cycle_deadline_s": "Longest time of one cycle, in seconds; a strategy that takes longer is killed.",
    "sparky_strategy_poll_s": "Seconds between two queries for the strategies that should run.",
    "sparky_signal_ttl_s": "Seconds after which a signal is not delivered any more.",
    "sparky_strategy_memory_mb": "Private memory (MB) at which a strategy's process is killed.",
    "sparky_demo_cadence_s": "Cadence of the demo strategies, in seconds.",
    "sparky_paper_fee_percent": "Fee of a paper fill, in percent of its notional.",
    "sparky_paper_slippage_percent": "Slippage of a paper fill against the quote, in percent.",
    "sparky_mark_interval_s": "Seconds between two rounds of marking open positions to market.",
    "sparky_log_level": "`debug`, `info`, `warning` or `error`.",
    "sparky_log_format": "`console` for people, `json` for programs, `auto` by whether stderr is a terminal.",
}

_INTRODUCTION: Final = """# Settings

Environment variables, or lines of `.env` in the working directory (the environment wins). An unknown `SPARKY_…` name is
an error. All faults are reported at once, by name. `sparky doctor` checks what they point to.

This file is written by `python -m cli.settings_doc`; a test keeps it equal to the code.

| name | default | meaning |
|---|---|---|
"""


def render_document() -> str:
    """The whole text of docs/settings.md."""
    rows = (
        f"| `{name.upper()}` | {_format_default(name, Settings.model_fields[name])} | {meaning} |\n"
        for name, meaning in MEANING.items()
    )
    return _INTRODUCTION + "".join(rows)


def _format_default(name: str, field: Any) -> str:
    if name == "sparky_home":
        return "see right"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, dict):
        return f"`{json.dumps({key: _convert_prices(item) for key, item in value.items()})}`"
    return f"`{value}`"


def _convert_prices(item: BaseModel) -> dict[str, float]:
    return {key: float(value) for key, value in item if isinstance(value, Decimal)}


if __name__ == "__main__":
    Path("docs/settings.md").write_text(render_document(), encoding="utf-8")
