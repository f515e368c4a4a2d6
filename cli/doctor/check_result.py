"""One line of what `sparky doctor` found."""

from typing import Literal

from engine.platform.values import Frozen


class CheckResult(Frozen):
    """One line of the doctor's table. A fault always comes with a remedy."""

    name: str
    state: Literal["ok", "fault", "skipped"]
    found: str
    remedy: str | None = None


def ok(name: str, found: str) -> CheckResult:
    return CheckResult(name=name, state="ok", found=found)


def fault(name: str, found: str, remedy: str) -> CheckResult:
    return CheckResult(name=name, state="fault", found=found, remedy=remedy)


def skip(name: str, found: str) -> CheckResult:
    return CheckResult(name=name, state="skipped", found=found)
