"""Text that hides, forges lines, turns words round or commands a terminal, and the look at what was shown of it."""

from typing import Final

# Rich's markup and emoji, then what a terminal obeys: OSC 52 and OSC 8, CSI and DCS in 7 and in 8 bits, a line of its
# own by every line break that some reader knows, bidirectional controls, what has no width, tags, DEL.
HOSTILE: Final = (
    "[bold]x[/b]:smile: a\x1b]52;c;aGk=\x07b\x1b]8;;http://e.example\x1b\\c\x9b2Jd\x90q\x9c\x1b[1A\x1b[2K"
    "\nFORGED\r\nFORGED\rFORGED\x0bFORGED\x0cFORGED\x85FORGED\u2028FORGED\u2029FORGED"
    "\u202ee\u2066f\u200eg\u061ch\u200bi\ufeffj\U000e0041k\x7fl\u115f\u3164"
)
ORDINARY: Final = "Zürich 漢字 한국어 العربية עברית हिन्दी é 🚀 👩‍💻 ❤️ می‌خواهم"


def unsafe(shown: str) -> list[str]:
    """Each character of `shown` that commands a terminal, breaks a line, turns text round or is not seen."""
    return sorted(
        {hex(ord(char)) for char in shown if (char != "\n" and not char.isprintable()) or char in "\u115f\u3164"}
    )


def forged(shown: str) -> list[str]:
    """Lines that begin with what stood behind a line break of the hostile text."""
    return [line for line in shown.split("\n") if line.startswith("FORGED")]
