"""The commit gate: who is inside finishes, who is outside stays out."""

import threading

import pytest

from engine.deciding.commit_gate import CommitGate
from engine.platform.errors import CycleSkipped

PATIENCE_S = 120.0


def test_an_open_gate_lets_records_through_one_after_the_other() -> None:
    gate = CommitGate()
    for _ in range(3):
        with gate:
            pass


def test_a_closed_gate_turns_records_away() -> None:
    gate = CommitGate()
    assert gate.close(0.0)
    with pytest.raises(CycleSkipped) as refused:
        gate.__enter__()
    assert refused.value.kind == "stopping"
    with pytest.raises(CycleSkipped):
        gate.sleep(PATIENCE_S)


def test_closing_waits_for_a_record_in_progress() -> None:
    gate, inside, go_on = CommitGate(), threading.Event(), threading.Event()
    done: list[str] = []

    def record() -> None:
        with gate:
            inside.set()
            go_on.wait(PATIENCE_S)
            done.append("recorded")

    recorder = threading.Thread(target=record)
    recorder.start()
    assert inside.wait(PATIENCE_S)
    assert not gate.close(0.01)
    assert done == []
    go_on.set()
    assert gate.close(PATIENCE_S)
    assert done == ["recorded"]
    recorder.join()


def test_a_record_that_fails_leaves_the_gate_free() -> None:
    gate = CommitGate()
    with pytest.raises(RuntimeError, match="database"), gate:
        raise RuntimeError("database")
    assert gate.close(0.0)


def test_a_rest_ends_when_its_time_is_over() -> None:
    CommitGate().sleep(0.0)
