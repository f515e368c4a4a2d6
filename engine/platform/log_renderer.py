"""Log events for people at a terminal: time, process, event, then the details; one event, one line."""

# structlog's own renderers do not serve here. `structlog.dev.ConsoleRenderer` writes control characters as they are,
# unless a value has a blank or a quote in it, pads by the number of characters instead of columns, gives a column's
# formatter no access to the level, and puts a field called `stack` on a line of its own, which could pass for an event.
# `LogfmtRenderer` writes them too, `KeyValueRenderer` quotes values but no keys; both have no columns, and put a whole
# traceback into one value. With processors in front that make keys and values safe, what remains for the library is the
# joining of columns: no less code than the class below.

import re
from collections.abc import MutableMapping
from typing import Any, Final

from engine.platform.plain_text import many_lines, one_line, pad

_RESET: Final = "\x1b[0m"
_STYLES: Final = {
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
    "actor": "\x1b[36m",
    "debug": "\x1b[2m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31;1m",
}
_MARKS: Final = {"debug": ".", "info": " ", "warning": "!", "error": "x", "critical": "x"}
_UUID: Final = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_DERIVED: Final = re.compile(
    r"(?<![\w/])(body/[0-9a-f]{8})[0-9a-f]{32}(?![\w])(/\d+\.\d{3}-[0-9a-f]{8})?"
)  # of a body's digest
_IDS: Final = frozenset({"signal", "strategy", "user", "cycle"})
_TRACE: Final = "  | "  # before every line of a traceback, so that none of them can pass for an event
ACTOR_WIDTH: Final = 17
EVENT_WIDTH: Final = 28
MAX_NAME: Final = 100  # of an actor or a key
MAX_DETAIL: Final = 2_000
MAX_TRACE: Final = 200_000


class ConsoleRenderer:
    """A structlog renderer. Ids are cut to their first 8 digits; the JSON form has them whole."""

    def __init__(self, *, has_colour: bool) -> None:
        self._has_colour = has_colour

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> str:
        level = str(event.pop("level", "info"))
        clock = str(event.pop("timestamp", ""))[11:19]
        actor = one_line(_shorten_ids(str(event.pop("actor", None) or "sparky")), MAX_NAME)
        text = _format_value(event.pop("event", "")).replace("_", " ")
        trace = event.pop("exception", None)
        fields = sorted(event.items(), key=lambda item: item[0] in _IDS)  # a stable sort: ids last
        details = " ".join(
            f"{one_line(key, MAX_NAME)}={_format_value(value)}" for key, value in fields if value is not None
        )
        mark = self._style(level, _MARKS.get(level, " "))
        shown = self._style(level if level in ("warning", "error", "critical") else "bold", pad(text, EVENT_WIDTH))
        line = f"{self._style('dim', clock)} {mark} {self._style('actor', pad(actor, ACTOR_WIDTH))} {shown}"
        line = f"{line} {self._style('dim', details)}" if details else line.rstrip()
        return f"{line}\n{_mark_traceback(str(trace))}" if trace else line

    def _style(self, style: str, text: str) -> str:
        return f"{_STYLES[style]}{text}{_RESET}" if self._has_colour and style in _STYLES else text


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(_shorten_ids(str(value)), MAX_DETAIL)


def _mark_traceback(trace: str) -> str:
    return "\n".join(_TRACE + line for line in many_lines(trace, MAX_TRACE).split("\n"))


def _shorten_ids(text: str) -> str:
    return _DERIVED.sub(r"\1", _UUID.sub(r"\1", text))
