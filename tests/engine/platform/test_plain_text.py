"""What people read never commands their terminal, forges a line or hides a word; what is stored stays as it was."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.platform.plain_text import is_plain, many_lines, one_line, pad, safe, sanitize_for_storage
from tests.support.factories.hostile import HOSTILE, ORDINARY, unsafe

# Every code point alike, surrogates too, with the dangerous ones often.
ANY = st.lists(
    st.one_of(
        st.integers(0, 0x10FFFF).map(chr),
        st.sampled_from([*HOSTILE, *ORDINARY, "\u200d", "\u200c", "\ufe0f", "\u0301"]),
    ),
    max_size=80,
).map("".join)
JOINERS = {"\u200c", "\u200d"}
NEVER = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}


def may_be_new(char: str) -> bool:
    """Whether a later version of Unicode than this Python's may have made it an emoji."""
    return 0x1F000 <= ord(char) < 0x1FB00


@given(ANY, st.integers(1, 60))
def test_one_line_is_printable_bounded_and_does_not_change_when_it_is_shown_again(text: str, longest: int) -> None:
    shown = one_line(text, longest)
    assert len(shown) <= longest
    assert not {unicodedata.category(char) for char in shown if not may_be_new(char)} & NEVER
    assert {char for char in shown if unicodedata.category(char) == "Cf"} <= JOINERS
    assert one_line(shown, longest) == shown


@given(ANY, st.integers(1, 60))
def test_many_lines_keep_their_line_breaks_and_nothing_else_that_is_not_printable(text: str, longest: int) -> None:
    shown = many_lines(text, longest)
    assert len(shown) <= longest
    kept = shown.replace("\n", "")
    assert not {unicodedata.category(char) for char in kept if not may_be_new(char)} & NEVER
    assert many_lines(shown, longest) == shown
    assert many_lines(text, 10_000).count("\n") == text.count("\n")


@given(
    st.text(
        st.characters(categories=["L", "N", "P", "S"], exclude_characters="\u115f\u1160\u3164\uffa0\u2800\U0001d159")
    )
)
def test_printable_text_is_unchanged(text: str) -> None:
    kept = "".join(char for char in text if char.isprintable())
    assert one_line(kept, 10_000) == kept
    assert many_lines(kept, 10_000) == kept


def test_the_text_of_every_language_and_its_emoji_stay() -> None:
    assert one_line(ORDINARY) == ORDINARY
    assert many_lines(ORDINARY) == ORDINARY
    assert is_plain(ORDINARY)


@pytest.mark.parametrize(
    "name", ["\u09b0\u200d\u09cd\u09af\u09be\u09ae", "\u0d05\u0d35\u0d28\u0d4d\u200d", "\u0d28\u0d4d\u200d x"]
)
def test_the_joiners_of_bengali_and_malayalam_stay(name: str) -> None:
    assert is_plain(name)
    assert one_line(name) == name


@pytest.mark.parametrize("name", ["a\u200d", "\u0d28\u200d", "\u0d28\u0d4d\u200c", "\u0d28\u0d4d\u200da"])
def test_a_joiner_that_joins_nothing_is_seen(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\x9bb", "a\\x9bb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\U000e0041b", "a\\U000e0041b"),
        ("a\ud800b", "a\\ud800b"),
        ("a\r\nb\u2028c\x85d\te", "a b c d e"),
        ("ad\u200dmin", "ad\\u200dmin"),
        ("\u3164", "\\u3164"),
        ("e" + "\u0301" * 40, "e" + "\u0301" * 8 + "\ufffd"),
        ("葛" + "\U000e0101" * 5, "葛\U000e0101" + "\\U000e0101" * 4),
        ("bo\ufe0fld", "bo\\ufe0fld"),
        ("漢\u200d字", "漢\\u200d字"),
    ],
)
def test_what_cannot_be_shown_is_seen_as_what_it_is(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_what_was_cut_ends_with_a_mark() -> None:
    assert one_line("abcdef", 4) == "abc…"
    assert many_lines("ab\ncdef", 5) == "ab\nc…"


def test_data_is_made_safe_however_deep_with_its_keys_and_its_numbers_stay() -> None:
    shown = safe({HOSTILE: [HOSTILE, 1.5, None, True, {"notes": "a\nb\x1b"}]}, several_lines=frozenset({"notes"}))
    assert unsafe(repr(shown).replace("\\n", "")) == []
    assert next(iter(shown.values()))[1:4] == [1.5, None, True]
    assert next(iter(shown.values()))[4] == {"notes": "a\nb\\x1b"}


@given(ANY)
def test_what_is_stored_stays_as_faithful_as_postgresql_allows(text: str) -> None:
    stored = sanitize_for_storage(text)
    assert stored == "".join(
        "\ufffd" if char == "\0" else "?" if "\ud800" <= char <= "\udfff" else char for char in text
    )
    assert sanitize_for_storage({text: [text]}) == {stored: [stored]}


def test_a_word_is_padded_to_columns_not_to_characters() -> None:
    assert pad("漢字", 6) == "漢字  "
    assert pad("e\u0301", 4) == "e\u0301   "
    assert pad("abcdef", 4) == "abcdef"
