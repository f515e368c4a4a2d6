"""What is wrong with a signal, by the names of its fields, for its sender and for the log."""

from collections.abc import Mapping
from typing import Final, Self

from engine.platform.errors import SparkyError

MAX_FIELDS: Final = 30


class FieldError(SparkyError, ValueError):
    """Fields that cannot be used: `reasons` has each one's name, as the sender writes it, and its reason.

    A reason is a sentence of ours, which repeats nothing of what was sent. `line` and `column` (from 1) are where the
    body stops being JSON, None when it does not.
    """

    def __init__(
        self, field_name: str, reason: str, *others: tuple[str, str], line: int | None = None, column: int | None = None
    ) -> None:
        self.reasons = ((field_name, reason), *others)
        self.line = line
        self.column = column
        super().__init__(self.message)

    @property
    def field_name(self) -> str:
        """The name of the first field."""
        return self.reasons[0][0]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of all fields."""
        return tuple(name for name, _ in self.reasons)

    @property
    def message(self) -> str:
        """Every field's own reason; continues `field_name`."""
        (_, first), *others = self.reasons
        return first + "".join(f"; {name}: {reason}" for name, reason in others)

    @classmethod
    def from_reasons(cls, reasons: Mapping[str, str]) -> Self:
        """One error for all fields in `reasons`, which has each one's reason, the first first."""
        (where, reason), *others = list(reasons.items())[:MAX_FIELDS]
        return cls(where, reason, *others)


def is_safe_to_repeat(name: str) -> bool:
    """Whether an answer may repeat `name`, which a sender wrote: it looks like a field's name, and like no secret."""
    return len(name) <= 40 and name.isascii() and name.isidentifier() and "whsec" not in name.lower()
