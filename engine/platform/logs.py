"""One line per event, written at once, with ids bound once and secrets taken out: the only way anything is logged.

Every process calls `configure` first. structlog, stdlib logging, warnings and uncaught exceptions go through the same
pipeline: contextvars, time, traceback as text, redaction, rendering.
"""

import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, Literal, TextIO
from urllib.parse import unquote

import structlog
from pydantic import BaseModel, SecretStr
from structlog.typing import Processor

from engine.platform.log_renderer import ConsoleRenderer
from engine.platform.redaction import Redactor
from engine.platform.text_encoding import encode_text, encoding_of, wait_until_writable

Format = Literal["auto", "console", "json"]
WRITE_TIMEOUT_S: Final = 1.0
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_current: Final = [Redactor()]  # this process's redactor; `configure` replaces it

# Libraries that log every request at info; their warnings and errors are kept.
NOISY_LOGGERS: Final = (
    "pykka",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "ccxt",
    "httpx",
    "httpcore",
    "groq",
    "urllib3",
    "asyncio",
)


def configure(
    level: str = "info",
    form: Format = "auto",
    actor: str | None = None,
    secrets: Iterable[SecretStr] = (),
) -> None:
    """Sends everything this process logs to stderr, one write per event.

    `level` is debug, info, warning or error. `form` auto means console on a terminal and JSON elsewhere. `actor`, the
    name of the process, is on every line. `secrets` are hidden wherever their text appears. May be called again, as
    after a fork.
    """
    redactor = Redactor(secrets)
    structlog.configure(
        processors=processors(form, actor, redactor, sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,  # a logger cached before a fork would keep the parent's pipeline
    )
    _current[0] = redactor
    _capture_stdlib(LEVELS[level])
    _capture_uncaught()


def redact(text: str) -> str:
    """`text` without secrets, for what leaves the process some other way than by a log line."""
    return _current[0].text(text)


def collect_secrets(settings: BaseModel) -> tuple[SecretStr, ...]:
    """Every secret in `settings`, for `configure`; of a list of keys each, of an address its password."""
    whole = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    keys = [part.strip() for text in whole if "," in text for part in text.split(",")]
    passwords = [password for text in whole for password in _passwords(text)]
    return tuple(SecretStr(text) for text in dict.fromkeys([*whole, *keys, *passwords]) if text)


def _passwords(address: str) -> list[str]:
    """The password in a URL, as written and as meant."""
    _, found, rest = address.partition("://")
    written = rest.rpartition("@")[0].partition(":")[2] if found else ""
    return [written, unquote(written)]


def processors(form: Format, actor: str | None, redactor: Redactor, stream: TextIO) -> list[Processor]:
    """The pipeline; the last one returns the line."""
    is_console = form == "console" or (form == "auto" and stream.isatty())

    def add_names(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if actor is not None:
            event.setdefault("actor", actor)
        return event

    def redact_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return redactor.fields(event)

    def render_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
        first = {key: event.pop(key) for key in ("timestamp", "level", "actor", "event") if key in event}
        return json.dumps(first | dict(event), default=str)  # ASCII: nothing in it commands a terminal or ends a line

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        add_names,
        structlog.processors.TimeStamper(fmt="iso", utc=not is_console),
        _traceback_as_text,
        redact_secrets,
        ConsoleRenderer(has_colour=stream.isatty()) if is_console else render_json,
    ]


def _traceback_as_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`exc_info` in any form that logging knows (True, an exception, a triple) becomes the text under `exception`."""
    info = event.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else (info[1] if isinstance(info, tuple) else None)
    if info is True:
        error = sys.exception()
    if error is not None:
        event["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return event


class _Stderr:
    """The end of the pipeline: one write for each line, so that lines of several processes never mix.

    It writes to the descriptor, without a buffer: a process that is killed has written all that it logged.
    """

    def msg(self, line: str) -> None:
        data = encode_text(line + "\n", encoding_of(sys.stderr))
        try:
            while data:
                data = data[_write(data) :]
        except OSError:
            return  # stderr was closed by its reader, and there is no other place for the line

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


def _write(data: bytes) -> int:
    """The number of bytes written. Raises OSError, also when a stream that does not block has no room for
    `WRITE_TIMEOUT_S`: a reader that hangs must not stop this process."""
    try:
        return os.write(2, data)
    except BlockingIOError:
        wait_until_writable(2, WRITE_TIMEOUT_S)
        return os.write(2, data)


class _ToStructlog(logging.Handler):
    """Carries stdlib records into the pipeline."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = f"{record.msg} {record.args}"  # a library's faulty format string must not stop the program
        structlog.get_logger().log(
            max(10, min(record.levelno // 10 * 10, 50)), text, logger=record.name, exc_info=record.exc_info
        )


def _capture_stdlib(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(level)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - the signature is warnings.showwarning's
    line: str | None = None,  # noqa: ARG001 - as above
) -> None:
    structlog.get_logger().warning(str(message), category=category.__name__, where=f"{filename}:{lineno}")


def _capture_uncaught() -> None:
    def uncaught(error: BaseException | None, where: str) -> None:
        structlog.get_logger().error("uncaught exception", where=where, exc_info=error)

    def from_main(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            uncaught(error, "main thread")

    sys.excepthook = from_main
    threading.excepthook = lambda args: uncaught(args.exc_value, args.thread.name if args.thread else "thread")
    sys.unraisablehook = lambda args: uncaught(args.exc_value, repr(args.object))
