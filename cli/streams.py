"""Makes the standard streams usable: closed ones, full ones, those without a reader, those that show less than Unicode.

A closed stream is opened on /dev/null before anything else is opened: a socket or a lock file with its number would get
the log. What a stream cannot show is replaced, see `engine.platform.text_encoding`.
"""

import codecs
import errno
import io
import os
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, TextIO

from engine.platform.errors import SparkyError
from engine.platform.text_encoding import ERRORS, UTF8, encoding_of, register_errors, wait_until_writable

STDIN, STDOUT, STDERR = range(3)
_UTF8_MODE: Final = "PYTHONUTF8"
_PLAIN_ASCII: Final = "plain_ascii"
_IO_ENCODING: Final = "PYTHONIOENCODING"


class OutputLost(SparkyError):
    """The output of a command cannot be written; its effects have happened."""


class Output(io.RawIOBase):
    """Writes to a descriptor. After a write has failed, everything is dropped, so that the error is raised once.

    A closed pipe is no error, because its reader has read enough. Other failures raise OutputLost, unless the stream
    `is_optional`.
    """

    def __init__(self, descriptor: int, *, is_optional: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_optional = is_optional
        self._is_dropped = False

    def write(self, data: Any) -> int:
        """Writes all of `data`, also to a non-blocking descriptor. Raises OutputLost."""
        left = memoryview(data).cast("B")
        length = len(left)
        while left and not self._is_dropped:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                wait_until_writable(self._descriptor)
            except OSError as error:
                self._drop(error)
        return length

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def _drop(self, error: OSError) -> None:
        self._is_dropped = True
        if not self._is_optional and error.errno != errno.EPIPE:
            raise OutputLost(f"The answer cannot be written: {error.strerror}.") from error


def prepare() -> None:
    """Makes the streams of this process usable; call it before anything is opened.

    In an ASCII locale this process executes itself again in Python's UTF-8 mode, so that arguments, file names and
    settings are read correctly. The streams keep their encoding.
    """
    open_missing_streams()
    replacement = build_utf8_mode_command(sys.orig_argv, os.environ, encoding_of(sys.stdout))
    if replacement is not None and sys.executable:
        os.execve(sys.executable, *replacement)  # noqa: S606 - ourselves
    register_errors()
    codecs.register(_find_plain_ascii)
    if sys.stdin is None:
        sys.stdin = os.fdopen(STDIN, encoding=UTF8, closefd=False)
    sys.stdout = _wrap_descriptor(STDOUT, encoding_of(sys.stdout), is_optional=False)
    sys.stderr = _wrap_descriptor(STDERR, encoding_of(sys.stderr), is_optional=True)


def open_missing_streams() -> None:
    """Opens /dev/null in place of each closed standard stream; child processes inherit it."""
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the kernel gives the lowest number that is free


def build_utf8_mode_command(
    command: Sequence[str], environ: MutableMapping[str, str], stream_encoding: str
) -> tuple[list[str], dict[str, str]] | None:
    """Arguments and environment to run `command` again in UTF-8 mode; None if it is not needed.

    Also None if `environ` shows that it has been tried, because Python can be started so that it ignores the
    environment.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name != "ascii" or environ.get(_UTF8_MODE) == "1":
        return None
    return [sys.executable, *command[1:]], {**environ, _UTF8_MODE: "1", _IO_ENCODING: stream_encoding}


def read_stdin() -> bytes:
    """Reads the standard input to its end."""
    return sys.stdin.buffer.read()


def output_encoding() -> str:
    """The encoding of stdout. Call it before rich's `Live` starts, which replaces the stream."""
    return encoding_of(sys.stdout)


def _wrap_descriptor(descriptor: int, encoding: str, *, is_optional: bool) -> TextIO:
    output = Output(descriptor, is_optional=is_optional)
    is_line_wise = is_optional or output.isatty()
    is_ascii = codecs.lookup(encoding).name == "ascii"
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=_PLAIN_ASCII if is_ascii else encoding,
        errors=ERRORS,
        line_buffering=is_line_wise,
    )


def _find_plain_ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name: under its own, click takes a stream for a misconfigured one and writes UTF-8 to it."""
    if name != _PLAIN_ASCII:
        return None
    ascii_codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=_PLAIN_ASCII,
        encode=ascii_codec.encode,
        decode=ascii_codec.decode,
        incrementalencoder=ascii_codec.incrementalencoder,
        incrementaldecoder=ascii_codec.incrementaldecoder,
        streamreader=ascii_codec.streamreader,
        streamwriter=ascii_codec.streamwriter,
    )
