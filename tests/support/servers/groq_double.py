"""A Groq endpoint that answers as it is told to, byte by byte if need be: what no real server does on demand."""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = Callable[["Handler"], None]


def completion(
    content: object, *, cached: int = 0, prompt: int = 900, answer: int = 60, finish: str | None = "stop", **more: Any
) -> dict[str, Any]:
    """A chat completion; `more` replaces whole fields of it, such as ``usage=None``."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "openai/gpt-oss-120b",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
        **more,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "GroqDouble"

    def do_GET(self) -> None:
        """Whatever else is asked for, such as the list of models, gets the same answers."""
        self.server.paths.append(self.path)
        self.server.next_answer()(self)

    def do_POST(self) -> None:
        self.asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(self.asked)
        self.server.paths.append(self.path)
        self.server.next_answer()(self)

    def send(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Says nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client has hung up, as it should on an answer that is too slow or too long
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:  # see handle
            self.close_connection = True


class GroqDouble(ThreadingHTTPServer):
    """Serves on a free port; `answers` are given in turn and the last one again and again."""

    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def ok(content: object, headers: Mapping[str, str] | None = None, **told: Any) -> Answer:
    return lambda handler: handler.send(200, completion(content, **told), headers)


def error(status: int, code: str | None = None, headers: Mapping[str, str] | None = None, **more: str) -> Answer:
    details = {"message": f"told to answer {status}", "type": "error", "code": code, **more}
    return lambda handler: handler.send(status, {"error": details}, headers)


def raw(status: int, content: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    return lambda handler: handler.send(status, content, headers)


def hang(handler: Handler) -> None:
    """Reads the request and says nothing."""
    handler.server.released.wait(600)


def drip_body(handler: Handler) -> None:
    """Headers at once, then a byte of the body every 20 ms for ever."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "1000000")
    handler.end_headers()
    _drip(handler)


def drip_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    _drip(handler)


def _drip(handler: Handler) -> None:
    while not handler.server.released.is_set():
        handler.wfile.write(b" ")
        time.sleep(0.02)


def endless(handler: Handler) -> None:
    """A body without an end, as fast as it goes."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    while not handler.server.released.is_set():
        handler.wfile.write(b" " * 65_536)


def truncated(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Hangs up with a TCP reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.close_connection = True
    handler.rfile.close()
    handler.connection.close()
