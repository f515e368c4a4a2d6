"""What a monitor counted outlives it: its successor counts on, and alarms stand."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pykka
import pytest

from actors import messages
from actors.runtime import messages as runtime_messages
from actors.strategy_process_names import build_process_name
from tests.support.factories.monitored import CHILD, STRATEGY, Running, child, cycle, report


@pytest.fixture
def killed_and_replaced(home: Path) -> Iterator[Callable[[], Running]]:
    """Each call starts another monitor in the same home, as the supervisor does when one was killed without a word."""
    started: list[Running] = []

    def replace() -> Running:
        started.append(Running(home))
        return started[-1]

    yield replace
    for each in started:
        each.actor.close(1)
    pykka.ActorRegistry.stop_all()


def test_what_was_scraped_once_is_never_less_after_the_monitor_was_killed(
    killed_and_replaced: Callable[[], Running],
) -> None:
    first = killed_and_replaced()
    other = uuid4()
    first.tell(cycle(), cycle(), cycle(strategy_id=other, name="bold"), report(child("market")))
    before = first.samples()
    second = killed_and_replaced()
    at_once = second.samples()
    second.tell(cycle(outcome="fault"), cycle())
    after = second.samples()

    counts = {key for key in before if key.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum"))}
    assert {key: at_once[key] for key in counts} == {key: before[key] for key in counts}
    assert all(after[key] >= before[key] for key in counts)
    labels = json.dumps({"outcome": "ok", "strategy": str(STRATEGY)})
    assert (before["sparky_cycles_total" + labels], after["sparky_cycles_total" + labels]) == (2, 3)
    assert after["sparky_cycle_duration_seconds_count{}"] == 5
    assert after["sparky_cycles_total" + json.dumps({"outcome": "ok", "strategy": str(other)})] == 1


def test_the_totals_that_people_read_go_on_as_well(killed_and_replaced: Callable[[], Running]) -> None:
    first = killed_and_replaced()
    call = messages.LlmCalled(
        strategy_id=STRATEGY,
        model="m",
        outcome="ok",
        duration_s=1,
        prompt_tokens=900,
        cached_tokens=100,
        completion_tokens=50,
        cost_usd=Decimal("0.25"),
    )
    attempt = messages.SignalAttempted(
        signal_id=uuid4(), strategy_id=STRATEGY, outcome="delivered", status=200, reason=None, age_s=0.1
    )
    first.tell(cycle(), cycle(outcome="fault", action=None), call, attempt)
    before = first.status()["totals"]
    assert (before["cycles"], before["decisions"], before["llm_tokens"], before["signals"]) == (
        2,
        1,
        950,
        {"delivered": 1},
    )
    first.samples()
    second = killed_and_replaced()
    assert second.status()["totals"] == before
    second.tell(cycle())
    after = second.status()
    assert (after["totals"]["cycles"], after["totals"]["faults"]) == (3, 1)
    assert after["strategies"][str(STRATEGY)]["cycles"] == 3


def test_restarts_are_counted_once_by_the_monitor_and_its_successor(
    killed_and_replaced: Callable[[], Running],
) -> None:
    name = "sparky_process_restarts_total" + json.dumps({"process": "market", "reason": "crashed"})
    seen = []
    for totals in ((2, 3), (3, 4), (5,)):
        monitor_now = killed_and_replaced()
        for total in totals:
            monitor_now.tell(report(child("market", restarts=total, restart_reasons={"crashed": total})))
            seen.append(monitor_now.samples()[name])
    assert seen == [2, 3, 3, 4, 5]


def test_restarts_of_a_resumed_strategy_whose_count_began_anew_are_counted_once_by_the_successor(
    killed_and_replaced: Callable[[], Running],
) -> None:
    name = "sparky_process_restarts_total" + json.dumps({"process": CHILD, "reason": "crashed"})
    seen = []
    for totals in ((6, 7, 1, 2), (2,), (), (2, 3)):  # the third is gone before it had a report
        monitor_now = killed_and_replaced()
        for total in totals:
            monitor_now.tell(report(child(CHILD, "running", "strategy", restart_reasons={"crashed": total})))
        seen.append(monitor_now.samples()[name])
    assert seen == [9, 9, 9, 10]


def test_an_alarm_outlives_the_monitor_that_raised_it(killed_and_replaced: Callable[[], Running]) -> None:
    first = killed_and_replaced()
    strategy_id = uuid4()
    alarm = f'sparky_strategy_parked_timestamp_seconds{{"strategy": "{strategy_id}"}}'
    first.tell(runtime_messages.ChildParked(name=build_process_name(strategy_id), revision="1", reason="six"))
    since = first.samples()[alarm]
    second = killed_and_replaced()
    assert second.samples()[alarm] == since
    second.tell(report(child(f"strategy-{strategy_id}", "running", "strategy")))
    assert alarm not in second.samples()
    assert alarm not in killed_and_replaced().samples()


def test_a_damaged_or_foreign_file_of_totals_counts_as_none(
    killed_and_replaced: Callable[[], Running], home: Path
) -> None:
    kept = home / "state" / "totals.json"
    first = killed_and_replaced()
    first.tell(cycle())
    assert any(key.startswith("sparky_cycles_total") for key in first.samples())
    [_, families] = json.loads(kept.read_text())
    for text in ("", "{", "[1, 2, 3]", json.dumps(["another run", families])):
        kept.write_text(text)
        assert not any(key.startswith("sparky_cycles_total") for key in killed_and_replaced().samples())
