"""Rows of the original system may hold figures that are no numbers: none of them stops the exit of another position.

PostgreSQL takes NaN for greater than every number, so that a check for "above 0" let it in.
"""

import pytest

from tests.webhook_server.conftest import Site

COLUMNS = ("current_price", "entry_price", "unrealized_pnl_usd", "liquidation_price")


def write_as_before(site: Site, statement: str, *values: object) -> None:
    """Writes as before anything checked it."""
    site.sql("set session_replication_role = replica")
    try:
        site.sql(statement, *values)
    finally:
        site.sql("set session_replication_role = origin")


@pytest.mark.parametrize("is_paper", [True, False])
@pytest.mark.parametrize("column", COLUMNS)
def test_an_unreadable_position_stops_no_exit_of_another_symbol(site: Site, column: str, is_paper: bool) -> None:  # noqa: FBT001 - a parameter of the test
    site.credentials()
    strategy = str(site.strategy(is_paper_trading=is_paper))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert site.sender.engine(strategy_id=strategy, symbol=symbol).json()["action"] == "opened"
    write_as_before(site, f"update positions set {column} = 'NaN' where symbol = 'ETHUSDT'")  # noqa: S608 - these names
    answer = site.sender.engine(strategy_id=strategy, action="CLOSE")
    assert (answer.status_code, answer.json().get("action")) == (200, "closed"), answer.text
    assert site.sql("select symbol from positions") == [("ETHUSDT",)]


def test_a_capital_that_is_no_number_stops_no_exit(site: Site) -> None:
    ill, well = str(site.strategy()), str(site.strategy())
    for strategy in (ill, well):
        assert site.sender.engine(strategy_id=strategy).json()["action"] == "opened"
    write_as_before(site, "update ai_strategies set capital_usd = 'NaN' where id = %s", ill)
    for strategy in (well, ill):
        answer = site.sender.engine(strategy_id=strategy, action="CLOSE")
        assert (answer.status_code, answer.json().get("action")) == (200, "closed"), answer.text
    assert site.store.list_open_positions() == ()


def test_a_capital_that_is_no_number_hides_no_margin_of_others(site: Site) -> None:
    ill, well = str(site.strategy()), str(site.strategy())
    site.sender.engine(strategy_id=ill)
    site.sender.engine(strategy_id=well)
    write_as_before(site, "update ai_strategies set capital_usd = 'NaN' where id = %s", ill)
    wallets = {str(margin.position_id): margin.wallet_usd for margin in site.store.list_paper_margins()}
    owners: dict[str, str] = dict(site.sql("select id::text, strategy_id::text from positions"))
    assert {owners[position]: wallet is None for position, wallet in wallets.items()} == {ill: True, well: False}


@pytest.mark.parametrize("is_paper", [True, False])
@pytest.mark.parametrize("leverage", [0, -3])
def test_a_position_with_less_than_no_leverage_is_closed_and_booked(site: Site, leverage: int, is_paper: bool) -> None:  # noqa: FBT001 - a parameter of the test
    site.credentials()
    strategy = str(site.strategy(is_paper_trading=is_paper))
    site.sender.engine(strategy_id=strategy)
    site.sql("update positions set leverage = %s", leverage)
    answer = site.sender.engine(strategy_id=strategy, action="CLOSE")
    assert (answer.status_code, answer.json().get("action")) == (200, "closed"), answer.text
    assert site.store.list_open_positions() == ()
    assert len(site.account.orders) == (0 if is_paper else 2)
    assert len(site.store.list_trades()) == 1
