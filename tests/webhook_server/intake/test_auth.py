"""Proof of who sends: secrets and signatures, each alone and together, right and wrong."""

import json
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import uuid4

import pytest
import requests
import standardwebhooks.webhooks

from engine.admin.demo_data import generate_webhook_secret
from engine.domain.signal import Signal
from engine.outbox.delivery import build_signed_headers, classify_response
from tests.webhook_server.conftest import Sender, Site


def post(sender: Sender, body: str, headers: dict[str, str], path: str = "/webhook/ai-signal") -> requests.Response:
    return requests.post(sender.url + path, data=body.encode(), headers=headers, timeout=60)


def unsigned(sender: Sender, **fields: object) -> str:
    return json.dumps(sender.body(secret=None, **fields))


def refused(answer: requests.Response) -> bool:
    body = answer.json()
    return answer.status_code == 401 and body["success"] is False and bool(body["error"]) and bool(body["hint"])


def test_a_signature_alone_is_proof(site: Site) -> None:
    body = unsigned(site.sender)
    answer = post(site.sender, body, site.sender.signed(body, "msg_1"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["signal_id"] == "msg_1"


def test_every_wrong_proof_is_401(site: Site) -> None:
    sender, stranger = site.sender, site.user()
    body = unsigned(sender)
    good = sender.signed(body, "m")
    assert refused(sender.post(secret=None))
    assert refused(sender.post(secret="whsec_" + "A" * 44))
    assert refused(sender.post(secret=stranger.secret.get_secret_value()))
    assert refused(sender.post(user_id=str(stranger.user_id)))
    assert refused(sender.post(user_id=str(uuid4())))
    assert refused(post(sender, body + " ", good))
    assert refused(post(sender, body, good | {"webhook-id": "another"}))
    assert refused(post(sender, body, stranger.signed(body, "m")))
    assert refused(post(sender, body, {name: text for name, text in good.items() if name != "webhook-timestamp"}))
    for broken in ("", "v1", "v1,", "v1,!!!", "v2,AAAA", "v1,A B", "nonsense", good["webhook-signature"][:-6]):
        assert refused(post(sender, body, good | {"webhook-signature": broken}))
    assert refused(post(sender, body, good | {"webhook-timestamp": "nan"}))
    assert site.sql("select count(*) from webhook_requests") == [(0,)]


def test_a_valid_secret_does_not_heal_a_wrong_signature(site: Site) -> None:
    body = json.dumps(site.sender.body())
    headers = site.sender.signed(body, "m", key="whsec_" + "A" * 44)
    assert refused(post(site.sender, body, headers))


def test_a_valid_signature_does_not_heal_a_wrong_secret(site: Site) -> None:
    body = json.dumps(site.sender.body(secret="wrong"))
    assert refused(post(site.sender, body, site.sender.signed(body, "m")))


@pytest.mark.parametrize(("minutes", "status"), [(-6, 401), (-4, 200), (4, 200), (6, 401)])
def test_a_signature_is_good_for_five_minutes_either_way(site: Site, minutes: int, status: int) -> None:
    body = unsigned(site.sender)
    headers = site.sender.signed(body, "m", at=datetime.now(UTC) + timedelta(minutes=minutes))
    assert post(site.sender, body, headers).status_code == status


@pytest.mark.parametrize(
    ("seconds", "status"), [(-300, 200), (300, 200), (-300.000001, 401), (300.000001, 401)], ids=str
)
def test_the_five_minutes_are_exact(site: Site, monkeypatch: pytest.MonkeyPatch, seconds: float, status: int) -> None:
    signed_at = datetime.now(UTC).replace(microsecond=0)

    class Stopped(datetime):
        """The clock of the signature's library, so many seconds after the signing."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # no time of its own
            return signed_at.astimezone(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Stopped)
    body = unsigned(site.sender)
    assert post(site.sender, body, site.sender.signed(body, "m", at=signed_at)).status_code == status


@pytest.mark.parametrize(
    ("minutes", "status", "outcome"),
    [(-600, 401, "refused"), (-4, 200, "delivered"), (4, 200, "delivered"), (6, 401, "refused")],
)
def test_a_dispatcher_whose_clock_is_off_is_believed_within_five_minutes_and_ends_the_signal_beyond(
    site: Site, minutes: int, status: int, outcome: str
) -> None:
    signal = signal_of(site)
    body = json.dumps(signal.payload)
    headers = build_signed_headers(signal.id, body, site.sender.secret, datetime.now(UTC) + timedelta(minutes=minutes))
    answer = post(site.sender, body, headers)
    assert answer.status_code == status
    assert (
        classify_response(answer.status_code, answer.headers, answer.content, 1, datetime.now(UTC)).outcome == outcome
    )


def signal_of(site: Site) -> Signal:
    now = datetime.now(UTC)
    return Signal(
        id=uuid4(),
        user_id=site.sender.user_id,
        strategy_id=None,
        symbol="BTCUSDT",
        payload=site.sender.body(secret=None),
        attempts=1,
        created_at=now,
        expires_at=now + timedelta(seconds=60),
    )


def test_either_secret_signs_while_one_is_replaced(site: Site) -> None:
    newer = generate_webhook_secret()
    site.sql(
        "insert into bot_credentials (user_id, exchange, environment, webhook_secret)"
        " values (%s, 'webhook', 'next', %s)",
        site.sender.user_id,
        newer.get_secret_value(),
    )
    body = unsigned(site.sender)
    assert post(site.sender, body, site.sender.signed(body, "a")).status_code == 200
    assert post(site.sender, body, site.sender.signed(body, "b", key=newer.get_secret_value())).status_code == 200
    both = site.sender.signed(body, "c", key="whsec_" + "A" * 44)
    good = site.sender.signed(body, "c")["webhook-signature"]
    both["webhook-signature"] += f" {good}"
    assert post(site.sender, body, both).status_code == 200


def test_a_stored_secret_that_is_no_key_breaks_nothing(site: Site) -> None:
    site.sql("update bot_credentials set webhook_secret = %s where exchange = 'webhook'", "pässword!")
    body = unsigned(site.sender)
    assert refused(post(site.sender, body, site.sender.signed(body, "m")))
    assert site.sender.post(secret="pässword!").status_code == 200


def test_a_signed_body_must_claim_its_user(site: Site) -> None:
    body = unsigned(site.sender, user_id=None)
    answer = post(site.sender, body, site.sender.signed(body, "m"), "/webhook")
    assert (answer.status_code, answer.json()["field"]) == (400, "user_id")


def test_a_secret_needs_no_user_on_the_open_route(site: Site) -> None:
    assert site.sender.post(user_id=None).status_code == 200
    (position,) = site.store.list_open_positions()
    assert position.user_id == site.sender.user_id


def test_a_captured_request_cannot_be_sent_under_another_id_or_another_time(site: Site) -> None:
    body = unsigned(site.sender)
    caught = site.sender.signed(body, "m", at=datetime.now(UTC) - timedelta(minutes=1))
    assert post(site.sender, body, caught).status_code == 200
    fresher = str(int(caught["webhook-timestamp"]) + 1)
    assert refused(post(site.sender, body, caught | {"webhook-id": "n"}))
    assert refused(post(site.sender, body, caught | {"webhook-timestamp": fresher}))
    assert refused(post(site.sender, body.replace("1000", "2000"), caught))
    assert site.sql("select count(*) from fills") == [(1,)]


def test_a_replayed_request_has_no_second_effect(site: Site) -> None:
    body = unsigned(site.sender)
    headers = site.sender.signed(body, "m")
    first = post(site.sender, body, headers)
    again = post(site.sender, body, headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert len(site.store.list_open_positions()) == 1
