"""Why a request was refused, for the log: only words of our own, since what was sent may hold a secret."""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from engine.plain_text import one_line
from webhook_server.faults import FieldError
from webhook_server.schemas import AiSignal

UNSHOWN: Final = "\u2026"
_SPLIT: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NAME: Final = re.compile(r"[A-Za-z_.-]{1,60}")
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
    def of_field(cls, error: FieldError, user: UUID | None = None) -> "Refused":
        """Of a body or a field that cannot be used; of the names that the sender wrote, those that we know."""
        told = [f"{known_words_only(name)}: {reason}" for name, reason in error.reasons]
        shown = tuple(dict.fromkeys(known_words_only(name) for name in error.fields))
        return cls(
            "; ".join(told),
            field=shown[0],
            fields=shown if len(shown) > 1 else (),
            line=error.line,
            column=error.column,
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


def known_words_only(text: str) -> str:
    """`text` if it is made of words that we know: a name that the sender made up may be anything."""
    is_known = _NAME.fullmatch(text) is not None and _words(text) <= _KNOWN_WORDS
    return text if is_known else UNSHOWN


def known_words_of_path(path: str) -> str:
    """`path` with what we know of it, at most four segments."""
    segments = path.split("/")[:5]
    return "/".join(known_words_only(each) if each else "" for each in segments) or "/"
