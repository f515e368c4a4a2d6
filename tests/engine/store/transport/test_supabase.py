"""Supabase's REST API as a transport: values exact, failures named by what to do, the key told to nobody else."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
from pydantic import SecretStr

from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.platform.settings.settings import Settings
from engine.store.store import open_store
from engine.store.transport.supabase import POOL_SIZE, SupabaseRpc
from tests.conftest import Project
from tests.support.servers.ports import free_port
from tests.support.servers.supabase import PUBLISHABLE_KEY, SECRET_KEY

Answer = tuple[int, dict[str, str], bytes]
Gateway = Callable[[Answer], AbstractContextManager[SupabaseRpc]]


@pytest.fixture
def project(supabase_session: Project) -> Project:
    """Whatever its database holds; its functions include PROBES."""
    return supabase_session


@pytest.fixture(params=[True, False], ids=["keep", "one"])
def rpc(project: Project, request: pytest.FixtureRequest) -> Iterator[SupabaseRpc]:
    made = SupabaseRpc(project.server.url, SECRET_KEY, timeout_s=60, keep=request.param)
    yield made
    made.close()


def test_values_arrive_exactly_as_the_function_declares_them(rpc: SupabaseRpc) -> None:
    at, someone = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UUID(int=7)
    number = Decimal("123456789012.12345678")

    answer = rpc.call(
        "echo", text="4\0 2 ü", number=number, flag=False, id=someone, at=at, json={"a": [1, 2.5, None], "b": number}
    )

    assert answer[:4] == ["4\ufffd 2 ü", number, False, str(someone)]
    assert datetime.fromisoformat(answer[4]) == at
    assert answer[5] == {"a": [1, Decimal("2.5"), None], "b": str(number)}
    assert rpc.call("echo", text=None, number=7, flag=None, id=None, at=None, json=None) == [None, 7, *[None] * 4]


@pytest.mark.parametrize("state", ["53300", "40P01", "40001", "25006", "53100", "57P03", "57014", "55P03", "XX000"])
def test_what_may_pass_by_itself_is_unavailability(rpc: SupabaseRpc, state: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"^database: it is so$"):
        rpc.call("fail", state=state)


@pytest.mark.parametrize("state", ["SK400", "SK404", "SK409", "P0001", "22003", "23514", "42501", "28000"])
def test_what_a_person_must_mend_is_bad_configuration(rpc: SupabaseRpc, state: str) -> None:
    with pytest.raises(ConfigurationError, match="it is so"):
        rpc.call("fail", state=state)


def test_a_missing_function_says_to_migrate(rpc: SupabaseRpc) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)no_such_function.*supabase db push.*sparky migrate"):
        rpc.call("no_such_function", a=1)


@pytest.mark.parametrize("key", [PUBLISHABLE_KEY, SecretStr("sb_secret_of_another_project")])
def test_a_key_that_is_not_the_service_roles_is_named_and_not_shown(project: Project, key: SecretStr) -> None:
    with (
        closing(SupabaseRpc(project.server.url, key)) as rpc,
        pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_ROLE_KEY") as caught,
    ):
        rpc.call("health")

    assert key.get_secret_value() not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_named_and_not_shown(project: Project) -> None:
    for text in ("secret\nkey", "schlüssel-secret"):
        with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_ROLE_KEY") as caught:
            SupabaseRpc(project.server.url, SecretStr(text)).call("health")
        assert "secret" not in str(caught.value)


def test_a_call_that_takes_too_long_is_given_up(project: Project) -> None:
    started = time.monotonic()

    with pytest.raises(UpstreamUnavailable, match=r"did not answer within 0\.3 s"):
        SupabaseRpc(project.server.url, SECRET_KEY, timeout_s=0.3).call("nap", s=30)

    assert time.monotonic() - started < 30


def test_threads_share_a_bounded_number_of_connections(project: Project) -> None:
    patient = SupabaseRpc(project.server.url, SECRET_KEY, keep=True, timeout_s=120)  # all may wait for a busy machine
    with closing(patient) as rpc:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: rpc.call("pid"), range(64)))
        assert len(answers) == 64
        assert 1 <= rpc._idle.qsize() <= POOL_SIZE
    assert rpc._idle.empty()


def test_when_all_connections_are_busy_a_caller_gives_up(project: Project) -> None:
    rpc = SupabaseRpc(project.server.url, SECRET_KEY, timeout_s=0.2)
    rpc._slots.acquire()

    with pytest.raises(UpstreamUnavailable, match="busy"):
        rpc.call("health")


def test_a_connection_that_its_server_ended_is_replaced() -> None:
    """The first answer says keep-alive, and then the server hangs up all the same."""
    hung_up = threading.Semaphore(0)

    def serve(listener: socket.socket) -> None:
        for body in (b"1", b"2"):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as request:
                # Whatever is left unread would end the connection by a reset, which can overtake the answer.
                request.readline()
                headers = http.client.parse_headers(request)
                request.read(int(headers["Content-Length"]))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)
            hung_up.release()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with closing(SupabaseRpc(f"http://127.0.0.1:{listener.getsockname()[1]}", SECRET_KEY)) as rpc:
            assert rpc.call("health") == 1
            assert hung_up.acquire(timeout=60)
            assert rpc.call("health") == 2


def test_a_server_that_drips_is_given_up_in_time() -> None:
    given_up = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not given_up.wait(0.1):
                connection.sendall(b"1")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        rpc = SupabaseRpc(f"http://127.0.0.1:{listener.getsockname()[1]}", SECRET_KEY, timeout_s=0.5)

        with pytest.raises(UpstreamUnavailable, match="did not answer"):
            rpc.call("health")
        given_up.set()


def test_a_refused_connection_is_unavailability() -> None:
    with pytest.raises(UpstreamUnavailable, match="refused"):
        SupabaseRpc(f"http://127.0.0.1:{free_port()}", SECRET_KEY).call("health")


@pytest.fixture
def gateway() -> Gateway:
    """What stands before PostgREST, answering in its place."""

    @contextmanager
    def answering(answer: Answer) -> Iterator[SupabaseRpc]:
        status, headers, body = answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            rpc = SupabaseRpc(f"http://127.0.0.1:{server.server_port}", SECRET_KEY)
            try:
                yield rpc
            finally:
                rpc.close()
                server.shutdown()

    return answering


@pytest.mark.parametrize(
    ("answer", "retry_after_s"),
    [
        ((429, {"Retry-After": "7"}, b"slow down"), 7.0),
        ((502, {}, b"<html>bad gateway</html>"), None),
        ((503, {}, json.dumps({"code": "PGRST001", "message": "no connection"}).encode()), None),
        ((504, {}, json.dumps({"code": "PGRST003", "message": "no connection in time"}).encode()), None),
        ((200, {}, b"<html>welcome</html>"), None),
        ((302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""), None),
        ((403, {}, b"<html>are you a robot?</html>"), None),
    ],
)
def test_what_a_gateway_says_may_pass_by_itself(gateway: Gateway, answer: Answer, retry_after_s: float | None) -> None:
    with gateway(answer) as rpc, pytest.raises(UpstreamUnavailable) as caught:
        rpc.call("health")

    assert caught.value.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((401, {}, b'{"message":"Invalid API key"}'), "SUPABASE_SERVICE_ROLE_KEY.*Invalid API key"),
        ((401, {}, json.dumps({"code": "PGRST301", "message": "JWT expired"}).encode()), "JWT expired"),
        ((404, {}, b"<html>no such page</html>"), "SUPABASE_URL"),
        ((406, {}, json.dumps({"code": "PGRST106", "message": "schema not exposed"}).encode()), "schema not exposed"),
    ],
)
def test_what_a_gateway_says_must_be_mended(gateway: Gateway, answer: Answer, sentence: str) -> None:
    with gateway(answer) as rpc, pytest.raises(ConfigurationError, match=sentence):
        rpc.call("health")


def test_a_store_opens_on_the_named_project(project: Project) -> None:
    settings = Settings(supabase_url=project.server.url + "/", supabase_service_role_key=SECRET_KEY)

    with open_store(settings, keep=False) as store:
        assert store.count_pending_signals() >= 0
        assert not store.get_database_health().read_only
