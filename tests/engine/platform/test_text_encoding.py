"""What becomes of text where a stream lacks its characters, and of bytes that people save as text."""

import pytest

from engine.platform.text_encoding import decode_text, encode_text, is_unicode, replace_unshowable

TEXT = "naïve \u2013 стратегия 策略 🚀 … · ✓"


@pytest.mark.parametrize(
    "encoding", ["ascii", "latin-1", "cp437", "cp1252", "koi8-r", "gb18030", "shift_jis", "euc_kr", "utf-8"]
)
def test_text_is_written_in_every_encoding_and_keeps_what_that_has(encoding: str) -> None:
    shown = encode_text(TEXT, encoding).decode(encoding)
    for char in TEXT:
        try:
            char.encode(encoding)
        except UnicodeEncodeError:
            assert char not in shown
        else:
            assert char in shown


def test_typography_takes_one_cell_and_other_characters_say_what_they_are() -> None:
    assert encode_text("a \u2013 b … · ✓ →", "ascii") == b"a - b ~ . + >"
    assert encode_text("策🚀\udce9", "ascii") == b"\\u7b56\\U0001f680\\udce9"
    assert encode_text("half \ud83d", "utf-8") == b"half \\ud83d"


def test_rows_are_shown_as_they_will_be_written() -> None:
    row = {"name": "策", "parts": ["é", 1, None], "more": {"is": True}}
    assert replace_unshowable(row, "ascii") == {"name": "\\u7b56", "parts": ["\\xe9", 1, None], "more": {"is": True}}
    assert replace_unshowable(row, "utf-8") == row


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_are_read_in_every_unicode_form(form: str) -> None:
    assert decode_text(TEXT.encode(form)) == TEXT


@pytest.mark.parametrize("form", ["koi8-r", "gbk"])
def test_files_in_other_encodings_are_not_guessed_at(form: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_text("стратегия".encode(form))


def test_half_a_character_is_no_text() -> None:
    assert is_unicode(TEXT)
    assert not is_unicode("\ud83d")
    assert not is_unicode("caf\udce9")


@pytest.mark.parametrize("text", ["100 %", "%\\", "策略 100 %", "é%", "\ud83d%", "".join(map(chr, range(32, 127)))])
def test_an_encoding_that_lacks_a_sign_of_ascii_shows_a_question_mark(text: str) -> None:
    assert encode_text(text, "cp864").count(b"?") >= 1


@pytest.mark.parametrize("encoding", ["idna", "undefined"])
def test_a_codec_that_takes_no_text_shows_ascii(encoding: str) -> None:
    assert encode_text("a" * 100 + " 策", encoding) == b"a" * 100 + b" \\u7b56"
