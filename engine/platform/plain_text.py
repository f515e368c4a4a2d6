"""Text of others on its way to people, and on its way into the database.

Storing and showing are two purposes. What is stored (`storable`) stays as faithful as PostgreSQL allows. What people
read is made safe where it is shown: a terminal obeys some characters, others break a line, turn text round or have no
width, and each of these is replaced by its escape text (``\\x1b``, ``\\u202e``), so that a person sees that it was
there. JSON for programs needs none of this: `json.dumps` escapes all that is not ASCII, and loses nothing.
"""

import re
import unicodedata
from typing import Any, Final, TypeVar

T = TypeVar("T")

LONGEST: Final = 300
MAX_TEXT: Final = 20_000
MAX_MARKS: Final = 8  # combining marks on one letter; no language needs as many, and more reach into other lines
_TAB: Final = "    "
_CUT: Final = "…"

# Letters, marks and symbols without ink: fillers of Hangul and Khmer, the empty Braille pattern, a musical null.
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159")

# Code points that later versions of Unicode than this Python's have given, or will give, to emoji.
_EMOJI: Final = range(0x1F000, 0x1FB00)

# Zero-width joiners belong to the scripts from Arabic to those of India, and between emoji. Between other letters they
# only hide: two names that look alike are two.
_JOINERS: Final = "\u200c\u200d"
_JOINED: Final = re.compile(
    f"[\u0600-\u1cff][{_JOINERS}][\u0600-\u1cff]|[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]\u200d[\u2190-\u2bff\U0001f000-\U0001faff]"
)

# The viramas of these scripts: canonical combining class 9, as in the database's `is_plain`.
_VIRAMAS: Final = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u1039\u103a\u17d2"

# Variation selectors choose the form of the one character before them; more of them carry hidden text.
_SELECTORS: Final = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_SELECTOR: Final = re.compile(f"[{_SELECTORS}]")
_SELECTED: Final = re.compile(f"[0-9#*©®][\ufe0e\ufe0f]|(?![{_SELECTORS}])[\u1800-\U0010ffff][{_SELECTORS}]")


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` in one line of at most `longest` characters; runs of white space and line breaks become one space."""
    return _truncate(_visible(" ".join(text.split())[: longest + 1]), longest)


def many_lines(text: str, longest: int = MAX_TEXT) -> str:
    """`text` with its line feeds, of at most `longest` characters; all other white space becomes spaces."""
    lines = text[: longest + 1].replace("\r\n", "\n").replace("\t", _TAB).split("\n")
    return _truncate("\n".join(_visible(line) for line in lines), longest)


def is_plain(text: str) -> bool:
    """Whether `text` is shown as it is, in one line, and is not blank; the database asks the same of names."""
    return text.strip() != "" and _visible(text) == text


def safe(value: Any, several_lines: frozenset[str] = frozenset(), longest: int = MAX_TEXT) -> Any:
    """JSON data with every text and every key as `one_line`, or as `many_lines` what stands under `several_lines`."""
    if isinstance(value, str):
        return one_line(value, longest)
    if isinstance(value, dict):
        return {
            one_line(str(key)): many_lines(inner, longest)
            if key in several_lines and isinstance(inner, str)
            else safe(inner, several_lines, longest)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [safe(inner, several_lines, longest) for inner in value]
    return value


def sanitize_for_storage(value: T) -> T:
    """`value` with the characters replaced that PostgreSQL cannot store (NUL, lone surrogates), however deep they are.

    A model's answer or a stranger's request may hold them, and neither may break the record of itself.
    """
    kept: Any = value
    if isinstance(value, str):
        kept = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    elif isinstance(value, dict):
        kept = {sanitize_for_storage(key): sanitize_for_storage(inner) for key, inner in value.items()}
    elif isinstance(value, (list, tuple)):
        kept = [sanitize_for_storage(inner) for inner in value]
    result: T = kept
    return result


def pad(text: str, width: int) -> str:
    """`text` filled up with spaces to `width` columns of a terminal."""
    return text + " " * (width - sum(_columns(char) for char in text))


def _columns(char: str) -> int:
    if _is_mark(char) or char in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _truncate(shown: str, longest: int) -> str:
    """A joiner needs what it joins, so that none stands before the mark of the cut."""
    return shown if len(shown) <= longest else shown[: longest - 1].rstrip(_JOINERS) + _CUT


def _visible(line: str) -> str:
    """`line` with the escape text of what cannot be shown in place of it, and a space for any white space."""
    if line.isascii() and line.isprintable():
        return line
    shown: list[str] = []
    marks = 0
    for at, char in enumerate(line):
        marks = marks + 1 if _is_mark(char) else 0
        if marks > MAX_MARKS:
            shown.append("\ufffd" if marks == MAX_MARKS + 1 else "")
            continue
        before = line[at - 1] if shown and shown[-1] == line[at - 1] else ""
        shown.append(_escaped_unless_visible(before, char, line[at + 1 : at + 2]))
    return "".join(shown)


def _escaped_unless_visible(before: str, char: str, after: str) -> str:
    """`char`, or its escape text; `before` is empty where its own character was not shown as it is."""
    if char.isspace():
        return " "
    if _has_ink(char) or _SELECTED.fullmatch(before + char):
        return char
    if _joins(before, char, after):
        return char
    return char.encode("unicode_escape").decode("ascii")


def _joins(before: str, char: str, after: str) -> bool:
    """Whether `char` is a joiner where a script or an emoji needs it.

    In the scripts of India it may stand before a virama, and a zero-width joiner behind one ends a word (Unicode 12.1).
    """
    if char == _JOINERS[1] and _is_virama(before) and (not after or after.isspace()):
        return True
    is_joined = _JOINED.fullmatch(before + char + after) is not None
    return is_joined and _has_ink(after) and (not _is_mark(after) or _is_virama(after))


def _is_virama(char: str) -> bool:
    return char != "" and char in _VIRAMAS


def _has_ink(char: str) -> bool:
    is_known = char.isprintable() or ord(char) in _EMOJI
    return is_known and char not in _UNSEEN and _SELECTOR.match(char) is None


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Me")
