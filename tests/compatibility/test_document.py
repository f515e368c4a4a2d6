"""docs/compatibility.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:[\w/]+\.py|\u2026)(?:::[\w\u2026]+)?)`")


def test_every_test_that_the_document_names_exists() -> None:
    first, seen = "", 0
    for line in (ROOT / "docs" / "compatibility.md").read_text().splitlines():
        if not line.startswith("| ") or line.startswith("| input"):
            first = first if line.startswith("|") else ""
            continue
        for named in NAMED.findall(line.rpartition(" | ")[2]):
            path, _, name = named.partition("::")
            first = first or path
            text = (ROOT / "tests" / (first if path == "\u2026" else path)).read_text()
            pattern = re.escape(name).replace("\u2026", r"\w*")
            assert not name or re.search(rf"def {pattern}\(", text), named
            seen += 1
    assert seen > 30
