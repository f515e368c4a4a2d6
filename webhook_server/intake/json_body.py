"""Parses a JSON body to one object. For a malformed body it reports line, column and cause.

The report repeats nothing of the body: a malformed one may have the sender's secret anywhere.
"""

import json
import re
from collections import Counter
from typing import Any, Final

from webhook_server.intake import sent_values
from webhook_server.intake.field_errors import FieldError

MAX_DEPTH: Final = 32  # the parser recurses, and the depth at which it fails differs between Python versions
SEND_ONE_OBJECT: Final = "send one JSON object"
_TEXT_OR_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_FORM_DATA: Final = re.compile(r"[A-Za-z0-9_.%+-]+=")
_TYPOGRAPHIC_QUOTES: Final = (
    "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2032\u2033\u00ab\u00bb\u2039\u203a\uff02\u301d\u301e\u301f"
)
_TYPE_NAMES: Final = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}
_PLACEHOLDER: Final = (
    "here is a placeholder that was not filled in (put it into quotation marks), or a bracket too many"
)
_REASONS_BY_CHARACTER: Final = {
    **dict.fromkeys(_TYPOGRAPHIC_QUOTES, 'here is a typographic quotation mark; JSON has the plain " only'),
    **dict.fromkeys("'`", 'here is a single quotation mark; JSON has the plain " only'),
    **dict.fromkeys("/#", "here is a comment; JSON has none"),
}
_STRING_ERRORS: Final = ("Unterminated", "Invalid")
_REASONS_BY_MESSAGE: Final = {  # by the beginning of the parser's message
    "Unterminated": "a text begins here and does not end; its closing quotation mark is missing",
    "Invalid control": "here is a line break or another control character inside a text; write \\n for a line break",
    "Invalid \\": "here is a backslash that begins no escape; write \\\\ for a backslash",
    "Extra data": "something follows the object",
    "Expecting ':'": "a colon is missing",
    "Expecting ','": "a comma is missing, or a closing bracket",
    "Expecting property name": "the name of a field is missing, in double quotation marks",
}
_MISSING_VALUE: Final = "a value is missing, or a text without its double quotation marks"


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. Numbers are exact; those out of bounds become `sent_values.UnusableNumber`.

    Raises FieldError, with line and column (from 1, in characters) where the text stops being JSON.
    """
    text = _decode(raw)
    if not text.strip(sent_values.BLANKS):
        raise FieldError("body", f"is empty; {SEND_ONE_OBJECT}")
    _check_depth(text)
    try:
        body = json.loads(
            text,
            parse_int=sent_values.parse_json_number,
            parse_float=sent_values.parse_json_number,
            parse_constant=sent_values.parse_json_constant,
            object_pairs_hook=_reject_duplicate_keys,
        )
    except json.JSONDecodeError as error:
        raise _build_syntax_error(text, error) from None
    if not isinstance(body, dict):
        kind = _TYPE_NAMES.get(type(body), "a number")
        raise FieldError("body", f"must be one JSON object, not {kind}")
    return body


def _decode(raw: bytes) -> str:
    kind = "UTF-32" if raw[:4] in {b"\xff\xfe\0\0", b"\0\0\xfe\xff"} else None
    if kind is None and (raw[:2] in {b"\xff\xfe", b"\xfe\xff"} or (len(raw) > 1 and (raw[0] == 0) != (raw[1] == 0))):
        kind = "UTF-16"
    if kind is not None:
        raise FieldError("body", f"is {kind}; {SEND_ONE_OBJECT} in UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _line_and_column(raw[: error.start].decode("utf-8-sig"), None)
        raise _build_error("here is a byte that is not UTF-8", line, column) from None


def _check_depth(text: str) -> None:
    depth = 0
    for found in _TEXT_OR_BRACKET.finditer(text):
        bracket = found[0]
        depth += 1 if bracket in {"[", "{"} else -1 if bracket in {"]", "}"} else 0
        if depth > MAX_DEPTH:
            raise FieldError("body", f"has brackets more than {MAX_DEPTH} deep within each other")


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON does not define which of two fields with one name counts. Parsers differ, so that a signature check and this
    # server could see different orders: neither value is used.
    found = dict(pairs)
    if len(found) < len(pairs):
        duplicates = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        found |= {
            name: sent_values.UnusableNumber(_join_values(pairs, name), "is there more than once")
            for name in duplicates
        }
    return found


def _join_values(pairs: list[tuple[str, Any]], name: str) -> str:
    return str([str(value) for other, value in pairs if other == name])


def _build_syntax_error(text: str, error: json.JSONDecodeError) -> FieldError:
    if error.msg.startswith(_STRING_ERRORS):
        return _build_error(_explain_message(error.msg), *_line_and_column(text, error.pos))
    at = _skip_blanks(text, error.pos)
    if (comma := _find_extra_comma(text, at)) is not None:
        return _build_error("the comma here is one too many", *_line_and_column(text, comma))
    if text.startswith("{{", at - 1):
        at -= 1
    return _build_error(_explain_position(text, at, error.msg), *_line_and_column(text, at))


def _find_extra_comma(text: str, at: int) -> int | None:
    """The position of a comma before a closing bracket near `at`: Python versions report different positions."""
    before = _skip_blanks_back(text, at)
    comma = at if text.startswith(",", at) else before
    if comma == at and text.startswith(",", before):
        return at
    return comma if text.startswith(",", comma) and text.startswith(("}", "]"), _skip_blanks(text, comma + 1)) else None


def _explain_position(text: str, at: int, message: str) -> str:
    character = text[at : at + 1]
    if text.startswith("{{", at):
        return _PLACEHOLDER
    if character in _REASONS_BY_CHARACTER:
        return _REASONS_BY_CHARACTER[character]
    if character < " ":
        return "here is a control character" if character else "the text ends too early; a closing bracket is missing"
    if at == _skip_blanks(text, 0):
        is_form = _FORM_DATA.match(text, at)
        return f"{'this is form data (name=value)' if is_form else 'no object begins here'}; {SEND_ONE_OBJECT}"
    return (
        "a value is missing"
        if message.startswith("Expecting value") and character in ",:}]"
        else _explain_message(message)
    )


def _explain_message(message: str) -> str:
    return next((reason for begin, reason in _REASONS_BY_MESSAGE.items() if message.startswith(begin)), _MISSING_VALUE)


def _build_error(reason: str, line: int, column: int) -> FieldError:
    return FieldError("body", f"is not JSON: line {line}, column {column}: {reason}", line=line, column=column)


def _line_and_column(text: str, at: int | None) -> tuple[int, int]:
    """Line and column, both from 1, of the character at `at`, or of the end."""
    before = text if at is None else text[:at]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _skip_blanks(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in sent_values.BLANKS:
        at += 1
    return at


def _skip_blanks_back(text: str, at: int) -> int:
    at -= 1
    while at > 0 and text[at] in sent_values.BLANKS:
        at -= 1
    return max(at, 0)
