"""What bodies say of a fill: the whole position after it, cents rounded half-even, and what was not closed."""

import decimal
from decimal import Decimal

import pytest

from tests.webhook_server.http.test_response_models import BREACH, POSITION, PROTECTED, STAMP, entry, fill
from webhook_server.execution.results import Closed, Opened, Pnl
from webhook_server.http.executed_bodies import build_closed, build_opened
from webhook_server.http.response_models import ClosedBody


@pytest.mark.parametrize(
    ("exact", "cents"), [("0.005", "0.00"), ("0.015", "0.02"), ("-0.025", "-0.02"), ("1.0050001", "1.01")]
)
def test_cents_are_rounded_half_even_whatever_context_a_library_left(exact: str, cents: str) -> None:
    closed = Closed(fill("close"), Decimal("0.039"), STAMP, is_paper=True, pnl=Pnl(Decimal(exact), Decimal(exact)))
    with decimal.localcontext(rounding=decimal.ROUND_UP):
        body = build_closed(closed)
    assert isinstance(body, ClosedBody)
    assert (body.pnl.usd, body.pnl.percent) == (Decimal(cents), Decimal(cents))


def test_an_addition_keeps_the_protection_that_it_does_not_change() -> None:
    added = entry(before=PROTECTED, fill=fill(stop_loss_price=Decimal(24500)))
    position = build_opened(Opened(added, STAMP, is_paper=True)).position
    assert position.quantity == PROTECTED.quantity + Decimal("0.039")
    assert (position.stop_loss_price, position.take_profit_price) == (Decimal(24500), PROTECTED.take_profit_price)


def test_the_position_as_booked_replaces_what_was_computed() -> None:
    added = entry(before=POSITION, fill=fill(stop_loss_price=Decimal(24500)))
    position = build_opened(Opened(added, STAMP, is_paper=True, position=PROTECTED)).position
    assert (position.quantity, position.stop_loss_price) == (PROTECTED.quantity, PROTECTED.stop_loss_price)


@pytest.mark.parametrize(
    ("kind", "dust", "remaining", "ended_as_dust"),
    [
        ("close", None, "0.011", None),
        ("close", Decimal("0.001"), "0.010", "0.001"),
        ("close", Decimal(0), "0.011", None),
        ("dust", None, "0.011", "0.039"),
    ],
)
def test_dust_ends_with_the_exit_and_is_no_part_of_what_remains(
    kind: str, dust: Decimal | None, remaining: str, ended_as_dust: str | None
) -> None:
    body = build_closed(Closed(fill(kind, dust=dust), Decimal("0.050"), STAMP, is_paper=True))
    assert body.remaining_quantity == Decimal(remaining)
    assert (body.dust and str(body.dust.quantity)) == ended_as_dust


def test_an_entry_that_does_not_follow_an_exit_is_refused_with_its_limit_or_with_a_sentence() -> None:
    by_limit = build_closed(Closed(fill("close"), Decimal("0.039"), STAMP, is_paper=True, refusal=BREACH)).to_json()
    by_venue = build_closed(Closed(fill("close"), Decimal("0.039"), STAMP, is_paper=True, refusal="no")).to_json()
    assert by_limit["entryRefused"]["data"]["limitType"] == "daily_loss"
    assert by_venue["entryRefused"] == {"success": False, "message": "no"}
