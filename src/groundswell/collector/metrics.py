"""What the collector counts about itself, for Prometheus, summed over the processes that share one port.

Each process keeps its numbers in a small file of 8-byte floats that the others can read; a scrape that any of them
answers adds up all files. Counters of processes that have ended stay in the sum; gauges are of living processes only.

Invariants
    a slot is written by one thread of one process, so that no lock is needed
    the meaning of a slot is fixed by the order of the tables below; files of another layout are not read
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector as PrometheusCollector

from groundswell.wire.faults import REFUSED_REASONS

__all__ = ["Meter"]

_STATUSES: Final = (200, 400, 401, 404, 405, 408, 411, 413, 415, 500, 503)
_VERDICTS: Final = ("accepted", "dead_lettered", "refused")
_REASONS: Final = (*sorted(REFUSED_REASONS), "other")
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# family -> (help, label, its values)
_COUNTERS: Final[dict[str, tuple[str, str | None, Sequence[str]]]] = {
    "requests": ("Requests answered", "status", [str(status) for status in _STATUSES]),
    "events": ("Events by verdict", "verdict", _VERDICTS),
    "refused": ("Events and bodies refused, by reason", "reason", _REASONS),
    "body_bytes": ("Bytes of bodies, decompressed", None, [""]),
    "appends": ("Group commits", "result", ["durable", "failed"]),
}
_GAUGES: Final = {
    "queued_bytes": "Bytes that wait for their append",
    "receiving_bytes": "Bytes of bodies that are being received",
}
_HISTOGRAMS: Final = {
    "request_seconds": "From the first byte of a request to its answer",
    "decode_seconds": "Decoding one group of requests",
    "append_seconds": "Appending one group to the log until it is durable",
}
_PREFIX: Final = "groundswell_collector_"
_BUCKETS: Final = len(_SECONDS) + 1  # the last is of all that is slower


def _layout() -> dict[tuple[str, str], int]:
    slots: dict[tuple[str, str], int] = {}
    for family, (_, _, values) in _COUNTERS.items():
        for value in values:
            slots[family, value] = len(slots)
    for family in _GAUGES:
        slots[family, ""] = len(slots)
    for family in _HISTOGRAMS:
        for bucket in range(_BUCKETS):
            slots[family, str(bucket)] = len(slots)
        slots[family, "sum"] = len(slots)
    return slots


_SLOTS: Final = _layout()


class Meter:
    """Counts. With ``folder`` None, for this process alone."""

    def __init__(self, folder: Path | None = None, *, process: int | None = None) -> None:
        self._folder = folder
        size = 8 * len(_SLOTS)
        if folder is None:
            self._map = mmap.mmap(-1, size)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{os.getpid() if process is None else process}.metrics"
            with path.open("w+b") as file:
                file.truncate(size)
                self._map = mmap.mmap(file.fileno(), size)
        self._values = memoryview(self._map).cast("d")

    def count(self, family: str, value: str = "", by: float = 1.0) -> None:
        """Add to a counter; a label value that is not in the table counts as ``other`` where there is one."""
        slot = _SLOTS.get((family, value))
        if slot is None:
            slot = _SLOTS[family, "other"]
        self._values[slot] += by

    def set(self, family: str, to: float) -> None:
        """Set a gauge."""
        self._values[_SLOTS[family, ""]] = to

    def observe(self, family: str, seconds: float) -> None:
        """Add to a histogram."""
        first = _SLOTS[family, "0"]
        self._values[first + bisect_left(_SECONDS, seconds)] += 1.0
        self._values[first + _BUCKETS] += seconds

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        registry = CollectorRegistry()
        registry.register(_Families(*self._sums()))
        return generate_latest(registry)

    def close(self) -> None:
        """Give the memory back; a file stays, for the sums of others."""
        self._values.release()
        self._map.close()

    def _sums(self) -> tuple[list[float], list[float]]:
        """Return sums over all processes, and over living ones."""
        if self._folder is None:
            return list(self._values), list(self._values)
        every, living = [0.0] * len(_SLOTS), [0.0] * len(_SLOTS)
        for path in sorted(self._folder.glob("*.metrics")):
            content = path.read_bytes()
            if len(content) != 8 * len(_SLOTS):
                continue
            alive = _is_alive(int(path.stem))
            for slot, value in enumerate(memoryview(content).cast("d")):
                every[slot] += value
                if alive:
                    living[slot] += value
        return every, living


class _Families(PrometheusCollector):
    def __init__(self, every: Sequence[float], living: Sequence[float]) -> None:
        self._every = every
        self._living = living

    def collect(self) -> Iterable[Metric]:
        for family, (text, label, values) in _COUNTERS.items():
            counter = CounterMetricFamily(_PREFIX + family, text, labels=[label] if label else None)
            for value in values:
                counter.add_metric([value] if label else [], self._every[_SLOTS[family, value]])
            yield counter
        for family, text in _GAUGES.items():
            yield GaugeMetricFamily(_PREFIX + family, text, value=self._living[_SLOTS[family, ""]])
        for family, text in _HISTOGRAMS.items():
            first = _SLOTS[family, "0"]
            below = 0.0
            buckets: list[tuple[str, float]] = []
            for bucket, bound in enumerate([*(str(bound) for bound in _SECONDS), "+Inf"]):
                below += self._every[first + bucket]
                buckets.append((bound, below))
            yield HistogramMetricFamily(
                _PREFIX + family, text, buckets=buckets, sum_value=self._every[first + _BUCKETS]
            )


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, as someone else's
        return True
    return True
