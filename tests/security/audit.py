"""`make audit`: what is installed is what is pinned, every pin has hashes, and no pin has a known hole.

Where advisories cannot be reached it says so loudly, and holds the pins to the list of least versions below.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

LOCK: Final = Path(__file__).parents[2] / "requirements.lock"
TIMEOUT_S: Final = 300
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)

# Below these there are published advisories that concern us (HTTP parsing, TLS, signatures, templates, archives).
LEAST: Final = {
    "aiohttp": "3.12.14",
    "certifi": "2024.7.4",
    "cryptography": "44.0.1",
    "h11": "0.16.0",
    "idna": "3.7",
    "jinja2": "3.1.6",
    "pyyaml": "5.4",
    "requests": "2.32.4",
    "setuptools": "78.1.1",
    "starlette": "0.49.1",
    "urllib3": "2.6.0",
    "werkzeug": "3.1.5",
}


def main() -> int:
    """Prints every fault; returns 1 if there is one."""
    text = LOCK.read_text(encoding="utf-8")
    pins: dict[str, list[str]] = {}  # several where Pythons differ
    for name, pinned in _PIN.findall(text):
        pins.setdefault(name, []).append(pinned)
    faults = [*_unhashed(text), *_strangers(pins), *_too_old(pins)]
    holes = _advisories(sys.argv[1:])
    if holes is None:
        print("ADVISORIES COULD NOT BE REACHED: only the pins were checked.")  # noqa: T201 - a command's answer
    for fault in [*faults, *(holes or [])]:
        print(fault)  # noqa: T201
    print(f"{len(pins)} pins, {len(faults) + len(holes or [])} faults.")  # noqa: T201
    return int(bool(faults or holes))


def _unhashed(text: str) -> list[str]:
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return [
        f"{block.split()[0]} has no hash" for block in blocks if _PIN.match(block) and "--hash=sha256:" not in block
    ]


def _strangers(pins: dict[str, list[str]]) -> list[str]:
    """What is installed in another version than the pinned one."""
    found = []
    for name, pinned in pins.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # pinned for another platform or Python
        if installed not in pinned:
            found.append(f"{name} {installed} is installed, {' or '.join(pinned)} is pinned")
    return found


def _too_old(pins: dict[str, list[str]]) -> list[str]:
    return [
        f"{name} {pinned} has known holes, {least} has not"
        for name, least in LEAST.items()
        for pinned in pins.get(name, ())
        if _numbers(pinned) < _numbers(least)
    ]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+", maxsplit=1)[0])[:3])


def _advisories(command: list[str]) -> list[str] | None:
    """What pip-audit, run by `command`, finds; None if it cannot reach its data."""
    if not command:
        return None
    arguments = ["--requirement", str(LOCK), "--disable-pip", "--require-hashes", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, *arguments, "--progress-spinner", "off", "--timeout", "10"],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        audited = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return [
        f"{one['name']} {one['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'no version'}"
        for one in audited
        for hole in one.get("vulns", [])
    ]


if __name__ == "__main__":
    sys.exit(main())
