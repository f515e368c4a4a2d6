"""Counters that outlive the monitor: what was scraped once is never less in a later scrape of the same run.

Prometheus allows a counter to begin again at zero, but then loses what was counted between its last scrape and the
death. Here the totals are on disk before a scrape is answered, and the next monitor adds what it counts itself.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from engine.platform import atomic_file, identity
from engine.platform.metrics import PARKED

logger = structlog.get_logger()

_ADDS_UP: Final = frozenset({"counter", "histogram"})
Labels = dict[str, str]
Key = tuple[str, frozenset[tuple[str, str]]]


class Scrape(NamedTuple):
    """All families as they were at one moment; it collects for an encoder that takes a collector."""

    families: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


class Totals:
    """The metrics of `counted` (this process) plus those that earlier monitors of the same `run` left in the file.

    `noted` gives samples that are no metrics and go into the file alone; while it is entered, they belong to `counted`.
    """

    def __init__(
        self, counted: Collector, path: Path, run: str, noted: Callable[[], AbstractContextManager[list[Sample]]]
    ) -> None:
        self._counted = counted
        self._noted = noted
        self._path = path
        self._run = run
        self._left: dict[str, list[Sample]] = {}
        self._lock = threading.Lock()
        self._is_writable = True

    def open(self) -> None:
        """Reads what an earlier monitor left; a damaged file, or that of another run, counts as none."""
        try:
            run, families = json.loads(self._path.read_text(encoding="utf-8"))
            if run == self._run:
                self._left = {family: [Sample(*sample) for sample in samples] for family, samples in families.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("totals_unreadable", path=str(self._path), reason=str(error))

    def left(self, name: str) -> list[tuple[Labels, float]]:
        """The samples of this name (with its ``_total``) that an earlier monitor left."""
        return [
            (found.labels, found.value) for samples in self._left.values() for found in samples if found.name == name
        ]

    def scrape(self) -> Scrape:
        """Everything as of now, which is on disk when this returns. A disk that refuses costs that, not the answer."""
        with self._lock:
            with self._noted() as notes:
                families = list(self._counted.collect())
            for family in families:
                if family.type in _ADDS_UP:
                    family.samples = _summed(family.samples, self._left.get(family.name, []))
            kept = {
                family.name: family.samples for family in families if family.type in _ADDS_UP or family.name == PARKED
            }
            self._keep(kept | {"": notes})  # no metric is without a name
        return Scrape(families)

    def _keep(self, families: Mapping[str, Iterable[Sample]]) -> None:
        kept = {name: [sample[:3] for sample in samples] for name, samples in families.items()}
        try:
            atomic_file.replace(self._path, json.dumps([self._run, kept], separators=(",", ":")))
        except OSError as error:
            if self._is_writable:
                logger.warning("totals_not_written", path=str(self._path), reason=str(error))
            self._is_writable = False
        else:
            self._is_writable = True


def this_run() -> str:
    """Names the supervisor above this process, whose restart begins all counters anew."""
    return identity.this_process(os.getppid())


def _summed(now: list[Sample], before: list[Sample]) -> list[Sample]:
    """Each sample of `now` with what it was `before`, and those that were only before."""
    left = {_key(sample): sample for sample in before}
    both = [_plus(sample, left.pop(_key(sample), None)) for sample in now]
    return [*both, *left.values()]


def _plus(sample: Sample, before: Sample | None) -> Sample:
    return sample if before is None else sample._replace(value=sample.value + before.value)


def _key(sample: Sample) -> Key:
    return sample.name, frozenset(sample.labels.items())
