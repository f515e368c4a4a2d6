"""Levels of log events: that something works again is information, whatever the level of its failure was."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("actors", "cli", "engine", "simulator", "webhook_server")
ALARMING: Final = re.compile(r"\.(?:warning|error|exception|critical)\(([^()]*)")
RECOVERY: Final = re.compile(r'"\w+_(?:recovered|restored|acquired)"')


def test_recovery_is_information() -> None:
    sources = [path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    alarming = " ".join(call for source in sources for call in ALARMING.findall(source))
    assert RECOVERY.findall(alarming) == []
    assert len(RECOVERY.findall(" ".join(sources))) > 5
