"""A request is executed once; its answer is remembered; whoever asks is known by the secret."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import get_args
from uuid import uuid4

import pytest
from pydantic import SecretStr

from engine.domain.positions import Side
from engine.platform.errors import ConfigurationError
from engine.risk.entry_limits import FAILURES_COUNT_FOR
from engine.store.cycles import RecordedDecision
from engine.store.store import Store
from engine.store.webhook_rows import RequestEndState, RequestState
from tests.support.clients.sql import Sql

from .conftest import Desk


def test_a_repeated_request_is_answered_with_the_first_answer(desk: Desk, store: Store) -> None:
    assert desk.begin("r1") == "new"
    assert desk.begin("r1") == "busy"
    assert store.finish_request("r1", desk.user_id, "refused", 429, {"success": False, "n": 1.50}, "daily loss")

    began = store.begin_execution(None, "r1", desk.user_id, None, "aster", "BTCUSDT", "BUY", "f", {}, is_paper=True)

    assert (began.state, began.status, began.answer) == ("done", 429, {"success": False, "n": 1.5})


def test_the_same_id_with_other_content_is_a_conflict(desk: Desk, store: Store) -> None:
    assert desk.begin("r1", fingerprint="f") == "new"
    assert desk.begin("r1", fingerprint="g") == "conflict"
    store.finish_request("r1", desk.user_id, "skipped", 200, {})
    assert desk.begin("r1", fingerprint="g") == "conflict"


def test_two_users_may_use_the_same_id(desk: Desk, store: Store) -> None:
    assert desk.begin("r1") == "new"
    other = store.ensure_user("other@example.org")
    began = store.begin_execution(None, "r1", other, None, "aster", "BTCUSDT", "BUY", "f", {}, is_paper=True)
    assert began.state == "new"


def test_fifty_senders_of_one_request_at_once_make_one_execution(desk: Desk) -> None:
    barrier = Barrier(8)

    def begin(_: int) -> str:
        barrier.wait(30)
        return desk.begin("r1")

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(begin, range(48)))

    assert states.count("new") == 1
    assert states.count("busy") == 47


def test_a_failure_of_the_server_or_venue_may_be_tried_again(desk: Desk, store: Store) -> None:
    desk.begin("r1")
    assert store.finish_request("r1", desk.user_id, "failed", 503, {"success": False}, "unreachable")

    assert desk.begin("r1") == "new"
    assert desk.begin("r1") == "busy"

    assert store.finish_request("r1", desk.user_id, "failed", 200, {"success": False}, "the venue refused")
    assert desk.begin("r1") == "done"
    assert not store.finish_request("r1", desk.user_id, "skipped", 200, {})


def test_a_failure_after_something_was_booked_is_not_begun_anew(desk: Desk, sql: Sql) -> None:
    desk.fill("open", "100", request_id="r1")
    sql("update webhook_requests set status = 'failed', answer_status = 503 where request_id = 'r1'")

    assert desk.begin("r1") == "done"


def test_requests_of_a_dead_executor_are_found(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    desk.begin("r1", strategy.id)
    desk.begin("r2")
    store.finish_request("r2", desk.user_id, "skipped", 200, {})

    (unfinished,) = store.list_unfinished_requests()

    assert (unfinished.request_id, unfinished.strategy_id, unfinished.status) == ("r1", strategy.id, "received")
    assert unfinished.payload == {"size": 1}


def test_a_webhook_secret_names_its_user_unless_two_have_it(desk: Desk, store: Store) -> None:
    digest = hashlib.sha256(b"whsec_one").hexdigest()
    assert store.find_user_by_secret_digest(digest) is None
    assert store.get_webhook_secret(desk.user_id) is None

    store.set_webhook_secret(desk.user_id, SecretStr("whsec_old"))
    store.set_webhook_secret(desk.user_id, SecretStr("whsec_one"))

    assert store.find_user_by_secret_digest(digest) == desk.user_id
    assert store.get_webhook_secret(desk.user_id) == SecretStr("whsec_one")
    assert store.list_webhook_secrets(desk.user_id) == (SecretStr("whsec_one"),)
    store.set_webhook_secret(store.ensure_user("other@example.org"), SecretStr("whsec_one"))
    assert store.find_user_by_secret_digest(digest) is None


def test_venue_credentials_are_secret_and_the_users_own(desk: Desk, store: Store, sql: Sql) -> None:
    sql(
        "insert into bot_credentials (user_id, exchange, environment, extra_metadata) values "
        """(%s, 'aster', 'testnet', '{}'), (%s, 'aster', 'production', '{"private_key": "0xabc"}')""",
        desk.user_id,
        desk.user_id,
    )

    found = store.get_venue_credentials(desk.user_id, "ASTER")

    assert found is not None
    assert found.environment == "production"
    assert found.private_key == SecretStr("0xabc")
    assert found.api_key is None
    assert "0xabc" not in repr(found)
    assert store.get_venue_credentials(uuid4(), "aster") is None


@pytest.mark.usefixtures("one_day")
def test_a_portfolio_shows_what_risk_needs(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy(leverage_max=3, max_position_usd=500, max_drawdown_percent=15)
    sql(
        "insert into trade_settings_exchange (user_id, exchange, kill_switch, max_daily_loss_usd, max_trades_per_week) "
        "values (%s, 'aster', true, 50, 100)",
        desk.user_id,
    )
    desk.fill("open", "100", "2", strategy_id=strategy.id)
    desk.fill("close", "90", "2", strategy_id=strategy.id)
    sql("update trades set exit_time = date_trunc('week', now() at time zone 'utc') at time zone 'utc'")
    sql("update trades set exit_time = exit_time - interval '1 ms', entry_time = exit_time - interval '1 ms'")
    desk.fill("open", "100", "1", strategy_id=strategy.id)
    desk.fill("close", "105", "1", strategy_id=strategy.id)
    desk.fill("open", "50", "1", symbol="ETHUSDT")
    desk.fill("open", "50", "1", symbol="ETHUSDT", is_paper=False)

    seen = store.get_portfolio(desk.user_id, "aster", strategy.id, is_paper=True)

    assert seen.settings is not None
    assert (seen.settings.kill_switch, seen.settings.max_daily_loss_usd) == (True, Decimal(50))
    assert seen.settings.max_concurrent_positions is None
    assert (seen.realized_pnl_today_usd, seen.realized_pnl_week_usd) == (Decimal(5), Decimal(5))
    assert seen.trades_this_week == 2
    assert (seen.open_position_count, seen.open_positions) == (1, ())  # the book's, and the strategy's own
    (held,) = store.get_portfolio(desk.user_id, "aster", None, is_paper=True).open_positions
    assert (held.symbol, held.is_paper) == ("ETHUSDT", True)
    assert seen.strategy is not None
    assert (seen.strategy.leverage_max, seen.strategy.max_position_usd) == (3, Decimal(500))
    assert seen.strategy.drawdown_percent == pytest.approx(0.15)


def test_a_portfolio_knows_only_the_users_own_strategy(desk: Desk, store: Store) -> None:
    strategy = desk.strategy()
    other = store.ensure_user("other@example.org")

    assert store.get_portfolio(other, "aster", strategy.id, is_paper=True).strategy is None
    assert store.get_portfolio(desk.user_id, "aster", None, is_paper=True).strategy is None
    assert store.get_portfolio(desk.user_id, "aster", None, is_paper=True).settings is None


def test_a_limit_that_cannot_be_understood_is_named_and_the_rest_is_known(desk: Desk, store: Store, sql: Sql) -> None:
    sql(
        "insert into trade_settings_exchange (user_id, exchange, max_daily_loss_usd) values (%s, 'aster', 'NaN')",
        desk.user_id,
    )

    desk.fill("open", "50", "1")

    seen = store.get_portfolio(desk.user_id, "aster", None, is_paper=True)

    assert "settings.max_daily_loss_usd" in (seen.unreadable or "")
    assert seen.settings is not None
    assert (seen.settings.kill_switch, seen.settings.max_daily_loss_usd) == (False, None)
    assert [held.symbol for held in seen.open_positions] == ["BTCUSDT"]


def test_the_database_and_the_engine_agree_on_what_a_requests_state_means(desk: Desk, store: Store, sql: Sql) -> None:
    desk.begin("r")
    unfinished = set()
    for state in RequestState:
        for rest_waits in (False, True):
            sql("update webhook_requests set status = %s, rest_waits = %s", state.value, rest_waits)
            ((is_unsettled,),) = sql("select is_unsettled(r) from webhook_requests r")
            for row in store.list_unfinished_requests():
                assert (row.status, row.is_unsettled) == (state, is_unsettled)
                unfinished.add(state)
    assert unfinished == {RequestState.RECEIVED, RequestState.SUBMITTED, RequestState.FILLED}


def test_a_request_ends_in_each_state_that_books_nothing_and_in_no_other(desk: Desk, store: Store, sql: Sql) -> None:
    ends = set(get_args(RequestEndState))
    assert ends < set(RequestState)
    for state in RequestState:
        desk.begin(state.value)
        if state.value in ends:
            assert store.finish_request(state.value, desk.user_id, state.value, 422, {})  # type: ignore[arg-type]
            assert sql("select status from webhook_requests where request_id = %s", state.value) == [(state.value,)]
        else:
            with pytest.raises(ConfigurationError, match=f"cannot end as {state.value}"):
                store.finish_request(state.value, desk.user_id, state.value, 422, {})  # type: ignore[arg-type]


def test_consecutive_failures_count_every_attempt_until_a_success_or_an_hour(
    desk: Desk, store: Store, sql: Sql
) -> None:
    sql(
        "insert into trade_settings_exchange (user_id, exchange, max_consecutive_failures) values (%s, 'aster', 9)",
        desk.user_id,
    )

    def failures() -> int | None:
        return store.get_portfolio(desk.user_id, "aster", None, is_paper=True).consecutive_failures

    for _ in range(2):
        desk.begin("r1")
        store.finish_request("r1", desk.user_id, "failed", 503, {})
    desk.begin("r2")
    store.finish_request("r2", desk.user_id, "failed", 200, {})
    desk.begin("r3")
    store.finish_request("r3", desk.user_id, "refused", 429, {})
    assert failures() == 3

    sql("update webhook_requests set failed_at = failed_at - %s", FAILURES_COUNT_FOR - timedelta(minutes=10))
    assert failures() == 3
    sql("update webhook_requests set failed_at = failed_at - %s", timedelta(minutes=10))
    assert failures() == 0

    sql("update webhook_requests set failed_at = now() where failed_at is not null")
    assert failures() == 3
    desk.fill("open", "100", side=Side.SHORT)
    assert failures() == 0


def test_exits_of_the_servers_own_and_the_other_book_neither_count_nor_end_a_row_of_failures(
    desk: Desk, store: Store, sql: Sql
) -> None:
    sql(
        "insert into trade_settings_exchange (user_id, exchange, max_consecutive_failures) values (%s, 'aster', 9)",
        desk.user_id,
    )

    def failures() -> tuple[int | None, int | None]:
        books = (store.get_portfolio(desk.user_id, "aster", None, is_paper=is_paper) for is_paper in (True, False))
        paper, live = (book.consecutive_failures for book in books)
        return paper, live

    desk.fill("open", "100", "2")
    desk.fill("open", "100", is_paper=False)
    desk.begin("r1")
    store.finish_request("r1", desk.user_id, "failed", 200, {})
    assert failures() == (1, 0)
    desk.fill("close", "100", request_id="exit/stop_loss/1")
    desk.begin("exit/stop_loss/2")
    store.finish_request("exit/stop_loss/2", desk.user_id, "failed", 200, {})
    assert failures() == (1, 0)
    desk.fill("close", "100", is_paper=False)
    assert failures() == (1, 0)
    desk.fill("close", "100")
    assert failures() == (0, 0)


def test_what_was_decided_on_paper_stays_on_paper_when_its_strategy_goes_live(
    desk: Desk, store: Store, sql: Sql
) -> None:
    def is_paper(decided: RecordedDecision) -> bool:
        request_id = str(decided.signal_id)
        began = store.begin_execution(
            None, request_id, desk.user_id, strategy.id, "aster", "BTCUSDT", "BUY", "f", {}, is_paper=False
        )
        return began.is_paper

    strategy = desk.strategy(is_paper_trading=True)
    on_paper = desk.decide(strategy.id)
    sql("update ai_strategies set is_paper_trading = false where id = %s", strategy.id)
    live = desk.decide(strategy.id)

    assert is_paper(on_paper)
    assert not is_paper(live)


def test_of_several_rows_about_one_exchange_the_strictest_counts(desk: Desk, store: Store, sql: Sql) -> None:
    rows = (
        "insert into trade_settings_exchange (user_id, exchange, kill_switch, max_daily_loss_usd, max_trades_per_week)"
    )
    sql(f"{rows} values (%s, 'aster', false, 0, 20), (%s, 'Aster', true, 50, 30)", desk.user_id, desk.user_id)

    settings = store.get_portfolio(desk.user_id, "aster", None, is_paper=True).settings

    assert settings is not None
    assert (settings.kill_switch, settings.max_daily_loss_usd, settings.max_trades_per_week) == (True, Decimal(50), 20)
    assert settings.max_concurrent_positions is None
