"""Reads migrations/functions/: statements that create functions, comment on them or grant their execution."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A semicolon, or a token in which a semicolon ends no statement: comment, string, quoted name, body.
_TOKEN: Final = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | [eE]'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | "(?:""|[^"])*" """
    r"""| (\$(?:[A-Za-z_]\w*)?\$) .*? \1 | ;""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_FUNCTION: Final = re.compile(r"create\s+or\s+replace\s+function\s+public\.(\w+)\s*\(", re.IGNORECASE)
_COMMENT_OR_GRANT: Final = re.compile(
    r"(?:revoke|grant)\s+execute\s+on\s+function\s+public\.|comment\s+on\s+function\s+public\.", re.IGNORECASE
)


class MigrationToolError(Exception):
    """No migration was written; the text says what to change first."""


@dataclass(frozen=True)
class Statement:
    """`function` is the name of the function that it creates; `comment` the lines above it, with their newlines."""

    file: str
    line: int
    text: str
    comment: str
    function: str | None

    def build_error(self, problem: str, position: int = 0) -> MigrationToolError:
        """The error for a `problem` at character `position` of the text."""
        line = self.line + self.text.count("\n", 0, position)
        return MigrationToolError(f"{self.file}:{line}: {problem}.")

    @property
    def without_comments(self) -> str:
        """The text with its comments replaced by blanks, so that positions are unchanged."""
        return _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), self.text)


def read_source(folder: Path) -> tuple[Statement, ...]:
    """All statements, in the order of the files' names. Raises MigrationToolError, naming file and line."""
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise MigrationToolError(f"{folder} holds no *.sql files.")
    return tuple(statement for path in files for statement in _split_statements(path.name, path.read_text("utf-8")))


def _split_statements(file: str, text: str) -> Iterator[Statement]:
    start = 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            yield _parse_statement(file, text, start, token.end())
            start = token.end()
    rest = _COMMENT.sub("", text[start:]).strip()
    if rest:
        first = text.index(rest.splitlines()[0], start)
        line = text.count("\n", 0, first) + 1
        raise MigrationToolError(
            f"{file}:{line}: this statement does not end; it needs a semicolon or a closing quote."
        )


def _parse_statement(file: str, text: str, start: int, end: int) -> Statement:
    begin = start + len(text[start:end]) - len(_skip_comments(text[start:end]))
    body = text[begin:end]
    created = _FUNCTION.match(body)
    above = re.search(r"(?:^--[^\n]*\n)+\Z", text[start:begin], re.MULTILINE)
    statement = Statement(
        file, text.count("\n", 0, begin) + 1, body, above[0] if above else "", created[1] if created else None
    )
    if not created and not _COMMENT_OR_GRANT.match(body):
        raise statement.build_error(
            "only `create or replace function public...`, `comment on function` and `grant` or `revoke execute on "
            "function` may stand here; tables, triggers and data belong into a migration of their own"
        )
    return statement


def _skip_comments(text: str) -> str:
    stripped = text.lstrip()
    while comment := _COMMENT.match(stripped):
        stripped = stripped[comment.end() :].lstrip()
    return stripped
