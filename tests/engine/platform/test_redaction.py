import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from engine.platform.redaction import HIDDEN, Redactor

TOKENS = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12, max_size=40)
PROSE = st.text(max_size=60).filter(lambda text: "eyJ" not in text)
NAMES = st.sampled_from(["secret", "api_key", "apiKey", "GROQ_API_KEY", "private_key", "Authorization", "password"])


@given(prefix=st.sampled_from(["gsk_", "whsec_"]), token=TOKENS, before=PROSE, after=PROSE)
def test_a_key_that_shows_its_kind_is_hidden_anywhere_in_a_text(
    prefix: str, token: str, before: str, after: str
) -> None:
    assert f"{prefix}{token}" not in Redactor().text(f"{before} {prefix}{token} {after}")


@given(name=NAMES, token=TOKENS, depth=st.integers(0, 4))
def test_a_value_under_a_secret_name_is_hidden_at_any_depth(name: str, token: str, depth: int) -> None:
    data: object = {name: token, "symbol": "BTCUSDT"}
    for _ in range(depth):
        data = {"inner": [data]}
    written = json.dumps(Redactor().fields({"data": data}))
    assert token not in written
    assert "BTCUSDT" in written


@given(token=TOKENS, before=PROSE, after=PROSE)
def test_a_known_secret_is_hidden_whatever_it_looks_like(token: str, before: str, after: str) -> None:
    redactor = Redactor([SecretStr(token)])
    assert token not in redactor.text(f"{before}{token}{after}")
    assert token not in json.dumps(redactor.fields({"a": {"b": f"x{token}y"}, token: 1}))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2hunter2",
        "postgresql://sparky:hunter2hunter2@db.example/sparky",
        'body {"secret": "hunter2hunter2", "symbol": "BTCUSDT"}',
        "body {'webhook_secret': 'hunter2hunter2'}",
        "GET /webhook?secret=hunter2hunter2&symbol=BTCUSDT",
        "connect(password='hunter2hunter2', host='db')",
    ],
)
def test_secrets_in_common_notations_are_hidden(text: str) -> None:
    assert "hunter2hunter2" not in Redactor().text(text)
    assert HIDDEN in Redactor().text(text)


def test_a_signing_key_in_hex_and_a_json_web_token_are_hidden() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl"
    assert Redactor().text(f"{'0x' + 'ab' * 32} {token}") == f"{HIDDEN} {HIDDEN}"


def test_models_and_secret_types_are_written_as_plain_data_without_their_secrets() -> None:
    class Credentials(BaseModel):
        label: str
        anything: SecretStr

    event = {"credentials": Credentials(label="main", anything=SecretStr("hunter2hunter2")), "size": 1.5, "ok": True}
    assert Redactor().fields(event) == {"credentials": {"label": "main", "anything": HIDDEN}, "size": 1.5, "ok": True}


@given(st.text(alphabet="abcdefghij klmnop.,:%()[]0123456789-", max_size=80))
def test_ordinary_prose_is_left_alone(text: str) -> None:
    assert Redactor().text(text) == text


def test_a_structure_that_contains_itself_ends() -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop
    assert HIDDEN in json.dumps(Redactor().fields(loop))
