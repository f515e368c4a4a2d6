"""What is wrong with a signal, by the names of its fields, for its sender and for the log."""

from collections.abc import Mapping
from typing import Final, Self

from engine.errors import SparkyError

MOST_NAMED: Final = 30


class FieldError(SparkyError, ValueError):
    """Fields that cannot be used. `where` is the first one's name as the sender writes it, `fields` are all of them.

    `message` continues `where` and tells every field's own reason. `line` and `column` (from 1) are where the body
    stops being JSON, None when it does not.
    """

    def __init__(
        self,
        where: str,
        message: str,
        fields: tuple[str, ...] = (),
        *,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.where = where
        self.message = message
        self.fields = fields or (where,)
        self.line = line
        self.column = column

    @classmethod
    def of(cls, reasons: Mapping[str, str]) -> Self:
        """One error for all fields in `reasons`, which has each one's reason, the first first."""
        (where, message), *others = list(reasons.items())[:MOST_NAMED]
        others_text = "".join(f"; {name}: {reason}" for name, reason in others)
        return cls(where, message + others_text, (where, *(name for name, _ in others)))


def is_safe_to_repeat(name: str) -> bool:
    """Whether an answer may repeat `name`, which a sender wrote: it looks like a field's name, and like no secret."""
    return len(name) <= 40 and name.isascii() and name.isidentifier() and "whsec" not in name.lower()
