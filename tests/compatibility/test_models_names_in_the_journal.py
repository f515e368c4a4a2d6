"""One grant is one line of the limiter's journal, whatever the strategy's model is called."""

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.messages import LlmDemandReport
from actors.runtime.messages import Tick
from actors.strategy_watcher import StrategyWatcher
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import Strategy, StrategyStatus
from engine.platform.processes import boot_id
from engine.ratelimit.grant_log import GrantLog
from engine.store.store import Store
from tests.engine.deciding.examples import a_context
from tests.support.clients.events import Ear
from tests.support.clients.sql import Sql
from tests.support.factories.hostile import HOSTILE

BREAKS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
FORGED = "x{}0 0 {:.0f} 1000 600000 openai/gpt-oss-120b"
NAMES = st.lists(st.one_of(st.characters(), st.sampled_from([*BREAKS, " ", '"', "\\", "0 0 "])), max_size=30)
REFUSED = ["", " ", "a b", '"m"', "m\n0 0 1 1 1 n", "m\u2028n", HOSTILE, "модель", "m" + "\u200b"]


@pytest.mark.parametrize("line_break", BREAKS)
def test_a_line_break_in_a_models_name_forges_no_grant(line_break: str, tmp_path: Path) -> None:
    journal, now = GrantLog(tmp_path), time.monotonic()
    journal.open()
    name = FORGED.format(line_break, time.time())
    journal.append(name, now, 7)
    journal.close()
    again = GrantLog(tmp_path)
    assert [(sent.model, sent.tokens, sent.requests) for sent in again.open()] == [(name, 7, 1)]
    again.close()


@given(st.lists(st.tuples(NAMES.map("".join), st.integers(0, 10**7)), max_size=8))
def test_every_grant_is_read_back_as_it_was_written(grants: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        journal, now = GrantLog(Path(home)), time.monotonic()
        journal.open()
        for number, (model, tokens) in enumerate(grants):
            journal.append(model, now - number / 10, tokens)
        journal.close()
        again = GrantLog(Path(home))
        found = [(sent.model, sent.tokens, sent.requests) for sent in again.open()]
        rewritten = GrantLog(Path(home))
        assert [(sent.model, sent.tokens, sent.requests) for sent in rewritten.open()] == found
        for each in (again, rewritten):
            each.close()
    assert found == [(model, tokens, 1) for model, tokens in reversed(grants)]


def test_a_journal_of_an_older_version_is_read(tmp_path: Path) -> None:
    now = time.monotonic()
    path = tmp_path / "state" / "permits.journal"
    path.parent.mkdir()
    lines = [f"{boot_id()} {now - 3:.3f} 0 9 1 a model with spaces", f"{boot_id()} {now - 2:.3f} 0 8 1 m"]
    path.write_text("\n".join(lines) + "\n")
    journal = GrantLog(tmp_path)
    assert [(sent.model, sent.tokens) for sent in journal.open()] == [("a model with spaces", 9), ("m", 8)]
    journal.close()


@pytest.mark.parametrize("figures", ["nan 0 1 1", "inf 0 1 1", "0 nan 1 1", "0 inf 1 1", "0 0 1_0 x", "0 0 9"])
def test_a_line_whose_figures_are_none_costs_only_itself(figures: str, tmp_path: Path) -> None:
    path = tmp_path / "state" / "permits.journal"
    path.parent.mkdir()
    boot = boot_id() if figures.startswith(("nan", "inf")) else "another-boot"
    path.write_text(f'{boot} {figures} "m"\n{boot_id()} {time.monotonic():.3f} 0 8 1 "m"\n')
    journal = GrantLog(tmp_path)
    assert [sent.tokens for sent in journal.open()] == [8]
    journal.close()


@pytest.mark.parametrize("model", REFUSED)
def test_a_row_whose_model_no_provider_has_is_invalid(model: str) -> None:
    row = a_context().strategy.model_dump()
    with pytest.raises(ValidationError, match="a model's name has letters, digits"):
        Strategy.model_validate(row | {"model": model})
    with pytest.raises(ValidationError, match="model"):
        NewStrategy.model_validate({"user_id": row["user_id"], "name": "n", "model": model})


def test_the_limiter_is_told_of_no_model_that_cannot_be_asked(store: Store, sql: Sql) -> None:
    user, ear = store.ensure_user("a@example.org"), Ear()
    sql("set session_replication_role = replica")  # as rows of an older version are
    for number, model in enumerate([*REFUSED, "openai/gpt-oss-120b", None]):
        store.create_strategy(NewStrategy(user_id=user, name=str(number), status=StrategyStatus.RUNNING))
        sql("update ai_strategies set model = %s where name = %s", model, str(number))
    watcher = StrategyWatcher(store, ear, 1.0).start_instance()
    watcher.ask(Tick(), timeout=60)
    watcher.stop()
    assert {demand.model for demand in ear.of(LlmDemandReport)[-1].demands} == {"openai/gpt-oss-120b", None}
