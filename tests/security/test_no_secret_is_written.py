"""The whole product with marked secrets: what it wrote, served, was started with and left in the database has none."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import requests
from pydantic import SecretStr

from engine.admin.demo_data import DEMO_USER
from engine.admin.strategy_checks import NewStrategy
from engine.platform.settings.settings import Settings
from engine.store.store import Store
from simulator.service import make_groq
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.support.processes.directories import short_directory
from tests.support.processes.sparky import Sparky
from tests.support.servers.ports import free_ports

SECRETS = {
    "GROQ_API_KEY": "gsk_MARKedGroqKeyMARKedGroqKeyMARKed",
    "SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY.get_secret_value(),
    "SPARKY_ADMIN_TOKEN": "MARKed-admin-token-MARKed-admin-token",
    "password": "MARKed-database-password",
    "webhook_secret": "whsec_TUFSS2VkLXdlYmhvb2stc2VjcmV0LU1BUktlZA==",
    "api_key": "MARKed-api-key-of-the-venue",
    "api_secret": "MARKed-api-secret-of-the-venue",
    "private_key": "0x" + "c0ffee11" * 8,
    "offered": "MARKed-secret-that-a-stranger-offered",
}
FORMS = {
    form
    for text in SECRETS.values()
    for form in (text, quote(text, safe=""), base64.b64encode(text.encode()).decode().rstrip("=")[:-2])
}


def told_in(text: str) -> list[str]:
    return [form for form in FORMS if form in text]


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def sparky(database_url: str, store: Store, root: Path) -> Iterator[Sparky]:
    """The product on a named database with a password, a provider with a key, and a venue with keys."""
    (port,) = free_ports(1)
    groq = make_groq(Settings(sparky_sim_groq_port=port, sparky_llm_rpm=600), "")
    groq.start()
    user = store.ensure_user(DEMO_USER)
    keys = {name: SecretStr(SECRETS[name]) for name in ("api_key", "api_secret", "private_key")}
    addresses = dict.fromkeys(("user_address", "signer_address"), SecretStr("0x" + "ab" * 20))
    store.put_credentials(user, "aster", keys | addresses)
    store.set_webhook_secret(user, SecretStr(SECRETS["webhook_secret"]))
    for name, is_paper in (("on paper", True), ("live", False)):
        fields = {"user_id": user, "name": name, "cadence_seconds": 1, "min_confidence": 0, "status": "running"}
        store.create_strategy(NewStrategy.from_input({**fields, "is_paper_trading": is_paper}))
    made = Sparky(
        root / "home",
        DATABASE_URL=database_url.replace("postgres@", f"postgres:{SECRETS['password']}@"),
        GROQ_BASE_URL=groq.url,
        SPARKY_MARKET="simulator",
        SPARKY_LOG_LEVEL="debug",
        **{name: SECRETS[name] for name in ("GROQ_API_KEY", "SPARKY_ENCRYPTION_KEY", "SPARKY_ADMIN_TOKEN")},
    )
    yield made
    made.close()
    groq.stop(1)


def test_no_secret_is_written_served_inherited_or_stored(sparky: Sparky, store: Store, database_url: str) -> None:
    sparky.start()
    sparky.wait_for(lambda: has_traded(store), "a booked paper trade and an attempt at the venue")
    served = [knock(sparky), *(sparky.run(*words).stdout for words in (("status", "--once"), ("doctor",)))]
    crash_one(sparky)
    inherited = processes(sparky)
    assert sparky.press_ctrl_c() == 0

    written = {
        str(path.relative_to(sparky.home.parent)): path.read_bytes().decode(errors="replace")
        for path in sparky.home.parent.rglob("*")
        if path.is_file()
    }
    assert any("Fatal Python error: Aborted" in text for text in written.values())
    assert {name: told_in(text) for name, text in written.items() if told_in(text)} == {}
    assert [told_in(text) for text in served if told_in(text)] == []
    assert {name: told_in(text) for name, text in inherited.items() if told_in(text)} == {}
    assert told_in(stored(database_url)) == []


def has_traded(store: Store) -> bool:
    paper, live = (row.id for row in store.list_strategies()[:2])
    ends = {signal.status for signal in store.list_signals(live)}
    return bool(store.list_open_positions(strategy_id=paper) or store.list_trades(paper)) and bool(ends - {"pending"})


def knock(sparky: Sparky) -> str:
    """What strangers and friends may ask of both servers, with secrets in every place, and all that was answered."""
    webhook = f"http://127.0.0.1:{sparky.environ['SPARKY_WEBHOOK_PORT']}"
    monitor = f"http://127.0.0.1:{sparky.monitor_port}"
    bearer = {"Authorization": f"Bearer {SECRETS['SPARKY_ADMIN_TOKEN']}"}
    order = {"exchange": "aster", "symbol": "BTCUSDT", "action": "close"}
    bodies = [
        json.dumps(order | {"secret": SECRETS["webhook_secret"]}),
        json.dumps(order | {"secret": SECRETS["offered"]}),
        json.dumps(order | {"secret": SECRETS["webhook_secret"], "size": [SECRETS["offered"]]}),
        json.dumps({"secret": {"nested": SECRETS["offered"]}}),
        f'{{"secret": "{SECRETS["webhook_secret"]}", "symbol":',
    ]
    answers = [
        requests.post(webhook + path, data=body, timeout=30)
        for body in bodies
        for path in ("/webhook", "/webhook/ai-signal")
    ]
    for path in ("/health", "/metrics", "/docs", "/openapi.json", "/positions"):
        offered = {"X-Webhook-Secret": SECRETS["offered"]}
        answers.append(requests.get(webhook + path, headers=bearer | offered, timeout=30))
    paths = ("/status", "/metrics", "/healthz", "/no")
    answers += [requests.get(monitor + path, headers=bearer, timeout=30) for path in paths]
    assert {answer.status_code for answer in answers} >= {200, 400, 401}
    return "\n".join(f"{answer.headers}\n{answer.text}" for answer in answers)


def crash_one(sparky: Sparky) -> None:
    """A strategy is aborted, so that every thread's traceback is written down."""
    before = next(row["pid"] for row in sparky.json("status")["strategies"] if row["name"] == "on paper")
    os.kill(before, signal.SIGABRT)
    sparky.wait_for(
        lambda: next(row for row in sparky.json("status")["strategies"] if row["name"] == "on paper")["restarts"] >= 1,
        "the crashed strategy started again",
    )


def processes(sparky: Sparky) -> dict[str, str]:
    """Command line, title and environment of every process but the command itself, which was given the secrets."""
    found = {}
    for process in sparky.family()[1:]:
        proc = Path("/proc") / str(process.pid)
        with suppress(FileNotFoundError, ProcessLookupError):  # it lived for a moment only
            texts = [(proc / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ", "comm")]
            found[f"{process.pid} {texts[0][:60]}"] = "\n".join(texts)
    assert len(found) >= 8
    return found


def stored(database_url: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'auth')"
        ).fetchall()
        return "\n".join(
            str(connection.execute(f"select to_jsonb(t) from {table} t".encode()).fetchall())  # noqa: S608 - our tables
            for (table,) in tables
        )
