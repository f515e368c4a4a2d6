"""Checks of single settings: addresses, keys and names, each refused with a sentence that never shows its value."""

import re
import unicodedata
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

_QUOTES: Final = frozenset("\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb")


def comma_list(value: object) -> object:
    """The parts of a comma-separated text; what is no text stays as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def http_url(value: str) -> str:
    """An address without its last slash. Raises ValueError for another scheme than http or https."""
    if not value.lower().startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


def endpoint(value: str) -> str:
    """The address of a Groq-compatible server, without the path that the client adds. Raises ValueError."""
    if value[:1] in _QUOTES or value[-1:] in _QUOTES:
        raise ValueError("has quotation marks around it: leave them away")
    url = http_url(value)
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("holds a space or a character that no address has, perhaps an invisible one: type it again")
    parts = _split(url)
    if not parts.hostname or parts.query or parts.fragment or not re.fullmatch(r"[\w.:\[\]-]+", parts.netloc):
        raise ValueError("is no address of a server, such as https://api.groq.com")
    if re.search(r"/openai(/v1)?$|/v1$|/openai/v1/|/chat/completions$", parts.path, re.IGNORECASE):
        raise ValueError("must end before /openai/v1, which is added to it")
    return url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise ValueError("is no address of a server, such as https://api.groq.com") from None
    return parts


def model_names(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names as providers write them. Raises ValueError for quotes, spaces and invisible characters."""
    for name in value:
        model_name(name)
    return value


def model_name(value: str) -> str:
    """One name; raises as `model_names`."""
    if not re.fullmatch(r"[A-Za-z0-9@./~][A-Za-z0-9._:/@+~-]*", value):
        raise ValueError("a model's name has letters, digits and . _ : / @ + - only: leave quotes and spaces away")
    return value


def header_secret(value: SecretStr) -> SecretStr:
    """Keys travel in a header: what cannot stand there would fail at every request, and say the key as it does."""
    text = value.get_secret_value()
    if text[:1] in _QUOTES or text[-1:] in _QUOTES:
        raise ValueError("has quotation marks around it: leave them away")
    if re.match(r"(bearer|basic)[\s:]", text, re.IGNORECASE):
        raise ValueError("begins with the name of a scheme: give the key alone")
    if re.match(r"[A-Z][A-Z0-9_]{3,}=", text):
        raise ValueError("begins with the name of a setting: give the key alone")
    if re.fullmatch(r"<.*>|\$?\{.*\}", text):
        raise ValueError("is a placeholder: put the key itself there")
    odd = next((number for number, char in enumerate(text, 1) if not "!" <= char <= "~"), None)
    if odd is not None:
        name = unicodedata.name(text[odd - 1], "a control character").lower()
        raise ValueError(f"has a character that no key has at place {odd} ({name}): copy it again")
    return value
