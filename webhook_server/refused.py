"""Why a request was refused, for the log: only words of our own, since what was sent may hold a secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from engine.plain_text import one_line
from webhook_server.schemas import AiSignal, FieldError

UNSHOWN: Final = "\u2026"
_SPLIT: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NAME: Final = re.compile(r"[A-Za-z_.-]{1,60}")
_QUOTED: Final = re.compile(r"""`([^`]*)`|'([^']*)'|"([^"]*)"|\u201c([^\u201d]*)\u201d|\u2018([^\u2019]*)\u2019""")
_OTHER_WORDS: Final = """
    ai alert alerts api amount authorization body bot buy close content contracts default docs encoding entry exit
    favicon flat health healthz hedge hook hooks html http ico id json length limit live long main market metrics mode
    openapi orders positions prev production qty quantity reduce robots secret sell short side signal signals size sl
    stop status swagger take testnet ticker timestamp token tp trade tradingview transfer txt type webhook webhooks
    worker executing signature paper order position percentage
"""


def _words(text: str) -> set[str]:
    return {word.lower() for word in _SPLIT.findall(text)}


_KNOWN_WORDS: Final = _words(" ".join(AiSignal.model_fields) + _OTHER_WORDS + "useTrailingStop sizeUsd")


@dataclass(frozen=True)
class Refused:
    """`reason` in our words; `field` and `fields` as we know them; `line` and `column` of a body that is not JSON.

    `user` is who proved to have sent it, `signal` the id of a signal that could be read.
    """

    reason: str
    field: str | None = None
    fields: tuple[str, ...] = ()
    line: int | None = None
    column: int | None = None
    user: UUID | None = None
    signal: str | None = None

    @classmethod
    def of_field(cls, error: FieldError, user: UUID | None = None, body: Mapping[str, Any] | None = None) -> "Refused":
        """Of a body or a field that cannot be used; nothing that `body` says is repeated."""
        names = tuple(dict.fromkeys((error.where, *getattr(error, "fields", ()))))
        said = [value for value in (body or {}).values() if isinstance(value, str)]
        message = f"{error.where}: {error.message}"
        for text in sorted((*names, *said), key=len, reverse=True):
            message = message.replace(text, familiar(text)) if len(text) > 2 else message
        shown = tuple(dict.fromkeys(familiar(name) for name in names))
        return cls(
            _without_quotations(message),
            field=shown[0],
            fields=shown if len(shown) > 1 else (),
            line=getattr(error, "line", None),
            column=getattr(error, "column", None),
            user=user,
        )

    def shown(self) -> dict[str, object]:
        """The fields of the log line that are not empty."""
        told = {
            "reason": one_line(self.reason),
            "field": self.field,
            "fields": list(self.fields),
            "line": self.line,
            "column": self.column,
            "user": None if self.user is None else str(self.user),
            "signal": self.signal,
        }
        return {name: value for name, value in told.items() if value not in (None, [])}


def familiar(text: str) -> str:
    """`text` if it is made of words that we know: a name that the sender made up may be anything."""
    is_known = _NAME.fullmatch(text) is not None and _words(text) <= _KNOWN_WORDS
    return text if is_known else UNSHOWN


def familiar_path(path: str) -> str:
    """`path` with what we know of it, at most four segments."""
    segments = path.split("/")[:5]
    return "/".join(familiar(each) if each else "" for each in segments) or "/"


def _without_quotations(message: str) -> str:
    """pydantic and others repeat pieces of what was sent, in quotation marks."""

    def shown(found: re.Match[str]) -> str:
        quoted = next(group for group in found.groups() if group is not None)
        return found.group().replace(quoted, familiar(quoted)) if quoted else found.group()

    return _QUOTED.sub(shown, message)
