"""What people write is bounded and plain, whichever way it comes; what was there before goes on working."""

import unicodedata
from collections.abc import Callable

import psycopg
import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import ConfigurationError
from engine.platform.plain_text import is_plain
from engine.store.store import Store
from tests.support.clients.sql import Sql, as_owner
from tests.support.factories.hostile import HOSTILE, ORDINARY

from .conftest import Desk

ACCEPTED = "select name from unnest(%s::text[]) name where public.is_plain(name, 100)"

BAD_NAMES = [
    "",
    "   ",
    "x" * 101,
    "two\nlines",
    "a\x1b[2Jb",
    "a\x9bb",
    "a\x7fb",
    "a\u2028b",
    "a\u202eb",
    "a\u061cb",
    "a\u200bb",
    "ad\u200dmin",
    "a\ufeffb",
    "a\U000e0041b",
    "\u3164",
    "\u00a0",
    "\u2800\u2800",
    "a\u00adb",
    "\ue000",
]
INDIC = ["\u09b0\u200d\u09cd\u09af\u09be\u09ae", "\u0d05\u0d35\u0d28\u0d4d\u200d", "\u0d05\u0d35\u0d28\u0d4d\u200d x"]
GOOD_NAMES = [
    ORDINARY,
    "x" * 100,
    "[bold]x[/b]",
    "漢字",
    "e\u0301",
    "👩‍💻",
    *INDIC,
    "می‌خواهم",
    'it\'s "quoted" \\ {} %s',
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_be_shown_is_refused_by_the_command_and_by_the_table(
    name: str, desk: Desk, store: Store, sql: Sql
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        NewStrategy.from_input({"user_id": desk.user_id, "name": name})
    assert str(caught.value).isprintable()
    with pytest.raises(psycopg.Error) as refused:
        sql("insert into ai_strategies (user_id, name) values (%s, %s)", desk.user_id, name)
    assert refused.value.sqlstate == "SK400"
    row = desk.strategy("fine")
    with pytest.raises(psycopg.Error):
        sql("update ai_strategies set name = %s", name)
    assert store.get_strategy(row.id) == row


def test_the_database_and_the_command_agree_on_every_character(postgres_database_url: str) -> None:
    around = ("a{}b", "م{}م", "漢{}", "1{}", "{}", "🚀{}🚀")
    known = [char for char in map(chr, range(1, 0x110000)) if unicodedata.category(char) not in ("Cn", "Cs", "Co")]
    with as_owner(postgres_database_url) as sql:
        for form in around:
            taken = {name for (name,) in sql(ACCEPTED, [form.format(char) for char in known])}
            differing = [
                hex(ord(char)) for char in known if is_plain(form.format(char)) != (form.format(char) in taken)
            ]
            assert differing == [], form


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_of_any_language_is_taken(name: str, desk: Desk, store: Store, sql: Sql) -> None:
    assert desk.strategy(name).name == name
    sql("update ai_strategies set name = 'other'")
    sql("update ai_strategies set name = %s", name)
    assert [row.name for row in store.list_strategies()] == [name]


def test_the_store_refuses_what_the_command_would(desk: Desk, store: Store) -> None:
    new = NewStrategy.model_construct(**{**NewStrategy(user_id=desk.user_id, name="x").__dict__, "name": "a\x1bb"})
    with pytest.raises(ConfigurationError, match="the name of ai_strategies must be one line"):
        store.create_strategy(new)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("custom_prompt", "x" * 4_001),
        ("model", "m" * 201),
        ("model", "a\x1bb"),
        ("exchange", "e" * 31),
        ("exchange", "as\nter"),
        ("target_assets", ["BTC\x1b[2J"]),
        ("target_assets", ["X" * 31]),
        ("target_assets", ["BTCUSDT"] * 101),
    ],
)
def test_the_other_texts_of_a_strategy_are_bounded_too(column: str, value: object, desk: Desk, sql: Sql) -> None:
    desk.strategy()
    with pytest.raises(psycopg.Error) as refused:
        sql(f"update ai_strategies set {column} = %s", value)  # noqa: S608 - these names
    assert refused.value.sqlstate == "SK400"
    with pytest.raises(ConfigurationError):
        NewStrategy.from_input({"user_id": desk.user_id, "name": "n", column: value})


def test_notes_may_have_lines_and_whatever_a_person_pastes(desk: Desk, store: Store) -> None:
    notes = "first\n\tsecond\r\n\u200bthird\ufeff"
    assert desk.strategy(custom_prompt=notes).custom_prompt == notes


def test_a_row_that_was_there_before_is_paused_started_and_ended_whatever_its_texts(
    desk: Desk, store: Store, sql: Sql
) -> None:
    strategy = desk.strategy()
    change = "update ai_strategies set name = %s, model = %s, target_assets = %s, custom_prompt = %s"
    _as_before(sql, lambda: sql(change, HOSTILE, HOSTILE, [HOSTILE], "x" * 9_000))
    for status in (StrategyStatus.PAUSED, StrategyStatus.RUNNING, StrategyStatus.TERMINATED):
        assert store.set_strategy_status(strategy.id, status).status == status
    sql("update ai_strategies set name = name, model = 'm', status = 'paused'")
    assert store.list_strategies()[0].name == HOSTILE


@pytest.mark.parametrize("reason", ["r" * 2_000, HOSTILE, "stop\x1b[2J now"])
def test_a_kill_switch_goes_on_whatever_its_reason_holds(reason: str, desk: Desk, store: Store, sql: Sql) -> None:
    store.set_kill_switch(None, None, is_on=True, reason=reason)
    sql("insert into kill_switches (user_id, reason) values (%s, %s)", desk.user_id, reason)
    kept = [switch.reason or "" for switch in store.list_kill_switches()]
    assert len(kept) == 2
    assert all(len(each) <= 500 for each in kept)


@pytest.mark.parametrize(
    "email", ["a\x1b@example.org", "a b@example.org", "x" * 310 + "@example.org", "a\u202e@example.org", "nobody"]
)
def test_an_address_that_is_none_makes_no_person(email: str, store: Store) -> None:
    with pytest.raises(ConfigurationError, match="e-mail address"):
        store.ensure_user(email)


@pytest.mark.parametrize("column", ["label", "account_id", "exchange", "environment"])
def test_credentials_are_named_in_plain_words(column: str, desk: Desk, sql: Sql) -> None:
    values = {"exchange": "aster", "environment": "production"} | {column: "a\x9bb"}
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    with pytest.raises(psycopg.Error) as refused:
        sql(f"insert into bot_credentials (user_id, {names}) values (%s, {marks})", desk.user_id, *values.values())  # noqa: S608 - these names
    assert refused.value.sqlstate == "SK400"


def test_credentials_that_were_there_before_can_be_changed(desk: Desk, sql: Sql) -> None:
    sql("insert into bot_credentials (user_id, exchange, label) values (%s, 'aster', 'l')", desk.user_id)
    _as_before(sql, lambda: sql("update bot_credentials set label = %s, account_id = %s", HOSTILE, HOSTILE))
    sql("update bot_credentials set api_key = 'k', label = label")
    assert sql("select api_key, label from bot_credentials") == [("k", HOSTILE)]


def _as_before(sql: Sql, write: Callable[[], object]) -> None:
    """Writes as before anything checked it."""
    sql("set session_replication_role = replica")
    write()
    sql("set session_replication_role = origin")
