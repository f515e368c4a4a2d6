"""Foreign words as one line that any log, terminal or page may show."""

from typing import Final

LONGEST: Final = 300


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` in one line of at most `longest` characters; control, format and surrogate characters become spaces."""
    shown = "".join(char if char.isprintable() else " " for char in text[: 8 * longest])
    return " ".join(shown.split())[:longest]
