"""A service under supervision: what its health checks lead to."""

import pytest

from actors.runtime.child_main import MAX_FAILED_CHECKS, ServiceActor


class Moody:
    """Answers its health checks as written, + or -, the last answer for ever."""

    def __init__(self, answers: str) -> None:
        self.answers = list(answers)
        self.is_started = False

    def start(self) -> None:
        self.is_started = True

    def is_healthy(self) -> bool:
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]) == "+"

    def stop(self, grace_s: float) -> None:  # noqa: ARG002 - nothing takes time here
        self.is_started = False


def test_a_service_is_open_only_when_it_is_well() -> None:
    service = Moody("--+")
    ServiceActor(service).open()
    assert service.is_started
    assert service.answers == ["+"]


def test_a_failed_check_is_repeated_sooner_and_forgotten_when_the_next_one_is_well() -> None:
    actor = ServiceActor(Moody("+--+--+"))
    waits = [actor.tick(0.0) for _ in range(7)]
    assert waits[1] < waits[0]
    assert waits[3] == waits[0]


def test_checks_that_fail_in_a_row_end_the_process() -> None:
    actor = ServiceActor(Moody("-"))
    for _ in range(MAX_FAILED_CHECKS - 1):
        actor.tick(0.0)
    with pytest.raises(RuntimeError, match="in a row"):
        actor.tick(0.0)
