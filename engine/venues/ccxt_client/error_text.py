"""What a venue said, for people: one printable line of bounded length, without what was signed and without secrets."""

import json
import re
from typing import Any, Final

import ccxt
from pydantic import SecretStr

from engine.platform.plain_text import one_line
from engine.platform.redaction import Redactor

LONGEST: Final = 200
_READ: Final = 4_000  # of an answer, from which its words are taken
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_PAGE: Final = re.compile(r"<(?:!doctype|html|head|body)\b.*", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^<>]*>|[<>]")
_QUERY: Final = re.compile(r"\?\S*|\bsignature=\S*", re.IGNORECASE)


class NoVerdict(ccxt.ExchangeNotAvailable):  # type: ignore[misc] # ccxt has no types
    """An answer that decides nothing, such as any 5xx: what its body says is for people only."""


class Words:
    """Takes words out of the answers to one account, whose secrets no answer may repeat."""

    def __init__(self, exchange: Any) -> None:
        secrets = (getattr(exchange, name, None) for name in ("apiKey", "secret", "privateKey"))
        self._redactor = Redactor(SecretStr(secret) for secret in secrets if secret)

    def line(self, text: str) -> str:
        """`text` without addresses' queries, markup and secrets; of a page of HTML its title."""
        text = text[:_READ]
        title = _TITLE.search(text)
        text = _PAGE.sub(f" a page titled '{title[1]}'" if title else " a page", text)
        return one_line(self._redactor.text(_TAG.sub(" ", _QUERY.sub("", text))), LONGEST)

    def of_body(self, body: str) -> str:
        """What an answer's body says: its ``msg`` and ``code`` where it has them."""
        answer = coded(body)
        if not answer:
            return self.line(body)
        return f"{self.line(str(answer.get('msg') or ''))} ({self.line(code_in(answer))})".strip()

    def of_error(self, error: ccxt.BaseError) -> str:
        """The venue's own words where it had some; else ccxt's."""
        if isinstance(error, NoVerdict):
            return self.line(str(error))
        if coded(str(error)):
            return self.of_body(str(error))
        return f"{self.line(str(error))} ({type(error).__name__})"


def code_of(error: BaseException) -> str | None:
    """The venue's code in one of ccxt's errors; None where it has none, or decides nothing."""
    answer = {} if isinstance(error, NoVerdict) else coded(str(error))
    return code_in(answer) if answer else None


def code_in(answer: dict[str, Any]) -> str:
    return str(answer.get("code"))


def coded(text: str) -> dict[str, Any]:
    """The JSON object with a code that `text` ends with; empty where there is none."""
    start = text.find("{")
    try:
        answer = json.loads(text[start:]) if start >= 0 else {}
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) and "code" in answer else {}
