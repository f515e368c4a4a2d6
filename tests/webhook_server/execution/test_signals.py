"""Signals over HTTP: what each way of sending does to the books, and what the sender is told."""

import json
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.webhook_server.conftest import Site


def test_an_entry_opens_a_paper_position_at_the_ask_with_slippage_and_fee(site: Site) -> None:
    answer = site.sender.post()
    assert answer.status_code == 200
    body = answer.json()
    assert body["success"] is True
    assert body["action"] == "opened"
    assert body["paper"] is True
    assert body["fill_price"] == 25005.2  # 25000.1 and 0.02 %, up to the next tick of 0.1
    assert body["quantity"] == 0.039  # 1000 / 25005.2 floored to the lot of 0.001
    assert body["order_id"] == body["orderId"]
    assert body["duration"] >= 0
    (position,) = site.store.list_open_positions(user_id=site.sender.user_id)
    assert (position.side, position.quantity, position.entry_price) == ("LONG", Decimal("0.039"), Decimal("25005.2"))
    assert position.is_paper
    assert position.fees_usd == Decimal("0.39008112")


def test_a_close_books_the_trade_and_tells_its_pnl(site: Site) -> None:
    site.sender.post()
    site.move("BTCUSDT", "26000.0")
    body = site.sender.post(action="close").json()
    assert body["action"] == "closed"
    assert body["fill_price"] == body["exitPrice"] == 25994.7
    # (25994.7 - 25005.2) * 0.039 less 0.39008112 and 0.40551732 of fees
    assert body["pnl"] == {"usd": 37.79, "percent": 3.88}
    assert site.store.list_open_positions() == ()
    (trade,) = site.store.list_trades()
    assert trade.pnl_usd == Decimal("37.79490156")
    assert trade.exit_reason == "signal"


def test_an_opposite_entry_is_a_reversal_in_one_request(site: Site) -> None:
    site.sender.post()
    body = site.sender.post(action="SELL", signal_id="turn").json()
    assert (body["action"], body["side"]) == ("opened", "SHORT")
    assert body["closed"]["quantity"] == 0.039
    assert body["closed"]["pnl"]["usd"] < 0
    (position,) = site.store.list_open_positions()
    assert position.side == "SHORT"
    assert len(site.store.list_trades()) == 1
    assert site.request("turn")[0] == "booked"


def test_more_of_the_same_side_adds_up_to_the_strategys_largest_size(site: Site) -> None:
    strategy = str(site.strategy(max_position_usd="1500"))
    first = site.sender.engine(strategy_id=strategy).json()
    second = site.sender.engine(strategy_id=strategy).json()
    third = site.sender.engine(strategy_id=strategy).json()
    assert (first["quantity"], second["quantity"]) == (0.039, 0.020)
    assert (third["success"], third["action"]) == (True, "skipped")
    (position,) = site.store.list_open_positions()
    assert Decimal(1450) < position.position_size_usd <= Decimal(1500)


def test_a_close_without_a_position_is_skipped(site: Site) -> None:
    answer = site.sender.post(action="CLOSE")
    assert answer.status_code == 200
    assert answer.json()["action"] == "skipped"
    assert answer.json()["success"] is True


def test_part_of_a_position_can_be_closed(site: Site) -> None:
    site.sender.post()
    body = site.sender.post(action="close", sell_percentage="50").json()
    assert body["quantity"] == 0.019
    (position,) = site.store.list_open_positions()
    assert position.quantity == Decimal("0.020")


def test_part_of_a_position_under_one_lot_is_skipped(site: Site) -> None:
    site.sender.post(position_size_usd=30)
    body = site.sender.post(action="close", sell_percentage=10).json()
    assert body["action"] == "skipped"
    assert len(site.store.list_open_positions()) == 1


def test_strategies_hold_their_own_positions_in_one_symbol(site: Site) -> None:
    one, other = str(site.strategy()), str(site.strategy())
    site.sender.engine(strategy_id=one)
    site.sender.engine(strategy_id=other, action="SELL")
    assert {position.side for position in site.store.list_open_positions()} == {"LONG", "SHORT"}
    assert site.sender.engine(strategy_id=one, action="CLOSE").json()["action"] == "closed"
    (left,) = site.store.list_open_positions()
    assert str(left.strategy_id) == other


def test_users_do_not_touch_each_others_positions(site: Site) -> None:
    site.sender.post()
    other = site.user()
    assert other.post(action="close").json()["action"] == "skipped"
    assert len(site.store.list_open_positions()) == 1


def test_a_charting_alert_in_plain_text_works(site: Site) -> None:
    alert = {
        "secret": site.sender.secret.get_secret_value(),
        "exchange": "Aster",
        "symbol": "BINANCE:BTCUSDT",
        "action": "LONG",
        "size": "250.5",
        "stop_loss_percent": "2",
        "take_profit_percent": "4",
        "orderType": "market",
        "comment": "{{strategy.order.comment}}",
    }
    answer = requests.post(
        f"{site.url}/webhook", data=json.dumps(alert), headers={"content-type": "text/plain; charset=utf-8"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    (position,) = site.store.list_open_positions(user_id=site.sender.user_id)
    assert position.symbol == "BTCUSDT"
    assert position.stop_loss_price == Decimal("24505.1")  # 24505.096, nearer to the entry
    assert position.take_profit_price == Decimal("26005.4")


def examples() -> list[str]:
    """The bodies of signals in docs/webhooks.md, as they are written there."""
    text = (Path(__file__).parents[3] / "docs/webhooks.md").read_text(encoding="utf-8")
    return re.findall(r"(?<=[\n'])\{\s*\"secret\".*?\}(?=\n```|'\n```)", text, re.DOTALL)


def test_there_are_examples_for_people_for_charting_services_and_for_their_strategies() -> None:
    assert len(examples()) == 4
    assert sum("CLOSE" in each for each in examples()) == 1


def posted(site: Site, example: str, content_type: str | None = None) -> requests.Response:
    """The answer to `example` with its placeholders filled in."""
    filled_in = {
        "whsec_…": site.sender.secret.get_secret_value(),
        "{{exchange}}": "BINANCE",
        "{{ticker}}": "BTCUSDT.P",
        "{{timenow}}": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "{{interval}}": "15",
        "{{strategy.order.action}}": "buy",
        "{{strategy.market_position}}": "long",
        "{{strategy.position_size}}": "0.01",
    }
    for placeholder, value in filled_in.items():
        example = example.replace(placeholder, value)
    headers = {"content-type": content_type} if content_type else {}
    return requests.post(f"{site.url}/webhook", data=example.encode(), headers=headers, timeout=60)


@pytest.mark.parametrize("example", [each for each in examples() if "CLOSE" not in each])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", None])
def test_the_documented_examples_work_as_they_are_written(site: Site, example: str, content_type: str | None) -> None:
    answer = posted(site, example, content_type)
    assert (answer.status_code, answer.json()["action"]) == (200, "opened"), answer.text
    (position,) = site.store.list_open_positions(user_id=site.sender.user_id)
    assert (position.symbol, position.side, position.is_paper) == ("BTCUSDT", "LONG", True)
    assert 200 < position.position_size_usd <= 250
    assert position.stop_loss_price == Decimal("24505.1")


def test_the_documented_closing_alert_closes_what_the_documented_entry_opened(site: Site) -> None:
    _, entry, closing, _ = examples()
    assert [posted(site, each).json()["action"] for each in (entry, closing)] == ["opened", "closed"]
    assert site.store.list_open_positions() == ()


def test_a_limit_order_is_filled_within_its_price_or_skipped(site: Site) -> None:
    beyond = site.sender.post(order_type="LIMIT", price="24000").json()
    assert (beyond["action"], beyond["success"]) == ("skipped", True)
    assert site.store.list_open_positions() == ()
    assert site.sender.post(order_type="limit", price="25010").json()["action"] == "opened"


def test_a_size_under_the_venues_minimum_is_told_as_the_venues_refusal(site: Site) -> None:
    answer = site.sender.post(position_size_usd=3)
    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert answer.json()["action"] == "rejected"
    assert "less than one lot" in answer.json()["reason"]


def test_an_unknown_symbol_is_named(site: Site) -> None:
    answer = site.sender.post(symbol="NOSUCHUSDT")
    assert (answer.status_code, answer.json()["field"]) == (400, "symbol")


def test_an_unknown_exchange_is_named(site: Site) -> None:
    answer = site.sender.post(exchange="nosuch")
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")


def test_a_strategy_of_somebody_else_is_unknown(site: Site) -> None:
    stranger = site.user()
    answer = stranger.engine(strategy_id=str(site.strategy()))
    assert (answer.status_code, answer.json()["field"]) == (400, "strategy_id")
    assert site.store.list_open_positions() == ()


def test_a_malformed_field_is_named_and_nothing_is_remembered(site: Site) -> None:
    wrong: dict[str, Any] = {"action": "HOLD", "symbol": None, "position_size_usd": 0, "user_id": "me"}
    for field, value in wrong.items():
        answer = site.sender.post(**{field: value})
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert answer.json()["success"] is False
    assert site.sql("select count(*) from webhook_requests") == [(0,)]


def test_the_engines_route_wants_to_know_who_sends(site: Site) -> None:
    answer = site.sender.engine(user_id=None)
    assert (answer.status_code, answer.json()["field"]) == (400, "user_id")


def test_a_body_that_is_no_json_object_is_refused(site: Site) -> None:
    for body in (b"", b"{", b"[]", b"\xff\xfe", b"[" * 60_000):
        answer = requests.post(f"{site.url}/webhook", data=body, timeout=60)
        assert (answer.status_code, answer.json()["field"]) == (400, "body")


def test_the_secret_reaches_neither_the_request_log_nor_the_answer(site: Site) -> None:
    secret = site.sender.secret.get_secret_value()
    name = str(uuid.uuid4())
    answer = site.sender.post(signal_id=name, password=secret, ai_reasoning="fine")
    assert secret not in answer.text
    assert secret not in json.dumps(site.request(name)[2])


def test_other_paths_and_methods_answer_in_the_same_shape(site: Site) -> None:
    missing = requests.get(f"{site.url}/nowhere", timeout=60)
    assert (missing.status_code, missing.json()["success"]) == (404, False)
    wrong = requests.get(f"{site.url}/webhook", timeout=60)
    assert (wrong.status_code, wrong.json()["success"]) == (405, False)
