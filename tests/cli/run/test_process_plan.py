import importlib
import json
from typing import get_type_hints
from uuid import UUID

import pytest
from pydantic import SecretStr

from actors.runtime.child_spec import ChildSpec, RestartPolicy
from actors.runtime.messages import DesiredChild
from actors.strategy_process_names import parse_strategy_id
from cli.run import process_plan
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings, read_environment
from tests.support.factories import keys

REAL = {
    "GROQ_API_KEY": "gsk_abcdefghijkl",
    "DATABASE_URL": "postgresql://me:hunter2hunter2@db.example/sparky",
    "SPARKY_MARKET": "aster",
}


ENCRYPTION_KEY = keys.ENCRYPTION_KEY.get_secret_value()
ENGINE = process_plan.EngineRun(UUID(int=7))


def read(**environment: str) -> Settings:
    return read_environment({"SPARKY_HOME": "/tmp/spk"} | environment)  # noqa: S108 - a name only


def names(specs: list[ChildSpec]) -> list[str]:
    return [spec.name for spec in specs]


def test_without_any_key_everything_is_local_and_in_boot_order() -> None:
    specs = process_plan.build_full_children(read(), ENGINE, has_demo=True)
    assert names(specs) == [
        "database",
        "sim-groq",
        "sim-aster",
        "monitor",
        "prepare",
        "webhook",
        "engine-lease",
        "limiter",
        "market",
        "dispatcher",
        "strategy-watcher",
    ]
    stages = {spec.name: spec.stage for spec in specs}
    assert [spec.stage for spec in specs] == sorted(stages.values())
    assert (
        stages["database"] < stages["prepare"] < stages["webhook"] < stages["dispatcher"] < stages["strategy-watcher"]
    )
    assert process_plan.build_plan(read(), ENGINE, []).build_dynamic_spec(wanted()).stage > stages["strategy-watcher"]


def test_with_keys_and_a_database_nothing_is_simulated() -> None:
    specs = process_plan.build_full_children(read(**REAL), ENGINE, has_demo=True)
    assert not {"database", "sim-groq", "sim-aster"} & set(names(specs))
    assert "webhook" in names(specs)


def test_production_is_the_engine_alone() -> None:
    assert names(process_plan.build_engine_children(read(**REAL), ENGINE)) == [
        "monitor",
        "engine-lease",
        "limiter",
        "market",
        "dispatcher",
        "strategy-watcher",
    ]


@pytest.mark.parametrize(
    ("environment", "word"), [({}, "GROQ_API_KEY"), (REAL | {"SPARKY_CANDLES": "a.csv"}, "sparky up")]
)
def test_production_refuses_what_is_only_simulated(environment: dict[str, str], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        process_plan.build_engine_children(read(**environment), ENGINE)


def test_resolved_settings_name_every_address() -> None:
    resolved = process_plan.resolve_endpoints(read(SPARKY_SIM_GROQ_PORT="4901", SPARKY_SIM_ASTER_PORT="4902"))
    assert resolved.groq_base_url == "http://127.0.0.1:4901"
    assert resolved.groq_api_key is not None
    assert (resolved.sparky_market, resolved.sparky_market_url) == ("aster", "http://127.0.0.1:4902")
    assert resolved.webhook_url == "http://127.0.0.1:3000/webhook/ai-signal"
    assert resolved.database_url is not None
    assert "/tmp/spk" in resolved.database_url.get_secret_value().replace("%2F", "/")  # noqa: S108 - a name only


def test_given_addresses_are_kept() -> None:
    given = REAL | {"GROQ_BASE_URL": "https://llm.example", "SPARKY_MARKET_URL": "https://venue.example"}
    resolved = process_plan.resolve_endpoints(read(**given))
    assert (resolved.groq_base_url, resolved.sparky_market_url) == ("https://llm.example", "https://venue.example")
    assert resolved.database_url == SecretStr(REAL["DATABASE_URL"])


def test_a_keyless_endpoint_is_asked_without_a_simulator() -> None:
    settings = read(GROQ_BASE_URL="http://127.0.0.1:8000", SPARKY_MARKET="simulator")
    assert "sim-groq" not in names(process_plan.build_full_children(settings, ENGINE, has_demo=False))
    assert process_plan.resolve_endpoints(settings).groq_api_key is not None


def test_a_market_address_without_its_venue_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="SPARKY_MARKET"):
        process_plan.resolve_endpoints(read(SPARKY_MARKET_URL="https://venue.example"))


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("http://127.0.0.1:3000/webhook/ai-signal", ["webhook"]),
        ("http://localhost:3000/webhook/ai-signal", ["webhook"]),
        ("http://127.0.0.1:3001/webhook/ai-signal", []),
        ("https://bot.example/webhook/ai-signal", []),
    ],
)
def test_the_webhook_server_comes_along_unless_signals_go_elsewhere(url: str, servers: list[str]) -> None:
    specs = process_plan.build_full_children(read(WEBHOOK_URL=url), ENGINE, has_demo=False)
    assert [name for name in names(specs) if name == "webhook"] == servers


def test_every_child_knows_only_the_secrets_it_needs() -> None:
    settings = read(**REAL)
    specs = [
        *process_plan.build_full_children(settings, ENGINE, has_demo=True),
        process_plan.build_plan(settings, ENGINE, []).build_dynamic_spec(wanted()),
    ]
    knows_database = {spec.name for spec in specs if "hunter2" in spec.settings.to_child_json()}
    knows_groq = {spec.name for spec in specs if "gsk_" in spec.settings.to_child_json()}
    strategy = wanted().name
    assert knows_database == {"prepare", "webhook", "engine-lease", "dispatcher", "strategy-watcher", strategy}
    assert knows_groq == {strategy}


def test_the_private_settings_of_supabase_never_reach_who_needs_no_database() -> None:
    settings = read(
        SUPABASE_URL="https://x.supabase.co", SUPABASE_SERVICE_ROLE_KEY="service-role", **without("DATABASE_URL")
    )
    for spec in process_plan.build_full_children(settings, ENGINE, has_demo=False):
        knows = spec.name in {"prepare", "webhook", "engine-lease", "dispatcher", "strategy-watcher"}
        text = spec.settings.to_child_json()
        assert ("https://x.supabase.co" in text, "service-role" in text) == (knows, knows)


def test_a_spec_never_shows_its_settings() -> None:
    for spec in process_plan.build_full_children(read(**REAL), ENGINE, has_demo=True):
        assert "hunter2" not in repr(spec)
        assert "gsk_" not in repr(spec)


def test_prepare_runs_once_and_migrates_only_a_database_that_does_not_do_so_itself() -> None:
    def tasks(settings: Settings, *, has_demo: bool) -> str | None:
        found = [
            s for s in process_plan.build_full_children(settings, ENGINE, has_demo=has_demo) if s.name == "prepare"
        ]
        assert all(spec.restart is RestartPolicy.TRANSIENT for spec in found)
        return found[0].argument if found else None

    assert tasks(read(), has_demo=True) == "demo"
    assert tasks(read(), has_demo=False) is None
    assert tasks(read(**REAL), has_demo=True) == "migrate,demo"
    assert tasks(read(**REAL), has_demo=False) == "migrate"


def test_a_strategy_is_killed_soon_after_its_cycle_deadline_and_at_its_memory_cap() -> None:
    settings = read(SPARKY_CYCLE_DEADLINE_S="20", SPARKY_STRATEGY_MEMORY_MB="100")
    spec = process_plan.build_plan(settings, ENGINE, []).build_dynamic_spec(wanted())
    assert 20 < spec.tick_deadline_s <= 22
    strategy_id = parse_strategy_id(wanted().name)
    assert (spec.memory_mb, spec.title, spec.argument) == (100, "bold", f"{strategy_id}/{ENGINE.run_id}")


def test_every_setting_is_read_by_a_process_or_by_the_plan_of_strategies() -> None:
    read_by_processes = {name for spec in everybody(read()) for name in type(spec.settings).model_fields}
    assert read_by_processes | {"sparky_strategy_memory_mb"} == set(Settings.model_fields)


def test_each_child_gets_the_fields_of_the_model_that_its_entry_point_names_and_no_others() -> None:
    for spec in everybody(read()):
        module, function = spec.entry.split(":")
        model = get_type_hints(getattr(importlib.import_module(module), function))["settings"]
        assert type(spec.settings) is model, spec.name
        assert set(json.loads(spec.settings.to_child_json())) == set(model.model_fields), spec.name
        assert model.from_child_json(spec.settings.to_child_json()) == spec.settings


# The name of a field that holds a secret, the value of that secret.
SECRETS = {
    "groq_api_key": "gsk_abcdefghijkl",
    "database_url": "postgresql://me:hunter2hunter2@db.example/sparky",
    "sparky_encryption_key": ENCRYPTION_KEY,
    "sparky_admin_token": "MARKed-admin-token-MARKed-admin-token",
}


def test_no_childs_json_holds_a_secret_that_is_not_a_field_of_its_model() -> None:
    settings = read(**{name.upper(): value for name, value in SECRETS.items()}, SPARKY_CANDLES="candles.csv")
    for spec in everybody(settings):
        text = spec.settings.to_child_json()
        held = {name for name, secret in SECRETS.items() if secret in text}
        assert held == SECRETS.keys() & type(spec.settings).model_fields.keys(), spec.name


def everybody(settings: Settings) -> list[ChildSpec]:
    fixed = process_plan.build_full_children(settings, ENGINE, has_demo=True)
    return [*fixed, process_plan.build_plan(settings, ENGINE, fixed).build_dynamic_spec(wanted())]


@pytest.mark.parametrize(
    ("change", "renewed"),
    [
        ({"SPARKY_LLM_RPM": "31"}, {"limiter", "sim-groq"}),
        ({"SPARKY_MONITOR_PORT": "9109"}, {"monitor"}),
        ({"SPARKY_LLM_TIMEOUT_S": "21"}, {"limiter", "strategy"}),
        ({"SPARKY_STRATEGY_MEMORY_MB": "300"}, {"strategy"}),
        ({"SPARKY_DAILY_LLM_BUDGET_USD": "5"}, {"strategy"}),
        ({"GROQ_MODEL": "openai/gpt-oss-20b"}, {"limiter", "strategy"}),
        ({"SPARKY_SIM_SEED": "2"}, {"sim-aster"}),
        ({"SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY}, {"prepare", "webhook", "engine-lease", "dispatcher"}),
        ({}, set()),
    ],
)
def test_other_settings_change_only_the_specs_of_those_who_use_them(change: dict[str, str], renewed: set[str]) -> None:
    pairs = zip(everybody(read()), everybody(read(**change)), strict=True)
    assert {old.name.partition("-0b7d")[0] for old, new in pairs if old != new} == renewed


def wanted() -> DesiredChild:
    return DesiredChild(name="strategy-0b7d6f4e-0b7d-4f4e-8b7d-0b7d6f4e0b7d", title="bold", revision="1")


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in REAL.items() if key != name}
