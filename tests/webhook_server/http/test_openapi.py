"""Schemathesis against the documented API over HTTP: whatever is sent, only what is documented comes back.

A seeded run in `make test`; `make fuzz` tries ``API_FUZZ_CASES`` requests per operation, from ``FUZZ_SEED``.
"""

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, cast

import hypothesis
import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis import Case, CheckFunction, checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks as openapi

from tests.webhook_server.conftest import Sender, Site
from webhook_server.http.openapi import build_signal_request
from webhook_server.http.routes import RouteHandlers, build_router
from webhook_server.intake.actions import POSITION_FIELDS
from webhook_server.intake.request_body import SIGNATURE_HEADERS
from webhook_server.intake.schemas import REQUEST_ID, SET_BY_ROUTE, AiSignal, WebhookSignal, list_accepted_names

CASES: Final = int(os.environ.get("API_FUZZ_CASES", "50"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "20261121"))
AnyCase = Case[Any]
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "BINANCE:BTCUSDT.P")
KEPT: Final = ("action", "stop_loss_percent", "take_profit_percent", "environment", "order_type", "price", "signal_id")
OF_PYDANTIC: Final = ("Input should", "String should", "Value error", "Decimal(")
CHECKS: Final[list[CheckFunction]] = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
    openapi.allow_header_conformance,
]
# Without a loan of values from answers, which differ from run to run.
ALONE: Final = {"error-feedback": {"enabled": False}, "extra-data-sources": {"responses": False}}
CONFIG: Final = {"seed": SEED, "phases": {"fuzzing": ALONE}}
SIGNAL: Final = {"200 opened", "200 closed", "200 skipped", "200 rejected", "400", "401", "405", "409"}
REACHED: Final = {"/webhook": SIGNAL, "/webhook/ai-signal": SIGNAL, "/positions": {"200", "401", "405"}}


def documented() -> dict[str, Any]:
    """What GET /openapi.json shows of the routes, for which none of them has to work."""
    app = FastAPI()
    app.include_router(build_router(cast("RouteHandlers", None)))
    return app.openapi()


api = schemathesis.openapi.from_dict(documented(), config=SchemathesisConfig.from_dict(CONFIG))


class Signed(AuthBase):
    """Signs whatever bytes are sent, as Standard Webhooks has it."""

    def __init__(self, sender: Sender, name: str) -> None:
        self._sender = sender
        self._name = name

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        raw = request.body or b""
        request.headers.update(self._sender.signed(raw if isinstance(raw, str) else raw.decode(), self._name))
        return request


class Traffic:
    """Sends generated requests, most of them of a person with a secret, a strategy and live credentials."""

    def __init__(self, site: Site) -> None:
        site.credentials()
        self._site = site
        self._strategy = str(site.strategy(max_position_usd="100000", leverage_max=50))
        self._session = requests.Session()
        self.answers: dict[str, set[str]] = defaultdict(set)

    def send(self, case: AnyCase) -> None:
        mark = zlib.crc32(repr((case.body, case.headers)).encode("utf-8", "surrogatepass"))
        auth = None
        if isinstance(case.body, dict | str) and mark % 6:
            given: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
            body, auth = self._proven(given, mark // 6, mark % 6 if isinstance(case.body, dict) else 5)
            case.body = body if isinstance(case.body, dict) else json.dumps(body)  # as charting services send it
            for name in SIGNATURE_HEADERS:
                case.headers.pop(name, None)
        if case.path == "/positions" and mark % 2:
            case.headers["X-Webhook-Secret"] = self._site.sender.secret.get_secret_value()
        answer = case.call(base_url=self._site.url, session=self._session, auth=auth, timeout=60)
        case.validate_response(answer, checks=CHECKS, transport_kwargs={"auth": auth})
        if answer.status_code == 400:
            assert not any(words in answer.json()["error"] for words in OF_PYDANTIC), answer.text
        self.answers[case.path].add(f"{answer.status_code} {answer.json().get('action', '')}".strip())

    def _proven(self, body: dict[str, Any], mark: int, kind: int) -> tuple[dict[str, Any], Signed | None]:
        """`body` with a secret or a signature; two kinds as generated otherwise, one in part, two all made to trade."""
        sender = self._site.sender
        if kind > 2:
            kept = {name: body[name] for name in KEPT if name in body}
            body = kept | self._tradable(mark) if kind == 3 else self._tradable(mark) | self._certain(mark)
        body = {name: told for name, told in body.items() if name not in {"secret", "userId"}}
        body["user_id"] = str(sender.user_id)
        if mark % 8 == 0:
            body["signal_id"] = "used-before"
        if mark % 2:
            return body | {"secret": sender.secret.get_secret_value()}, None
        name = str(body.get("signal_id"))
        return body, Signed(sender, name if REQUEST_ID.fullmatch(name) else f"m{mark}")

    def _tradable(self, mark: int) -> dict[str, Any]:
        return {
            "exchange": "aster",
            "symbol": SYMBOLS[mark % 3],
            "position_size_usd": 50 + mark % 1000 if mark // 3 % 3 else 1,  # 1 USD is under one lot
            "strategy_id": self._strategy if mark // 9 % 2 else None,
        }

    def _certain(self, mark: int) -> dict[str, Any]:
        action = ("buy", "SELL", "CLOSE", "LONG")[mark // 18 % 4]
        percents = {"stop_loss_percent": 1 + mark // 72 % 90, "take_profit_percent": 1 + mark // 144 % 90}
        return {"action": action, "environment": "production" if mark // 36 % 2 else "paper", **percents}


@pytest.fixture
def traffic(site: Site) -> Iterator[Traffic]:
    made = Traffic(site)
    yield made
    for path, answers in made.answers.items():
        assert answers >= REACHED.get(path, {"200", "405"}), f"too little of {path} was reached"
    assert site.store.list_unfinished_requests() == ()
    site.sql("update fills set created_at = now() - interval '1 hour'")
    assert site.server.reconciliation.run() == ()


@api.parametrize()
@hypothesis.settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),  # one server for all cases is what is wanted
)
def test_whatever_is_sent_only_what_is_documented_comes_back(case: AnyCase, traffic: Traffic) -> None:
    traffic.send(case)


def test_every_body_is_described_as_closed() -> None:
    models = {name: each for name, each in documented()["components"]["schemas"].items() if each["type"] == "object"}
    assert len(models) > 20
    assert [name for name, each in models.items() if each.get("additionalProperties") is not False] == []


def describe_body(model: type[WebhookSignal]) -> dict[str, Any]:
    schema: dict[str, Any] = build_signal_request(model)["requestBody"]["content"]["application/json"]["schema"]
    return schema


def test_every_name_of_a_field_is_described_and_what_only_a_route_sets_is_not() -> None:
    sent = AiSignal.model_fields.keys() - SET_BY_ROUTE
    names = {name for field in sent for name in list_accepted_names(field)}
    assert set(describe_body(AiSignal)["properties"]) == names | {*POSITION_FIELDS, "secret"}
    assert set(describe_body(AiSignal)["required"]) - set(describe_body(WebhookSignal)["required"]) == {"user_id"}


def test_the_check_of_bodies_finds_a_key_too_much_and_one_too_little() -> None:
    operations = [each.ok() for each in api.get_all_operations() if isinstance(each, Ok)]
    (live,) = (each for each in operations if each.path == "/health/live")
    for body, is_valid in (({"status": "ok"}, True), ({"status": "ok", "more": 1}, False), ({}, False)):
        response = schemathesis.Response(
            status_code=200,
            headers={"content-type": ["application/json"]},
            content=json.dumps(body).encode(),
            request=requests.Request("GET", "http://localhost/health/live").prepare(),
            elapsed=0.0,
            verify=False,
        )
        assert live.is_valid_response(response) is is_valid
