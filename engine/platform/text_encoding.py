"""Text for streams that show less than Unicode, and text from files in the encodings that people save them in."""

import codecs
import re
import select
from typing import Any, Final, TextIO

ERRORS: Final = "sparky.showable"  # for `str.encode`, once it is registered
UTF8: Final = "utf-8"

# One cell for one cell, so that tables stay in line.
_STAND_INS: Final = {
    "\u2010": "-",
    "\u2011": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2212": "-",
    "\u2500": "-",
    "\u2502": "|",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2022": "*",
    "\u2026": "~",
    "\u00b7": ".",
    "\u00d7": "x",
    "\u00a0": " ",
    "\u202f": " ",
    "\u2192": ">",
    "\u2265": ">",
    "\u2713": "+",
    "\u2717": "x",
}


def register_errors() -> None:
    """Makes `ERRORS` known to this process, for streams that encode by it."""
    codecs.register_error(ERRORS, _stand_in)


def encode_text(text: str, encoding: str) -> bytes:
    """`text` in `encoding`: typography as plain signs, every other character that it lacks as ``\\u4e2d``."""
    register_errors()
    try:
        return text.encode(encoding, ERRORS)
    except UnicodeError:  # a codec of names and not of text ("idna"), or none at all ("undefined")
        return text.encode("ascii", ERRORS)


def replace_unshowable(value: Any, encoding: str) -> Any:
    """`value`, JSON data, as a stream of that `encoding` will show it: for whatever is laid out by its width."""
    if isinstance(value, str):
        data = encode_text(value, encoding)
        try:
            return data.decode(encoding)
        except UnicodeError:
            return data.decode("ascii", "replace")
    if isinstance(value, dict):
        return {key: replace_unshowable(inner, encoding) for key, inner in value.items()}
    if isinstance(value, list):
        return [replace_unshowable(inner, encoding) for inner in value]
    return value


def is_unicode(text: str) -> bool:
    """False where it holds half a character, or bytes that were no text in the locale's encoding."""
    try:
        text.encode(UTF8)
    except UnicodeEncodeError:
        return False
    return True


def decode_text(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its byte order mark. Raises UnicodeDecodeError for any other."""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    if error.object[error.start].isascii():  # no escape helps: cp864 lacks "%"
        return b"?", error.start + 1
    lacking = re.split(r"[\x00-\x7f]", error.object[error.start : error.end])[0]
    return "".join(_STAND_INS.get(char) or _escape(char) for char in lacking), error.start + len(lacking)


def _escape(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode("ascii")


# Descriptors and text streams of a process: what they can show, and how to wait until they take more.


def encoding_of(stream: TextIO | None) -> str:
    """The encoding in which `stream` writes; UTF-8 where it is closed or knows none."""
    return getattr(stream, "encoding", None) or UTF8


def wait_until_writable(descriptor: int, timeout_s: float | None = None) -> None:
    """Returns when `descriptor`, which does not block, takes more; after `timeout_s` seconds in any case."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll(None if timeout_s is None else timeout_s * 1000)
