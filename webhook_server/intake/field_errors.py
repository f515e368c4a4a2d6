"""The error for fields that cannot be used: names and reasons, for the response and for the log."""

from collections.abc import Mapping
from typing import Final, Self

from engine.platform.errors import SparkyError

MAX_FIELDS: Final = 30


class FieldError(SparkyError, ValueError):
    """Fields that cannot be used: `reasons` has the name of each, as the sender writes it, and its reason.

    A reason never repeats a sent value, which may be a secret. `line` and `column` (from 1) are where a body stops
    being JSON; None for a body that is.
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
        """The reasons of all fields in one sentence that continues `field_name`."""
        (_, first), *others = self.reasons
        return first + "".join(f"; {name}: {reason}" for name, reason in others)

    @classmethod
    def from_reasons(cls, reasons: Mapping[str, str]) -> Self:
        """One error for the fields in `reasons` (name to reason, in order), at most MAX_FIELDS of them."""
        (where, reason), *others = list(reasons.items())[:MAX_FIELDS]
        return cls(where, reason, *others)


def is_safe_to_repeat(name: str) -> bool:
    """Whether a response may repeat the field name `name` of a sender: it looks like a name and like no secret."""
    return len(name) <= 40 and name.isascii() and name.isidentifier() and "whsec" not in name.lower()
