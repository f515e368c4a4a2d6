"""The case of ASCII words only is changed: the long s would become an S."""

import pytest

from webhook_server.intake import ascii_case


def test_words_are_read_in_any_case_with_blanks_around() -> None:
    assert (ascii_case.upper(" Long\n"), ascii_case.lower(" ASTER ")) == ("LONG", "aster")


@pytest.mark.parametrize("value", ["\u017fhort", "\u212a", 5, None, ["buy"]])
def test_other_letters_and_values_are_no_words(value: object) -> None:
    assert ascii_case.upper(value) is ascii_case.lower(value) is None
