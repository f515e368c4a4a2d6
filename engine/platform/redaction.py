"""Removes secrets from log events: by type, by the name of the field, and by their own shape."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, SecretBytes, SecretStr

HIDDEN: Final = "[hidden]"
MIN_SECRET: Final = 6  # a shorter registered secret would blank out ordinary words
MAX_NAMES: Final = 1_000
DEEPEST: Final = 20  # levels of nesting; deeper values, as of a list that contains itself, are hidden

_NAMES: Final = (
    r"[\w-]*(?:secret|api[_-]?key|private[_-]?key|service[_-]?role[_-]?key|passphrase|password|passwd|authorization)"
    r"[\w-]*"
)
_SECRET_NAME: Final = re.compile(_NAMES, re.IGNORECASE)

# Shapes, most telling first: Groq keys, webhook secrets, Supabase keys and JWTs, bearer headers, 32-byte hex keys
# (EIP-712 signers), passwords in URLs, then "name": "value" and name=value pairs under a secret's name.
_SHAPES: Final = (
    (re.compile(r"\b(gsk|whsec|sb_secret|sb_publishable|sk_live|sk_test|rk_live)_[A-Za-z0-9+/=_\-]+"), rf"\1_{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/=._~\-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b0x[0-9a-fA-F]{64}\b"), HIDDEN),
    (re.compile(r"(\b[a-z][a-z0-9+.\-]*://[^\s:/@]*):[^\s@/]+@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (
        re.compile(rf"""(["']{_NAMES}["']\s*:\s*)(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.IGNORECASE),
        rf'\1"{HIDDEN}"',
    ),
    (re.compile(rf"""(\b{_NAMES}=)(?:"[^"]*"|'[^']*'|[^\s&,;'")]+)""", re.IGNORECASE), rf"\1{HIDDEN}"),
)


# Ids, symbols and single words match none of the shapes, and are most values: this check saves seven searches.
_PLAIN: Final = re.compile(r"[A-Za-z0-9-]{1,60}")


class Redactor:
    """Replaces secrets in values that are about to be written; what it returns is plain JSON data.

    `known` are secrets of this process: their text is hidden wherever it appears, whatever its shape.
    """

    def __init__(self, known: Iterable[SecretStr] = ()) -> None:
        texts = {secret.get_secret_value() for secret in known}
        self._known = sorted((text for text in texts if len(text) >= MIN_SECRET), key=len, reverse=True)
        self._names: dict[str, tuple[str, bool]] = {}

    def text(self, value: str) -> str:
        for secret in self._known:
            value = value.replace(secret, HIDDEN)
        if _PLAIN.fullmatch(value):
            return value
        for shape, replacement in _SHAPES:
            value = shape.sub(replacement, value)
        return value

    def fields(self, event: Mapping[str, object]) -> dict[str, object]:
        return self._mapping(event, 0)

    def _mapping(self, mapping: Mapping[object, object] | Mapping[str, object], depth: int) -> dict[str, object]:
        shown = {}
        for key, value in mapping.items():
            name, is_secret = self._name(str(key))
            hides = is_secret and value is not None and not isinstance(value, bool)
            shown[name] = HIDDEN if hides else self._value(value, depth)
        return shown

    def _name(self, name: str) -> tuple[str, bool]:
        """The name as it may be shown, and whether its value is a secret. Cached: the same names come in every line."""
        known = self._names.get(name)
        if known is None:
            known = (self.text(name), _SECRET_NAME.fullmatch(name) is not None)
            if len(self._names) < MAX_NAMES:
                self._names[name] = known
        return known

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (SecretStr, SecretBytes)) or depth >= DEEPEST:
            return HIDDEN
        if isinstance(value, BaseModel):
            return self._mapping(dict(value), depth + 1)
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value(item, depth + 1) for item in value]
        return self.text(value.decode(errors="replace") if isinstance(value, bytes) else str(value))
