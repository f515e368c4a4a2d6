"""A venue's error text for people: one printable line of bounded length, without signed queries and secrets."""

import json
import re
from typing import Any, Final

import ccxt
from pydantic import SecretStr

from engine.platform.plain_text import one_line
from engine.platform.redaction import Redactor

MAX_LENGTH: Final = 200
_MAX_READ_LENGTH: Final = 4_000  # of an answer; the text beyond is not searched
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_PAGE: Final = re.compile(r"<(?:!doctype|html|head|body)\b.*", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^<>]*>|[<>]")
_QUERY: Final = re.compile(r"\?\S*|\bsignature=\S*", re.IGNORECASE)


class InconclusiveAnswer(ccxt.ExchangeNotAvailable):  # type: ignore[misc] # ccxt has no types
    """An answer that does not decide the outcome, such as any 5xx; its text is for people only."""


class ErrorTextReader:
    """Extracts texts from answers to one account, without the account's secrets."""

    def __init__(self, exchange: Any) -> None:
        secrets = (getattr(exchange, name, None) for name in ("apiKey", "secret", "privateKey"))
        self._redactor = Redactor(SecretStr(secret) for secret in secrets if secret)

    def clean_line(self, text: str) -> str:
        """`text` without addresses' queries, markup and secrets; of a page of HTML its title."""
        text = text[:_MAX_READ_LENGTH]
        title = _TITLE.search(text)
        text = _PAGE.sub(f" a page titled '{title[1]}'" if title else " a page", text)
        return one_line(self._redactor.text(_TAG.sub(" ", _QUERY.sub("", text))), MAX_LENGTH)

    def from_body(self, body: str) -> str:
        """``msg`` and ``code`` of an answer's body where it has them, else its text."""
        answer = parse_coded_json(body)
        if not answer:
            return self.clean_line(body)
        return f"{self.clean_line(str(answer.get('msg') or ''))} ({self.clean_line(read_code(answer))})".strip()

    def from_error(self, error: ccxt.BaseError) -> str:
        """The venue's text where it sent one, else ccxt's."""
        if isinstance(error, InconclusiveAnswer):
            return self.clean_line(str(error))
        if parse_coded_json(str(error)):
            return self.from_body(str(error))
        return f"{self.clean_line(str(error))} ({type(error).__name__})"


def find_code(error: BaseException) -> str | None:
    """The venue's code in one of ccxt's errors; None where it has none, or is inconclusive."""
    answer = {} if isinstance(error, InconclusiveAnswer) else parse_coded_json(str(error))
    return read_code(answer) if answer else None


def read_code(answer: dict[str, Any]) -> str:
    return str(answer.get("code"))


def parse_coded_json(text: str) -> dict[str, Any]:
    """The JSON object with a code that `text` ends with; empty where there is none."""
    start = text.find("{")
    try:
        answer = json.loads(text[start:]) if start >= 0 else {}
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) and "code" in answer else {}
