"""A provider that refuses: heard of once for the whole host, kept by everybody, and told where people look."""

import json
import re
from pathlib import Path

import pytest

from actors.messages import LimiterState
from tests.actors.scene import MakeScene
from tests.support.clients.local_peers import LocalPeers
from tests.support.factories.monitored import Running, child, report
from tests.support.servers.groq_double import Answer, GroqDouble, error, ok, raw

HOLD = ok('{"action":"HOLD","symbol":null,"size_usd":0,"confidence":0,"reasoning":""}')
DAILY = (
    "Rate limit reached for model `openai/gpt-oss-120b` in organization `org_1` service tier `on_demand` on tokens per "
    "day (TPD): Limit 200000, Used 199400, Requested 1500. Please try again in 7m27.5s. Visit the console."
)
UNTIL = re.compile(r"Groq refuses until \d\d:\d\d: tokens per day")


def told_by_the_monitor(home: Path, peers: LocalPeers) -> tuple[int, str, str]:
    """Status and text of /healthz, and the problems of /status, of a monitor that hears the limiter's last word."""
    monitor = Running(home)
    monitor.tell(report(child("limiter")), peers.wait_for(LimiterState, lambda state: bool(state.used), 1)[-1])
    monitor.tell(peers.of(LimiterState)[-1])
    healthz, status = monitor.get("/healthz"), monitor.status()
    monitor.actor.close(1.0)
    monitor.ref.stop()
    return healthz.status_code, healthz.text, json.dumps(status["problems"])


def three_refused(scene: MakeScene, *answers: Answer, cycles: int = 9) -> tuple[int, LocalPeers, Path]:
    """How often three strategies of a second asked a provider that answers so, in so many cycles together."""
    with GroqDouble(*answers) as groq:
        here = scene(groq.url)
        for name in ("one", "two", "three"):
            here.run(here.strategy(name=name))
        here.cycles(cycles)
        here.peers.wait_for(LimiterState, count=len(here.peers.of(LimiterState)) + 2)
        return len(groq.requests), here.peers, here.settings.sparky_home


def test_a_daily_limit_that_stands_only_in_the_text_holds_everybody_back_and_is_told_once(
    scene: MakeScene, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, peers, home = three_refused(scene, error(429, "rate_limit_exceeded", message=DAILY))
    assert asked <= 3  # those that were under way when the first was refused
    status, healthz, problems = told_by_the_monitor(home, peers)
    state = peers.of(LimiterState)[-1]
    peers.stop()
    assert state.limit["tpd"] == 200_000
    assert (status, bool(UNTIL.search(healthz)), bool(UNTIL.search(problems))) == (503, True, True)
    assert capsys.readouterr().out.count("provider_refused") == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(401, "invalid_api_key", message="Invalid API Key"), "Invalid API Key"),
        (error(400, "organization_restricted", message="Organization has been restricted"), "has been restricted"),
        (raw(403, b"<html><title>Blocked</title></html>", {"content-type": "text/html"}), "Blocked"),
    ],
)
def test_a_refused_account_is_told_where_people_look_and_asked_for_rarely(
    scene: MakeScene, capsys: pytest.CaptureFixture[str], answer: Answer, words: str
) -> None:
    asked, peers, home = three_refused(scene, answer, cycles=12)
    assert asked <= 3
    status, healthz, problems = told_by_the_monitor(home, peers)
    peers.stop()
    assert status == 503
    assert words in healthz
    assert words in problems
    assert capsys.readouterr().out.count("provider_account_refused") == 1
