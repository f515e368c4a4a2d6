"""Every command in terminals that show less than Unicode, and text that arrives in other encodings than UTF-8."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.platform.settings.settings import read_environment
from engine.store.store import Store
from simulator.market.candle_file import read_candles
from tests.support.clients.sql import Sql
from tests.support.factories.candle_files import write_walk
from tests.support.processes.commands import (
    COMMANDS,
    NAME,
    NOTES,
    Done,
    environment,
    known_commands,
    run,
    run_all,
    write_the_world,
)
from tests.support.processes.directories import short_directory

ASCII_LOCALES = {
    "LANG=C": {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "LC_ALL=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "LC_ALL=POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
}
STREAMS = ["utf-8", "ascii"]  # tests/engine/platform/test_text_encoding.py has many more


@pytest.fixture
def home() -> Iterator[Path]:
    with short_directory() as root:
        yield root


def lines_of(words: str, *more: str) -> list[str]:
    return [*words.split(), *COMMANDS[words][0], *more]


def check(ended: dict[str, Done], encoding: str) -> None:
    """Usual exit codes, no traceback, and nothing that the stream's reader could not decode."""
    assert {name: done.code for name, done in ended.items()} == {name: COMMANDS[name][1] for name in ended}, [
        done.text for name, done in ended.items() if done.code != COMMANDS[name][1]
    ]
    assert [name for name, done in ended.items() if "Traceback" in done.text] == []
    for done in ended.values():
        done.stdout.decode(encoding)
        done.stderr.decode(encoding)


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == known_commands()


@pytest.mark.parametrize("encoding", STREAMS)
def test_every_command_does_its_work_whatever_its_streams_can_show(
    home: Path, database_url: str, store: Store, encoding: str
) -> None:
    write_the_world(store)
    given = environment(home, database_url, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    ended = dict(zip(COMMANDS, run_all([lines_of(name) for name in COMMANDS], given, home), strict=True))
    check(ended, encoding.partition(":")[0])
    assert ended["strategy list"].stdout.count(b"\n") == 2  # a header and one row, which is not broken
    if encoding.startswith("ascii"):
        assert b"\\u7b56\\u7565" in ended["strategy list"].stdout
        assert b"- ~ . +" in ended["strategy list"].stdout.replace(b"  ", b" ")


SOME = ["doctor", "strategy show", "status", "kill", "strategy create"]  # from where streams are ASCII, as above


@pytest.mark.parametrize("locale", ASCII_LOCALES)
def test_a_locale_without_unicode_changes_no_commands_work(
    home: Path, database_url: str, store: Store, locale: str
) -> None:
    write_the_world(store)
    given = environment(home, database_url, **ASCII_LOCALES[locale])
    names = SOME if locale == "LC_ALL=C" else SOME[:2]
    with ThreadPoolExecutor(2) as pool:
        check(dict(zip(names, pool.map(lambda name: run(lines_of(name), given, home), names), strict=True)), "ascii")


def test_answers_as_json_are_ascii_whatever_the_encoding(home: Path, database_url: str, store: Store) -> None:
    write_the_world(store)
    given = environment(home, database_url, PYTHONUTF8="1", PYTHONIOENCODING="utf-8")
    names = ["strategy list", "decisions show", "signals list", "doctor", "status", "trades"]
    for done in run_all([lines_of(name, "--json") for name in names], given, home):
        assert json.loads(done.stdout.decode("ascii"))


def test_words_on_the_command_line_are_read_right_in_a_locale_without_unicode(
    home: Path, database_url: str, sql: Sql
) -> None:
    given = environment(home, database_url, **ASCII_LOCALES["LC_ALL=C"])
    (home / "стратегия.json").write_text(json.dumps({"name": NAME}), encoding="utf-8")
    words = ["strategy", "create", "--from-json", "стратегия.json", "--prompt", NOTES]
    done = run(words, given, home)
    assert (done.code, "Traceback" in done.text) == (0, False), done.text
    assert sql("select name, custom_prompt from ai_strategies") == [(NAME, NOTES)]


def test_a_state_directory_and_candles_with_foreign_names_work_in_a_locale_without_unicode(
    home: Path, database_url: str
) -> None:
    (home / ".env").write_text("SPARKY_CANDLES=BTCUSDT-свечи.csv\n", encoding="utf-8")
    write_walk(home / "BTCUSDT-свечи.csv", 20)
    given = environment(home / "дом", database_url, **ASCII_LOCALES["LC_ALL=C"])
    done = run(["up"], given, home)
    assert (done.code, "Traceback" in done.text) == (78, False), done.text
    assert b"20 candles" in done.stderr
    assert run(["status"], given, home).code == 1


@pytest.mark.parametrize(
    ("option", "broken"),
    [("--name", b"Strategie \xe4"), ("--prompt", b"\xff\xfe"), ("--model", b"\xed\xa0\xbd"), ("--symbols", b"\x80")],
)
def test_words_that_are_no_utf8_are_refused_and_never_stored(
    home: Path, database_url: str, sql: Sql, option: str, broken: bytes
) -> None:
    words = [b"strategy", b"create", b"--name", b"other", option.encode(), broken]
    done = run(words, environment(home, database_url), home)
    assert (done.code, done.stderr.count(b"\n"), "Traceback" in done.text) == (2, 1, False), done.text
    assert b"UTF-8" in done.stderr
    assert sql("select name from ai_strategies") == []


@pytest.mark.parametrize(("form", "source"), [("utf-8", "-"), ("utf-8-sig", "strategy.json"), ("utf-16", "-")])
def test_a_strategys_fields_are_read_in_every_unicode_form(
    home: Path, database_url: str, sql: Sql, form: str, source: str
) -> None:
    text = json.dumps({"name": NAME}, ensure_ascii=False).encode(form)
    (home / "strategy.json").write_bytes(text)
    given = environment(home, database_url, **ASCII_LOCALES["LC_ALL=C"])
    done = run(["strategy", "create", "--from-json", source], given, home, input=text)
    assert done.code == 0, done.text
    assert sql("select name from ai_strategies") == [(NAME,)]


@pytest.mark.parametrize("source", ["strategy.json", "-"])
@pytest.mark.parametrize(
    "text", ['{"name": "стратегия"}'.encode("koi8-r"), '{"name": "策略"}'.encode("gbk"), b'{"name": "half \\ud83d"}']
)
def test_a_strategys_fields_in_another_encoding_are_refused(
    home: Path, database_url: str, sql: Sql, text: bytes, source: str
) -> None:
    (home / "strategy.json").write_bytes(text)
    done = run(["strategy", "create", "--from-json", source], environment(home, database_url), home, input=text)
    assert (done.code, done.stderr.count(b"\n"), "Traceback" in done.text) == (1, 1, False), done.text
    assert sql("select name from ai_strategies") == []


def test_credentials_in_another_encoding_are_refused_and_not_shown(home: Path, database_url: str) -> None:
    text = "webhook_secret=пароль_который_достаточно_длинный".encode("koi8-r")
    done = run(["credentials", "set", "webhook"], environment(home, database_url), home, input=text)
    assert (done.code, done.stderr.count(b"\n")) == (1, 1), done.text
    assert b"UTF-8" in done.stderr
    assert text[16:24] not in done.stderr


def test_settings_that_are_no_utf8_are_named(home: Path, database_url: str) -> None:
    for name in ("GROQ_MODEL", "SPARKY_HOME", "SPARKY_CANDLES", "DATABASE_URL"):
        done = run(["strategy", "list"], environment(home, database_url) | {name: "/srv/caf\udce9"}, home)
        assert (done.code, "Traceback" in done.text) == (78, False), done.text
        assert name.encode() in done.stderr
        assert b"UTF-8" in done.stderr


def test_a_file_of_settings_with_a_byte_order_mark_is_read_whole(home: Path) -> None:
    (home / ".env").write_bytes("GROQ_MODEL=my/model\r\n# заметка\r\nSPARKY_LLM_RPM=7\r\n".encode("utf-8-sig"))
    settings = read_environment({}, home / ".env")
    assert (settings.groq_model, settings.sparky_llm_rpm) == (("my/model",), 7)


def test_candles_with_a_byte_order_mark_are_read(home: Path) -> None:
    path = write_walk(home / "BTCUSDT.csv", 150)
    plain = read_candles(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_candles(path).get_candle(plain.start_ms) == plain.get_candle(plain.start_ms)
