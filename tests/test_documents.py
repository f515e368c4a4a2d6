"""Documents name files of the code and of the tests: each of them exists."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("ops/**/*.md")])
ROOMS: Final = (
    "actors", "benchmarks", "cli", "docs", "engine", "migrations", "ops", "simulator", "tests", "webhook_server",
)  # fmt: skip
PATH: Final = re.compile(rf"(?:{'|'.join(ROOMS)})(?:/[A-Za-z0-9_.\-]+)+/?|supervisor\.py")


def code_spans(document: Path) -> list[str]:
    """What stands between backticks, blocks of examples apart."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    named = {span.partition("::")[0] for span in code_spans(document)}
    paths = [name for name in named if PATH.fullmatch(name)]
    assert sorted(path for path in paths if not any((root / path).exists() for root in (ROOT, ROOT / "tests"))) == []
