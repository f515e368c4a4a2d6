"""Many signals of one person at once: each takes milliseconds, so each waits for a place and nobody is sent away."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from tests.webhook_server.conftest import Site


def at_once(posts: Sequence[Callable[[], requests.Response]]) -> list[requests.Response]:
    """The answers to requests that leave at the same moment, in the order of `posts`."""
    start = threading.Barrier(len(posts))

    def send(post: Callable[[], requests.Response]) -> requests.Response:
        start.wait(60)
        return post()

    with ThreadPoolExecutor(len(posts)) as senders:
        return list(senders.map(send, posts))


def entry(site: Site, **fields: Any) -> Callable[[], requests.Response]:
    return lambda: site.sender.engine(**fields)


def told(answers: Sequence[requests.Response]) -> set[tuple[int, str]]:
    return {(answer.status_code, answer.json().get("action") or answer.json()["error"]) for answer in answers}


def test_sixty_entries_of_one_person_for_as_many_strategies_are_all_made(site: Site) -> None:
    strategies = [str(site.strategy()) for _ in range(60)]
    answers = at_once([entry(site, strategy_id=strategy) for strategy in strategies])
    assert told(answers) == {(200, "opened")}
    assert {str(each.strategy_id) for each in site.store.open_positions()} == set(strategies)


def test_sixty_entries_of_one_strategy_are_all_made(site: Site) -> None:
    strategy = str(site.strategy(max_position_usd=1_000_000))
    answers = at_once([entry(site, strategy_id=strategy, position_size_usd=100) for _ in range(60)])
    assert told(answers) == {(200, "opened")}
    assert site.sql("select count(*) from fills") == [(60,)]


def test_thirty_exits_of_one_person_are_all_made(site: Site) -> None:
    strategies = [str(site.strategy()) for _ in range(30)]
    for strategy in strategies:
        site.sender.engine(strategy_id=strategy)
    answers = at_once([entry(site, strategy_id=strategy, action="CLOSE") for strategy in strategies])
    assert told(answers) == {(200, "closed")}
    assert site.store.open_positions() == ()
