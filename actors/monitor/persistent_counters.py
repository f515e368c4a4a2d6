"""Counters that survive the monitor's process: within one run of the supervisor no counter ever falls.

Prometheus allows a counter to begin again at zero, but then loses what was counted between its last scrape and the end
of the process. Here the totals are on disk before a scrape is answered, and the next monitor adds what it counts.
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

from engine.platform import atomic_file, processes
from engine.platform.metrics import PARKED

logger = structlog.get_logger()

_CUMULATIVE_TYPES: Final = frozenset({"counter", "histogram"})
Labels = dict[str, str]
SampleKey = tuple[str, frozenset[tuple[str, str]]]


class CollectedMetrics(NamedTuple):
    """All metric families as they were at one moment, in the form of a collector, which encoders take."""

    families: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


class PersistentCounters:
    """The metrics of `collector` (this process) plus those that earlier monitors of the same `run` saved at `path`.

    `extra_samples` gives samples that are no metrics and go into the file only; while it is entered they agree with
    those of `collector`.
    """

    def __init__(
        self,
        collector: Collector,
        path: Path,
        run: str,
        extra_samples: Callable[[], AbstractContextManager[list[Sample]]],
    ) -> None:
        self._collector = collector
        self._extra_samples = extra_samples
        self._path = path
        self._run = run
        self._saved: dict[str, list[Sample]] = {}
        self._lock = threading.Lock()
        self._is_writable = True

    def load(self) -> None:
        """Reads what an earlier monitor saved; a damaged file, or that of another run, counts as none."""
        try:
            run, families = json.loads(self._path.read_text(encoding="utf-8"))
            if run == self._run:
                self._saved = {family: [Sample(*sample) for sample in samples] for family, samples in families.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("counters_unreadable", path=str(self._path), reason=str(error))

    def get_saved_samples(self, name: str) -> list[tuple[Labels, float]]:
        """The samples of this name (with its ``_total``) that an earlier monitor saved."""
        return [
            (found.labels, found.value) for samples in self._saved.values() for found in samples if found.name == name
        ]

    def collect_and_save(self) -> CollectedMetrics:
        """All metrics as of now, which are on disk when this returns. A disk that fails costs only the saving."""
        with self._lock:
            with self._extra_samples() as notes:
                families = list(self._collector.collect())
            for family in families:
                if family.type in _CUMULATIVE_TYPES:
                    family.samples = _add_samples(family.samples, self._saved.get(family.name, []))
            kept = {
                family.name: family.samples
                for family in families
                if family.type in _CUMULATIVE_TYPES or family.name == PARKED
            }
            self._save(kept | {"": notes})  # no metric is without a name
        return CollectedMetrics(families)

    def _save(self, families: Mapping[str, Iterable[Sample]]) -> None:
        kept = {name: [sample[:3] for sample in samples] for name, samples in families.items()}
        try:
            atomic_file.write_atomic(self._path, json.dumps([self._run, kept], separators=(",", ":")))
        except OSError as error:
            if self._is_writable:
                logger.warning("counters_not_written", path=str(self._path), reason=str(error))
            self._is_writable = False
        else:
            self._is_writable = True


def supervisor_identity() -> str:
    """Identifies the supervisor, the parent of this process: its restart begins all counters anew."""
    return processes.process_identity(os.getppid())


def _add_samples(now: list[Sample], before: list[Sample]) -> list[Sample]:
    """Each sample of `now` with what it was `before`, and those that were only before."""
    remaining = {_sample_key(sample): sample for sample in before}
    both = [_add_sample(sample, remaining.pop(_sample_key(sample), None)) for sample in now]
    return [*both, *remaining.values()]


def _add_sample(sample: Sample, before: Sample | None) -> Sample:
    return sample if before is None else sample._replace(value=sample.value + before.value)


def _sample_key(sample: Sample) -> SampleKey:
    return sample.name, frozenset(sample.labels.items())
