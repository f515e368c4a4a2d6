"""Every list at the widths that terminals have: times, numbers and the beginnings of ids are whole."""

import re
from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len

from engine.admin.strategy_checks import NewStrategy
from engine.domain.positions import Side
from engine.domain.strategy import StrategyStatus
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from tests.cli.commands.test_history import traded
from tests.cli.conftest import Sparky
from tests.support.factories.keys import ENCRYPTION_KEY

__all__ = ["traded"]

LISTS = {
    "trades": ("trades",),
    "positions": ("positions",),
    "decisions": ("decisions", "list"),
    "signals": ("signals", "list"),
    "strategies": ("strategy", "list"),
    "switches": ("kill", "--show"),
    "credentials": ("credentials", "list"),
}
TIME = re.compile(r"\b(?:20\d\d-)?\d\d-\d\d \d\d:\d\d:\d\d\b")
NAME = "a momentum strategy with a long name"


@pytest.fixture
def full(sparky: Sparky, traded: Store) -> Sparky:
    """Beside the one of `traded`, what was traded in numbers as venues have them."""
    user = traded.ensure_user("somebody.with.a.long.name@example.org")
    new = NewStrategy(user_id=user, name=NAME, status=StrategyStatus.RUNNING)
    strategy = traded.create_strategy(new)
    for number, (kind, quantity, price) in enumerate((("open", "0.01234567", "98765.4321"), ("close", "0.001", "9.9"))):
        request = f"long{number}"
        place: dict[str, Any] = {"strategy_id": strategy.id, "exchange": "aster", "symbol": "1000PEPEUSDT"}
        traded.begin_execution(
            None, request, user, action="BUY", fingerprint=request, payload={}, is_paper=False, **place
        )
        money = {"quantity": Decimal(quantity), "price": Decimal(price), "fee_usd": Decimal("0.04")}
        fill = Fill.model_validate({"kind": kind, "side": Side.SHORT, "is_paper": False} | place | money)
        traded.book_fill(request, user, fill, 200, {"success": True})
    traded.set_kill_switch(None, strategy.id, is_on=True, reason="it lost more than anybody thought it could in a day")
    sparky.environment["SPARKY_ENCRYPTION_KEY"] = ENCRYPTION_KEY.get_secret_value()
    sparky.ok("credentials", "set", "webhook", "--new", "--user", "somebody.with.a.long.name@example.org")
    return sparky


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("what", LISTS)
def test_a_list_cuts_no_time_and_no_number_and_fits_the_terminal(full: Sparky, what: str, width: int) -> None:
    full.environment |= {"COLUMNS": str(width), "LINES": "50", "TERM": "dumb", "FORCE_COLOR": "1"}
    told = full.ok(*LISTS[what])
    lines = told.splitlines()
    assert max(cell_len(line) for line in lines) <= width, told
    has_time = "(UTC)" in told
    assert has_time or what == "strategies", told
    starts = [line for line in lines if not line.startswith(" ") and "(UTC)" not in line]
    assert not has_time or all(TIME.search(line) for line in starts), told
    assert not re.search(r"\d\u2026", told), told
    if width == 160:
        assert not has_time or re.search(r"20\d\d-", told), told
    if what in ("trades", "positions"):
        assert "P&L USD" in told, told
        assert "98765.4321" in told or width < 160, told
