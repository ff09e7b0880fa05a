"""Merging runs a little at a time, beside the work that goes on.

Invariants
    a merged run covers exactly the stretch of its inputs, which are neighbours
    a step's cost is bounded by its budget where fingerprints are uniform, as hashes are
    an input whose body does not match its checksums is never merged: its damage would get a fresh checksum
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from groundswell.errors import Corrupt
from groundswell.ingest import fingerprint_kernels as kernels
from groundswell.ingest.fingerprint_runs import Entries, Run, RunWriter, Stretch, checksum
from groundswell.log.files import Files

__all__ = ["Merge", "write_run"]

_WORDS: Final = 2**64


class Merge:
    """One merge under way."""

    def __init__(self, folder: Path, inputs: Sequence[Run], files: Files) -> None:
        self.inputs = tuple(inputs)
        first, last = inputs[0].stretch, inputs[-1].stretch
        stretch = Stretch(
            first.partition,
            first.start,
            last.stop,
            min(run.stretch.oldest_us for run in inputs),
            max(run.stretch.newest_us for run in inputs),
        )
        self._total = sum(run.entries for run in inputs)
        self._writer = RunWriter(folder, stretch, self._total, files)
        self._cursors = [0] * len(inputs)
        self._checksums = [[0, 0, 0] for _ in inputs]
        self._cut = 0  # first words below it are done

    @property
    def entries(self) -> int:
        """Entries of all inputs."""
        return self._total

    def damaged(self) -> list[Path]:
        """Return the inputs whose bodies, read whole, did not match their checksums."""
        pairs = zip(self.inputs, self._checksums, strict=True)
        return [run.path for run, found in pairs if tuple(found) != tuple(run.checksums)]

    def step(self, budget: int) -> bool:
        """Merge about ``budget`` entries; return whether all are done.

        Raises:
            Corrupt: an input is damaged; the message names it.
            Unavailable: the disk is full.
        """
        share = _WORDS if budget >= self._total else max(1, _WORDS * budget // self._total)
        self._cut = min(_WORDS, self._cut + share)
        slices: list[Entries] = []
        for index, run in enumerate(self.inputs):
            start = self._cursors[index]
            stop = run.entries if self._cut == _WORDS else int(np.searchsorted(run.body.first, np.uint64(self._cut)))
            taken = run.body.take(slice(start, stop))
            for section, values in enumerate(taken):
                self._checksums[index][section] = checksum(values, self._checksums[index][section])
            self._cursors[index] = stop
            slices.append(taken)
        merge_slices(slices, self._writer)
        if self._cut < _WORDS:
            return False
        if damaged := self.damaged():
            raise Corrupt(f"{damaged[0]}: its entries do not match their checksums; it is rebuilt from the log")
        return True

    def finish(self) -> Path:
        """Sync and name the merged run; the inputs may go after."""
        return self._writer.finish()

    def abandon(self) -> None:
        """Give up; the inputs stay."""
        self._writer.abandon()


def merge_slices(slices: Sequence[Entries], writer: RunWriter) -> None:
    """Append the merged ``slices``, each sorted, oldest first, to ``writer``."""
    lengths = [len(one.first) for one in slices]
    joined = Entries.join(slices)
    stops = np.cumsum(np.array(lengths, np.int64))
    out = Entries.empty(len(joined.first))
    written = kernels.merge(*joined, stops - lengths, stops, *out, writer.filter_words, writer.counts)
    writer.write(out.take(slice(written)))


def write_run(folder: Path, stretch: Stretch, entries: Entries, files: Files) -> Path:
    """Sort ``entries`` and write them as one run."""
    writer = RunWriter(folder, stretch, len(entries.first), files)
    try:
        order = np.argsort(entries.first)
        merge_slices([_by_second_word(entries.take(order))], writer)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def _by_second_word(entries: Entries) -> Entries:
    """Return ``entries``, sorted by their first word, sorted by both; equal first words are rare among hashes."""
    if not (entries.first[1:] == entries.first[:-1]).any():
        return entries
    order: npt.NDArray[np.intp] = np.lexsort((entries.second, entries.first))
    return entries.take(order)
