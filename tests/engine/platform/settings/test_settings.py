import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings, read_environment

SECRET = "gsk_hunter2hunter2"


def faults(**environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_environment(environment)
    first, *lines = str(caught.value).splitlines()
    assert first == "The settings have faults:"
    return [line.removeprefix("  - ") for line in lines]


def test_all_faults_are_reported_at_once_by_name() -> None:
    found = faults(
        SPARKY_MONITOR_PORT="ninety",
        SPARKY_LOG_LEVEL="loud",
        SPARKY_MONITR_HOST="127.0.0.1",
        GROQ_BASE_URL="api.groq.com",
        SPARKY_SIM_SPEED="0",
    )
    assert sorted(line.partition(":")[0] for line in found) == [
        "GROQ_BASE_URL",
        "SPARKY_LOG_LEVEL",
        "SPARKY_MONITOR_PORT",
        "SPARKY_MONITR_HOST",
        "SPARKY_SIM_SPEED",
    ]


def test_an_unknown_name_comes_with_a_suggestion() -> None:
    assert faults(SPARKY_LOG_LEVL="info") == ["SPARKY_LOG_LEVL: no such setting; did you mean SPARKY_LOG_LEVEL?"]
    assert "docs/settings.md" in faults(SPARKY_QQQQQQQQ="1")[0]


def test_names_of_others_are_none_of_our_business() -> None:
    assert read_environment({"PATH": "/bin", "GROQ_SOMETHING": "1", "HOME": "/"}).sparky_log_level == "info"


def test_two_databases_or_half_a_supabase_are_refused() -> None:
    assert "set both or neither" in faults(SUPABASE_URL="https://x.supabase.co")[0]
    both = {"SUPABASE_URL": "https://x.co", "SUPABASE_SERVICE_ROLE_KEY": "k", "DATABASE_URL": "postgresql://x/y"}
    assert "set one of them" in faults(**both)[0]


def test_secrets_are_never_printed_not_even_among_faults() -> None:
    environment = {"GROQ_API_KEY": SECRET, "DATABASE_URL": f"postgresql://u:{SECRET}@h/d", "SPARKY_HOME": "/tmp/x"}  # noqa: S108 - a name only
    settings = read_environment(environment)
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump(mode='python')}"
    assert "hunter2" not in "\n".join(faults(**environment, SPARKY_LOG_LEVEL="loud"))


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=8).map(lambda text: f"hidden{text}"))
def test_a_wrong_value_under_a_secret_name_is_not_repeated(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_environment({"SUPABASE_SERVICE_ROLE_KEY": value, "SPARKY_LLM_RPM": "x"})
    assert value not in str(caught.value)


def test_dotenv_fills_what_the_environment_leaves_open(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text('SPARKY_LOG_LEVEL=debug\nSPARKY_SIM_SEED="7"\n# a comment\n')
    settings = read_environment({"SPARKY_LOG_LEVEL": "error"}, dotenv)
    assert (settings.sparky_log_level, settings.sparky_sim_seed) == ("error", 7)


def test_a_line_of_dotenv_that_is_no_setting_is_a_fault_and_is_not_repeated(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# a comment\n\nexport SPARKY_SIM_SEED=7\nGROQ_API_KEY gsk_hidden\nSPARKY_LLM_RPM\n")
    with pytest.raises(ConfigurationError) as caught:
        read_environment({}, dotenv)
    assert "line 4: not of the form NAME=value" in str(caught.value)
    assert "line 5: not of the form NAME=value" in str(caught.value)
    assert str(caught.value).count("line ") == 2
    assert "hidden" not in str(caught.value)


def test_a_dotenv_that_is_no_text_is_one_fault(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(b"GROQ_API_KEY=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match="cannot be read: it is no UTF-8 text"):
        read_environment({}, dotenv)


def test_a_directory_of_that_name_is_no_dotenv(tmp_path: Path) -> None:
    assert read_environment({}, tmp_path).simulates_groq


def test_an_empty_value_is_an_unset_one() -> None:
    assert read_environment({"GROQ_API_KEY": " "}).simulates_groq


def test_settings_are_frozen_and_survive_the_pipe_to_a_child() -> None:
    settings = read_environment({"GROQ_API_KEY": SECRET, "SPARKY_LLM_TPM": "8000", "GROQ_MODEL": "a, b"})
    with pytest.raises(ValidationError):
        settings.sparky_sim_seed = 2  # type: ignore[misc] # that it cannot be set is the point
    assert Settings.from_child_json(settings.to_child_json()) == settings
    assert settings.groq_model == ("a", "b")
    assert SECRET.encode() in pickle.dumps(settings.to_child_json())


@pytest.mark.parametrize(
    ("environment", "simulates"),
    [
        ({}, (True, True)),
        ({"GROQ_API_KEY": "k"}, (False, False)),
        ({"GROQ_BASE_URL": "http://127.0.0.1:1"}, (False, False)),
        ({"SPARKY_MARKET": "aster"}, (True, False)),
        ({"GROQ_API_KEY": "k", "SPARKY_MARKET": "simulator"}, (False, True)),
        ({"GROQ_API_KEY": "k", "SPARKY_CANDLES": "x.csv"}, (False, True)),
    ],
)
def test_what_is_simulated_follows_from_the_keys(environment: dict[str, str], simulates: tuple[bool, bool]) -> None:
    settings = read_environment(environment)
    assert (settings.simulates_groq, settings.simulates_market) == simulates


def test_a_home_too_long_for_sockets_is_refused_by_name() -> None:
    assert faults(SPARKY_HOME="/" + "x" * 60)[0].startswith("SPARKY_HOME: must be at most")
