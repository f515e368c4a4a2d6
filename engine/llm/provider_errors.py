"""The one table from what a provider refuses with to what it means, with the provider's own words kept. Pure.

Groq's error codes (console.groq.com/docs/errors, 2026) and what was reported of them; and what proxies, gateways and
Groq-compatible servers send in their place: bare texts, pages of HTML, errors inside a 200.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.domain.completion import LIMIT_WORDS, KnownLimit, LimitName
from engine.llm.outcome import LlmOutcome
from engine.llm.responses import read_json
from engine.platform.http.retry_after import retry_after_in_text
from engine.platform.plain_text import one_line

_MAX_ANSWER: Final = 16_384
_DEEPEST: Final = 5
_ERROR_FIELDS: Final = ("error", "errors", "detail", "base_resp", "msg", "message")
MIN_TOKENS: Final = 500  # a limit below it would let no request through, so it is a misreading


_PAGE: Final = re.compile(rb"<(!doctype|html|head|title)\b", re.IGNORECASE)


class ErrorClass(NamedTuple):
    """How a refusal is to be taken. `reason` is one line: the status, the code, and what the provider said.

    `rejected_text` is what the model wrote when the provider itself could not use it. `wait_s` is how long the words
    ask to wait, `limit` which limit they name.
    """

    outcome: LlmOutcome
    reason: str
    rejected_text: str | None = None
    wait_s: float | None = None
    limit: KnownLimit | None = None


class _Said(NamedTuple):
    """What an error body says: its code and type in lower case, its message, and what the model had written."""

    status: int
    code: str
    message: str
    is_page: bool
    is_inside: bool
    failed_generation: str | None


class _Rule(NamedTuple):
    """Applies to one of these `codes`, or to `words` in the message of one of these `statuses` (None: of any)."""

    outcome: LlmOutcome
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    statuses: frozenset[int] | None = None

    def applies_to(self, said: _Said) -> bool:
        if said.code in self.codes:
            return True
        has_status = self.statuses is None or said.status in self.statuses
        return self.words is not None and has_status and self.words.search(said.message) is not None


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_NOT_SERVER: Final = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_MODEL_NAME: Final = r"\bmodel\b[ :`'\"]{1,3}[\w./:@-]{1,80}[`'\"]?[ ,:]{1,3}"
# The first rule that applies counts.
_RULES: Final[tuple[_Rule, ...]] = (
    _Rule(
        LlmOutcome.CUT,
        frozenset({"max_tokens_reached", "max_completion_tokens_reached"}),
        _words(r"max(imum)?( of)?[ _](completion|output)[ _]tokens( was| were)? reached"),
        frozenset({400, 422}),
    ),
    _Rule(LlmOutcome.UNUSABLE, frozenset({"json_validate_failed", "tool_use_failed", "output_parse_failed"})),
    _Rule(
        LlmOutcome.REJECTED,
        frozenset({"extra_forbidden", "unknown_parameter", "unsupported_parameter", "unsupported_value"}),
        _words(
            r"extra (fields|inputs)|not permitted|unrecognized|unexpected (field|keyword)|unknown (field|parameter)"
        ),
        frozenset({400, 422}),
    ),
    _Rule(
        LlmOutcome.KEY_REFUSED,
        frozenset(
            {"invalid_api_key", "expired_api_key", "api_key_expired", "api_key_invalid", "invalid_authentication"}
        ),
        _words(
            r"\b(invalid|incorrect|expired|revoked|missing|unknown) api[ _-]?key\b|\bapi[ _-]?key (is )?not valid"
            r"|\bapi[ _-]?key was reported"
        ),
        frozenset({400, 401, 403}),
    ),
    _Rule(
        LlmOutcome.ACCOUNT_REFUSED,
        frozenset(
            {"organization_restricted", "organization_deactivated", "account_deactivated", "blocked_api_access"}
            | {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "spend_limit_reached"}
            | {"project_restricted", "access_terminated", "insufficient_balance", "spend_alert_blocked"}
        ),
        _words(
            r"(organi[sz]ation|account|project) (has been|is|was) (restricted|deactivated|suspended|disabled|blocked)"
            r"|insufficient (balance|funds|credits)|exceeded your current quota|spend(ing)? limit"
        ),
        _NOT_SERVER,
    ),
    _Rule(
        LlmOutcome.MODEL_GONE,
        frozenset(
            {"model_decommissioned", "model_not_found", "model_not_active", "model_terms_required"}
            | {"model_permission_blocked_org", "model_permission_blocked_project", "model_not_available"}
            | {"model_deprecated"}
        ),
        _words(
            rf"{_MODEL_NAME}(has been |is |was |does )?"
            r"(decommissioned|deprecated|not exist|not found|not active|blocked|requires (terms|acceptance))"
        ),
        frozenset({400, 403, 404}),
    ),
    _Rule(LlmOutcome.MODEL_GONE, words=_words(r"\bmodel\b"), statuses=frozenset({404})),
    _Rule(
        LlmOutcome.EXCEEDS_LIMIT, words=_words(r"tokens per (minute|min\b|day)|\bTP[MD]\b"), statuses=frozenset({413})
    ),
    _Rule(
        LlmOutcome.RATE_LIMITED, words=_words(r"requests per (minute|min\b|day)|\bRP[MD]\b"), statuses=frozenset({413})
    ),
    _Rule(
        LlmOutcome.TOO_LARGE,
        frozenset({"context_length_exceeded", "request_too_large", "string_above_max_length"}),
        _words(
            r"reduce (the|your) (length|size|message)|context (length|window|size)|maximum context|prompt is too long"
        ),
        frozenset({400, 413, 422}),
    ),
    _Rule(LlmOutcome.RATE_LIMITED, frozenset({"rate_limit_exceeded", "rate_limited", "too_many_requests"})),
    _Rule(
        LlmOutcome.NETWORK_REFUSED,
        words=_words(
            r"\b(network|vpn|proxy|firewall|your ip|ip address|country|region|cloudflare|error code: 1\d{3})\b"
        ),
        statuses=frozenset({403, 407, 451}),
    ),
)
_BY_STATUS: Final = {
    400: LlmOutcome.REJECTED,
    401: LlmOutcome.KEY_REFUSED,
    402: LlmOutcome.ACCOUNT_REFUSED,
    403: LlmOutcome.ACCOUNT_REFUSED,
    407: LlmOutcome.NETWORK_REFUSED,
    413: LlmOutcome.TOO_LARGE,
    422: LlmOutcome.UNUSABLE,
    429: LlmOutcome.RATE_LIMITED,
    451: LlmOutcome.NETWORK_REFUSED,
}
_BY_PAGE: Final = frozenset({401, 403, 407, 451})  # a proxy answers with HTML, the API never does


def classify(status: int, content: bytes) -> ErrorClass:
    """What an error status with this body (raw bytes) means; an unknown 4xx is the endpoint's trouble. Never raises."""
    return _refusal(_read(status, read_json(content), content))


def classify_error_in(body: object) -> ErrorClass | None:
    """What an error inside the body of a 200 means, None when there is none in it."""
    first = body[0] if isinstance(body, list) and len(body) == 1 else body
    if not isinstance(first, Mapping):
        return None
    choices = first.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) and _is_error(choices[0].get("error")):
        return _refusal(_read(200, choices[0], b""))
    if _is_error(first.get("error")):
        return _refusal(_read(200, first, b""))
    is_error = choices is None and any(first.get(name) for name in _ERROR_FIELDS)
    return _refusal(_read(200, first, b"")) if is_error else None


def _is_error(value: object) -> bool:
    """Some gateways put an error without an error beside every answer."""
    if not isinstance(value, Mapping):
        return bool(value)
    is_success = str(value.get("code") or "0") in ("0", "200") or str(value.get("message")).lower() in ("ok", "success")
    return not is_success or bool(value.get("message") and str(value["message"]).lower() not in ("ok", "success"))


def _refusal(said: _Said) -> ErrorClass:
    outcome = _outcome(said)
    words = f"{'200 with error ' if said.is_inside else ''}{said.status} {said.code}".strip()
    reason = f"{words}: {said.message}" if said.message else words
    return ErrorClass(
        outcome=outcome,
        reason=reason,
        rejected_text=said.failed_generation if outcome in (LlmOutcome.UNUSABLE, LlmOutcome.CUT) else None,
        wait_s=retry_after_in_text(said.message),
        limit=find_limit(said.message) if outcome in (LlmOutcome.RATE_LIMITED, LlmOutcome.EXCEEDS_LIMIT) else None,
    )


def _outcome(said: _Said) -> LlmOutcome:
    if said.is_page and said.status != 429:
        return LlmOutcome.NETWORK_REFUSED if said.status in _BY_PAGE else LlmOutcome.SERVER_ERROR
    if said.status == 429 and said.code != "insufficient_quota" and retry_after_in_text(said.message) is not None:
        return LlmOutcome.RATE_LIMITED  # a quota that comes back by itself is a limit
    found = next((rule.outcome for rule in _RULES if rule.applies_to(said)), None)
    return found or _BY_STATUS.get(said.status, LlmOutcome.SERVER_ERROR)


def _read(status: int, body: object, content: bytes) -> _Said:
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        body = body[0]
    error = _error_in(body)
    code = _first_text(error, ("code", "type", "status")) if isinstance(error, Mapping) else ""
    is_inside = status == 200  # then the status of the error is its code
    if is_inside:
        status = _status_in(error) or 502
    is_page = body is None and _PAGE.search(content[:2_048]) is not None
    message = _title(content) if is_page else _message(error) or _message(body) or ("" if body else _text(content))
    return _Said(
        status=status,
        code="" if code.isdigit() else one_line(code, 60).lower(),
        message=one_line(message),
        is_page=is_page,
        is_inside=is_inside,
        failed_generation=_generation(error),
    )


def _error_in(body: object) -> object:
    if not isinstance(body, Mapping):
        return body
    found = next((body[name] for name in _ERROR_FIELDS[:4] if body.get(name)), body)
    return found[0] if isinstance(found, list) and found else found


def _message(error: object) -> str:
    for _ in range(_DEEPEST):
        if not isinstance(error, Mapping):
            break
        error = next(
            (error[name] for name in ("message", "msg", "status_msg", "detail", "error", "title") if error.get(name)),
            "",
        )
    return error if isinstance(error, str) else ""


def _first_text(error: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these fields that holds a word; a code that is a number is a status, not a word."""
    return next((str(error[name]) for name in names if isinstance(error.get(name), str) and error[name]), "")


def _status_in(error: object) -> int | None:
    values = [error.get(name) for name in ("code", "status", "status_code")] if isinstance(error, Mapping) else []
    found = [
        int(value) for value in values if isinstance(value, int | str) and str(value).isascii() and _is_status(value)
    ]
    return found[0] if found else None


def _is_status(value: object) -> bool:
    return str(value).isdigit() and len(str(value)) == 3 and 400 <= int(str(value)) <= 599


def _generation(error: object) -> str | None:
    found = error.get("failed_generation") if isinstance(error, Mapping) else None
    return str(found)[:_MAX_ANSWER] if found is not None else None


def _title(content: bytes) -> str:
    found = re.search(r"<title[^>]{0,200}>([^<]{1,300})", _text(content), re.IGNORECASE)
    return f"a page of HTML, {found[1].strip()!r}" if found else "a page of HTML"


def _text(content: bytes) -> str:
    return content[:8_192].decode("utf-8", "replace")


_LIMIT: Final = re.compile(r"(?:(?:requests|tokens) per (?:minute|min|day)|\b(?:RPM|TPM|RPD|TPD))\b", re.IGNORECASE)
_SIZE: Final = re.compile(
    r"(?: ?\((?:RPM|TPM|RPD|TPD)\))?[:,]? {0,2}limit:? {0,2}([0-9][0-9,]{0,14})(?![0-9,.]*[0-9kKmM]| [0-9]{3}\b)",
    re.IGNORECASE,
)
_NAMES: Final[dict[str, LimitName]] = {
    **{words: name for name, words in LIMIT_WORDS.items()},
    **{words.replace("minute", "min"): name for name, words in LIMIT_WORDS.items()},
    **{name: name for name in LIMIT_WORDS},
}


def find_limit(message: str) -> KnownLimit | None:
    """The limit that a refusal names, as in ``tokens per day (TPD): Limit 200000``; its size in requests or tokens.

    A size counts only right behind the name, and a name only where no other one stands: what is read wrongly would hold
    everybody back.
    """
    named = list(_LIMIT.finditer(message))
    for found in named:
        size = _SIZE.match(message, found.end())
        name = _NAMES[found[0].lower()]
        number = int(size[1].replace(",", "")) if size else 0
        if number >= (MIN_TOKENS if name.startswith("t") else 1):
            return KnownLimit(name=name, size=number)
    names = {_NAMES[found[0].lower()] for found in named}
    return KnownLimit(name=names.pop()) if len(names) == 1 else None


def describe_page(content: bytes) -> str:
    """What a page of HTML calls itself, to be told behind a sentence; nothing for what is no page."""
    return f": {_title(content)}" if _PAGE.search(content[:2_048]) else ""
