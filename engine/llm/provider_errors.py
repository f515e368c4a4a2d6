"""Classifies a provider's error responses: one table from codes and words to an outcome. Pure.

Sources: Groq's error codes (console.groq.com/docs/errors, 2026) and reports of them; and what proxies, gateways and
Groq-compatible servers send in their place: bare texts, HTML pages, errors inside a 200.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.domain.completion import KnownLimit
from engine.llm.llm_call import LlmOutcome
from engine.llm.responses import read_json
from engine.llm.stated_limits import find_limit
from engine.platform.http.retry_after import retry_after_in_text
from engine.platform.plain_text import one_line

_MAX_ANSWER: Final = 16_384
_MAX_DEPTH: Final = 5
_ERROR_FIELDS: Final = ("error", "errors", "detail", "base_resp", "msg", "message")


_PAGE: Final = re.compile(rb"<(!doctype|html|head|title)\b", re.IGNORECASE)


class ErrorClass(NamedTuple):
    """The meaning of an error response. `reason` is one line: status, code and the provider's message.

    `rejected_text` is what the model wrote when the provider itself could not use it. `wait_s` is the wait that the
    message asks for, `limit` the limit that it names.
    """

    outcome: LlmOutcome
    reason: str
    rejected_text: str | None = None
    wait_s: float | None = None
    limit: KnownLimit | None = None


class _ErrorBody(NamedTuple):
    """A parsed error: its code in lower case, its message, and what the model had written. `is_inside`: it came inside
    a 200."""

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

    def applies_to(self, error_body: _ErrorBody) -> bool:
        if error_body.code in self.codes:
            return True
        has_status = self.statuses is None or error_body.status in self.statuses
        return self.words is not None and has_status and self.words.search(error_body.message) is not None


def _compile_words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_NOT_SERVER: Final = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_MODEL_NAME: Final = r"\bmodel\b[ :`'\"]{1,3}[\w./:@-]{1,80}[`'\"]?[ ,:]{1,3}"
# The first rule that applies counts, so the narrower ones come first: a message about a spent quota, for example, also
# names limits.
_RULES: Final[tuple[_Rule, ...]] = (
    _Rule(
        LlmOutcome.CUT,
        frozenset({"max_tokens_reached", "max_completion_tokens_reached"}),
        _compile_words(r"max(imum)?( of)?[ _](completion|output)[ _]tokens( was| were)? reached"),
        frozenset({400, 422}),
    ),
    _Rule(LlmOutcome.UNUSABLE, frozenset({"json_validate_failed", "tool_use_failed", "output_parse_failed"})),
    _Rule(
        LlmOutcome.REJECTED,
        frozenset({"extra_forbidden", "unknown_parameter", "unsupported_parameter", "unsupported_value"}),
        _compile_words(
            r"extra (fields|inputs)|not permitted|unrecognized|unexpected (field|keyword)|unknown (field|parameter)"
        ),
        frozenset({400, 422}),
    ),
    _Rule(
        LlmOutcome.KEY_REFUSED,
        frozenset(
            {"invalid_api_key", "expired_api_key", "api_key_expired", "api_key_invalid", "invalid_authentication"}
        ),
        _compile_words(
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
        _compile_words(
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
        _compile_words(
            rf"{_MODEL_NAME}(has been |is |was |does )?"
            r"(decommissioned|deprecated|not exist|not found|not active|blocked|requires (terms|acceptance))"
        ),
        frozenset({400, 403, 404}),
    ),
    _Rule(LlmOutcome.MODEL_GONE, words=_compile_words(r"\bmodel\b"), statuses=frozenset({404})),
    _Rule(
        LlmOutcome.EXCEEDS_LIMIT,
        words=_compile_words(r"tokens per (minute|min\b|day)|\bTP[MD]\b"),
        statuses=frozenset({413}),
    ),
    _Rule(
        LlmOutcome.RATE_LIMITED,
        words=_compile_words(r"requests per (minute|min\b|day)|\bRP[MD]\b"),
        statuses=frozenset({413}),
    ),
    _Rule(
        LlmOutcome.TOO_LARGE,
        frozenset({"context_length_exceeded", "request_too_large", "string_above_max_length"}),
        _compile_words(
            r"reduce (the|your) (length|size|message)|context (length|window|size)|maximum context|prompt is too long"
        ),
        frozenset({400, 413, 422}),
    ),
    _Rule(LlmOutcome.RATE_LIMITED, frozenset({"rate_limit_exceeded", "rate_limited", "too_many_requests"})),
    _Rule(
        LlmOutcome.NETWORK_REFUSED,
        words=_compile_words(
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
    """The meaning of an error `status` with the raw body `content`; an unknown 4xx counts as a server error. Never
    raises."""
    return _build_error_class(_parse_error_body(status, read_json(content), content))


def classify_error_in(body: object) -> ErrorClass | None:
    """The meaning of an error inside the body of a 200; None when it has none."""
    first = body[0] if isinstance(body, list) and len(body) == 1 else body
    if not isinstance(first, Mapping):
        return None
    choices = first.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) and _is_error(choices[0].get("error")):
        return _build_error_class(_parse_error_body(200, choices[0], b""))
    if _is_error(first.get("error")):
        return _build_error_class(_parse_error_body(200, first, b""))
    is_error = choices is None and any(first.get(name) for name in _ERROR_FIELDS)
    return _build_error_class(_parse_error_body(200, first, b"")) if is_error else None


def _is_error(value: object) -> bool:
    """Whether `value` reports an error: some gateways put an error object that says "ok" beside every answer."""
    if not isinstance(value, Mapping):
        return bool(value)
    is_success = str(value.get("code") or "0") in ("0", "200") or str(value.get("message")).lower() in ("ok", "success")
    return not is_success or bool(value.get("message") and str(value["message"]).lower() not in ("ok", "success"))


def _build_error_class(error_body: _ErrorBody) -> ErrorClass:
    outcome = _find_outcome(error_body)
    words = f"{'200 with error ' if error_body.is_inside else ''}{error_body.status} {error_body.code}".strip()
    reason = f"{words}: {error_body.message}" if error_body.message else words
    return ErrorClass(
        outcome=outcome,
        reason=reason,
        rejected_text=error_body.failed_generation if outcome in (LlmOutcome.UNUSABLE, LlmOutcome.CUT) else None,
        wait_s=retry_after_in_text(error_body.message),
        limit=find_limit(error_body.message)
        if outcome in (LlmOutcome.RATE_LIMITED, LlmOutcome.EXCEEDS_LIMIT)
        else None,
    )


def _find_outcome(error_body: _ErrorBody) -> LlmOutcome:
    if error_body.is_page and error_body.status != 429:
        return LlmOutcome.NETWORK_REFUSED if error_body.status in _BY_PAGE else LlmOutcome.SERVER_ERROR
    if (
        error_body.status == 429
        and error_body.code != "insufficient_quota"
        and retry_after_in_text(error_body.message) is not None
    ):
        return LlmOutcome.RATE_LIMITED  # a quota that comes back by itself is a limit
    outcome = next((rule.outcome for rule in _RULES if rule.applies_to(error_body)), None)
    return outcome or _BY_STATUS.get(error_body.status, LlmOutcome.SERVER_ERROR)


def _parse_error_body(status: int, body: object, content: bytes) -> _ErrorBody:
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        body = body[0]
    error = _find_error(body)
    code = _find_first_text(error, ("code", "type", "status")) if isinstance(error, Mapping) else ""
    is_inside = status == 200  # then the status of the error is its code
    if is_inside:
        status = _find_status(error) or 502
    is_page = body is None and _PAGE.search(content[:2_048]) is not None
    plain_message = _find_message(error) or _find_message(body) or ("" if body else _decode(content))
    message = _describe_page(content) if is_page else plain_message
    return _ErrorBody(
        status=status,
        code="" if code.isdigit() else one_line(code, 60).lower(),
        message=one_line(message),
        is_page=is_page,
        is_inside=is_inside,
        failed_generation=_find_rejected_text(error),
    )


def _find_error(body: object) -> object:
    if not isinstance(body, Mapping):
        return body
    error = next((body[name] for name in _ERROR_FIELDS[:4] if body.get(name)), body)
    return error[0] if isinstance(error, list) and error else error


def _find_message(error: object) -> str:
    for _ in range(_MAX_DEPTH):
        if not isinstance(error, Mapping):
            break
        error = next(
            (error[name] for name in ("message", "msg", "status_msg", "detail", "error", "title") if error.get(name)),
            "",
        )
    return error if isinstance(error, str) else ""


def _find_first_text(error: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of the fields `names` that holds a text; a code that is a number is a status."""
    return next((str(error[name]) for name in names if isinstance(error.get(name), str) and error[name]), "")


def _find_status(error: object) -> int | None:
    values = [error.get(name) for name in ("code", "status", "status_code")] if isinstance(error, Mapping) else []
    statuses = [
        int(value) for value in values if isinstance(value, int | str) and str(value).isascii() and _is_status(value)
    ]
    return statuses[0] if statuses else None


def _is_status(value: object) -> bool:
    return str(value).isdigit() and len(str(value)) == 3 and 400 <= int(str(value)) <= 599


def _find_rejected_text(error: object) -> str | None:
    text = error.get("failed_generation") if isinstance(error, Mapping) else None
    return str(text)[:_MAX_ANSWER] if text is not None else None


def _describe_page(content: bytes) -> str:
    title = re.search(r"<title[^>]{0,200}>([^<]{1,300})", _decode(content), re.IGNORECASE)
    return f"a page of HTML, {title[1].strip()!r}" if title else "a page of HTML"


def _decode(content: bytes) -> str:
    return content[:8_192].decode("utf-8", "replace")


def format_page_title(content: bytes) -> str:
    """The title of an HTML page with a colon before it, to be appended to a sentence; empty for any other content."""
    return f": {_describe_page(content)}" if _PAGE.search(content[:2_048]) else ""
