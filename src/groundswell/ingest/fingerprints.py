"""Exact deduplication: the fingerprints that one partition of the log has admitted within a window of log time.

Invariants
    what was admitted is in the memory table or in a run; the runs' stretches join without a gap and end at ``covered``
    a run that reaches past the committed offset at open is removed: what it holds is admitted again from the log
    everything here can be rebuilt from the log, so a damaged file costs time, never an event
    log time is the largest append time seen; runs wholly older than the window are dropped, so that the window is a
    promise of how long an identity is remembered at least

Memory: 20 B a slot of the memory table, which has at most 60% of its slots taken by ``hot_max`` entries and one batch;
20 B for each of the ``hot_max`` / 12 entries not yet in a run; 2.5 B an entry of merges under way, each of at most
``limits.fingerprint_run_entries_max``. Runs are memory-mapped, 22.25 B an entry, of which the 2.25 B of filter and
directory are always in use; the rest is the system's cache, which a process monitor may count as ours.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from groundswell import limits
from groundswell.errors import Corrupt, InvalidInput, Unavailable
from groundswell.ingest import fingerprint_kernels as kernels
from groundswell.ingest.fingerprint_merge import Merge, write_run
from groundswell.ingest.fingerprint_runs import Entries, Run, RunName, Stretch, mapped
from groundswell.log.files import DiskFiles, Files
from groundswell.model.clock import US_PER_S
from groundswell.model.faults import Faults, NoFaults

__all__ = ["CONFLICT", "DUPLICATE", "NEW", "IndexSize", "PartitionFingerprints"]

NEW: Final = 0
DUPLICATE: Final = 1
CONFLICT: Final = 2

_BLOCK: Final = 4096  # events looked up before they are inserted: their slots stay in the cache between
_LOAD: Final = 0.6  # of the memory table at most; linear probing then looks at two slots
_SLOTS_MIN: Final = 1 << 12
_RUNS_A_TABLE: Final = 12  # runs written while the memory table fills: their first merge ends before it is emptied
_SEEN_A_RUN: Final = 4  # a stretch of duplicates is checkpointed too, so that a restart need not read it again
_FAN_OUT: Final = 8  # runs of a tier that become one of the next
_MERGE_PACE: Final = 4  # entries merged for each event admitted
_MERGE_STEP: Final = 32_768  # entries; below it, finding the slices costs more than merging them
_SETTLED_AFTER: Final = 4 * limits.contribution_rows_max  # events: what was admitted so long ago has been committed

Int64s = npt.NDArray[np.int64]
Fates = npt.NDArray[np.uint8]


class IndexSize(NamedTuple):
    """What an index holds: entries in memory and its slots, runs and their entries, entries of merges under way."""

    hot: int
    slots: int
    runs: int
    in_runs: int
    merging: int


class PartitionFingerprints:
    """The index of one partition. Not thread-safe: one thread drives it. Opened by :meth:`open`."""

    def __init__(
        self,
        folder: Path,
        partition: int,
        runs: list[Run],
        *,
        window_s: float,
        hot_max: int,
        files: Files,
        faults: Faults,
    ) -> None:
        self.folder = folder
        self.partition = partition
        self._runs = runs  # oldest first
        self._window_us = round(window_s * US_PER_S)
        self._hot_max = hot_max
        self._files = files
        self._faults = faults
        self._log_time_us = max((run.stretch.newest_us for run in runs), default=0)
        self._oldest_us = 0  # append time of what is not in a run yet; 0: nothing
        self._covered = runs[-1].stretch.stop if runs else 0
        self._next = self._covered
        self._settled = self._covered
        self._flushed: deque[tuple[int, int]] = deque()  # (end, events seen by then) of runs not known to be settled
        self._seen = 0
        self._seen_flushed = 0
        self._seen_merged = 0
        self._fresh: list[Entries] = []  # admitted, not in a run yet
        self._fresh_count = 0
        self._run_entries = max(1, hot_max // _RUNS_A_TABLE)
        self._merges: list[Merge] = []
        self._resident = self._covered  # runs that start here or later are in the memory table too
        self._hot = 0
        self._keys: npt.NDArray[np.uint64] = np.zeros(2 * _SLOTS_MIN, np.uint64)
        self._checks: npt.NDArray[np.uint32] = np.zeros(_SLOTS_MIN, np.uint32)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        partition: int,
        committed: int,
        *,
        begins: int = 0,
        window_s: float = limits.dedupe_window_s,
        hot_max: int = limits.hot_fingerprints_max,
        files: Files | None = None,
        faults: Faults | None = None,
    ) -> PartitionFingerprints:
        """Open what is stored below offset ``committed``.

        The caller then reads the log from ``covered`` to ``committed`` and admits it again. ``begins`` is the first
        offset that the log still holds.

        Raises:
            Corrupt: a run is damaged and the log no longer holds what it covered.
            Unavailable: the folder cannot be read or written.
        """
        for name, value in (("partition", partition), ("committed", committed), ("begins", begins)):
            if value < 0:
                raise InvalidInput(name, value, "must be >= 0")
        for name, bound in (("window_s", window_s), ("hot_max", hot_max)):
            if bound <= 0:
                raise InvalidInput(name, bound, "must be > 0")
        place = Path(folder)
        with mapped(place):
            place.mkdir(parents=True, exist_ok=True)
            runs = open_chain(place, partition, committed, begins)
        return cls(
            place, partition, runs, window_s=window_s, hot_max=hot_max,
            files=files or DiskFiles(), faults=faults or NoFaults(),
        )  # fmt: skip

    @property
    def covered(self) -> int:
        """The offset up to which runs hold everything."""
        return self._covered

    @property
    def size(self) -> IndexSize:
        """How much is held, and where."""
        return IndexSize(
            hot=self._hot,
            slots=len(self._checks),
            runs=len(self._runs),
            in_runs=sum(run.entries for run in self._runs),
            merging=sum(merge.entries for merge in self._merges),
        )

    def admit(self, h1: Int64s, h2: Int64s, content: Int64s) -> Fates:
        """Remember what is new and return each event's fate, in order: ``NEW``, ``DUPLICATE`` or ``CONFLICT``.

        A conflict is a known identity with other content; one in 2**31 passes for a duplicate. ``h1`` and ``h2`` are
        the two words of each fingerprint, ``content`` is a hash of what the event says; all have shape (n,).
        """
        count = len(h1)
        if len(h2) != count or len(content) != count:
            raise InvalidInput("content", (count, len(h2), len(content)), "must be as long as h1 and h2")
        first = np.ascontiguousarray(h1, np.int64).view(np.uint64)
        second = np.ascontiguousarray(h2, np.int64).view(np.uint64)
        checks = np.empty(count, np.uint32)
        kernels.pack_checks(np.ascontiguousarray(content, np.int64), checks)
        fates = np.zeros(count, np.uint8)
        events = Entries(first, second, checks)
        self._make_room(count)
        older = [run for run in self._runs if run.stretch.start < self._resident]
        wanted = np.arange(count, dtype=np.int64)
        if older:
            for start in range(0, count, _BLOCK):
                self._admit_block(events, wanted[start : start + _BLOCK], fates, older)
        else:
            self._hot += kernels.admit(self._keys, self._checks, *events, wanted, fates)
        self._remember(events, fates)
        self._seen += count
        return fates

    def advance(self, next_offset: int, appended_at_us: int) -> None:
        """Say that all of the log below ``next_offset``, appended at ``appended_at_us`` or before, has been admitted.

        Writes a run when enough has come together, and moves merges on.

        Raises:
            InvalidInput: ``next_offset`` goes back.
            Unavailable: the disk is full, or a run was found damaged and set aside; open anew and go on.
        """
        if next_offset < self._next:
            raise InvalidInput("next_offset", next_offset, f"must be >= {self._next}, where the last call stood")
        self._next = next_offset
        self._log_time_us = max(self._log_time_us, appended_at_us)
        if self._fresh and not self._oldest_us:
            self._oldest_us = appended_at_us
        full = self._hot >= self._hot_max
        waiting = self._seen - self._seen_flushed
        due = full or self._fresh_count >= self._run_entries or waiting >= _SEEN_A_RUN * self._run_entries
        if due and self._covered < self._next:
            self._flush()
            if full:
                self._empty_table()
            self._drop_old()
        self._merge_on()

    def settle(self, committed: int) -> None:
        """Say that everything below offset ``committed`` is committed, so that runs of it may be merged.

        A merged run that reached past the committed offset would be lost whole at the next open. Without this call
        it is taken that what was admitted 2,000,000 events ago has been committed.
        """
        self._settled = max(self._settled, committed)

    def verify(self) -> list[Path]:
        """Read every run whole and return those that do not match their checksums."""
        return [run.path for run in self._runs if not run.verify()]

    # --- the memory table --------------------------------------------------------------------------------------

    def _admit_block(self, events: Entries, wanted: Int64s, fates: Fates, older: Sequence[Run]) -> None:
        missing, held = np.empty(len(wanted), np.int64), np.empty(len(wanted), np.uint8)
        left = kernels.lookup(self._keys, self._checks, *events, wanted, fates, missing)
        for run in reversed(older):
            if left == 0:
                return
            left = kernels.probe(run.filter_words, run.directory, *run.body, *events, missing, left, fates, held)
        self._hot += kernels.admit(self._keys, self._checks, *events, missing[:left], fates)

    def _make_room(self, count: int) -> None:
        slots = len(self._checks)
        while (self._hot + count) > slots * _LOAD:
            slots *= 2
        if slots > len(self._checks):
            keys, checks = np.zeros(2 * slots, np.uint64), np.zeros(slots, np.uint32)
            kernels.move(self._keys, self._checks, keys, checks)
            self._keys, self._checks = keys, checks

    def _remember(self, events: Entries, fates: Fates) -> None:
        new = np.flatnonzero(fates == NEW)
        if len(new):
            self._fresh.append(events.take(new))
            self._fresh_count += len(new)

    def _empty_table(self) -> None:
        """Forget the memory table; all of it is in runs now, which are searched from here on."""
        self._checks.fill(0)
        self._hot = 0
        self._resident = self._covered

    # --- runs --------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write what is not in a run yet as one."""
        oldest_us = self._oldest_us or self._log_time_us
        stretch = Stretch(self.partition, self._covered, self._next, oldest_us, self._log_time_us)
        self._faults.reach("fingerprints.flush")
        self._runs.append(Run(write_run(self.folder, stretch, Entries.join(self._fresh), self._files)))
        self._faults.reach("fingerprints.flushed")
        for run in self._runs:
            run.release()
        self._fresh, self._fresh_count, self._oldest_us = [], 0, 0
        self._covered = self._next
        self._seen_flushed = self._seen
        self._flushed.append((self._covered, self._seen))

    def _drop_old(self) -> None:
        merging = {run.path for merge in self._merges for run in merge.inputs}
        while self._runs and self._runs[0].stretch.newest_us < self._log_time_us - self._window_us:
            if self._runs[0].path in merging:
                return
            self._remove([self._runs.pop(0).path])

    def _merge_on(self) -> None:
        """Start merges that are due and move those under way on, in proportion to the events admitted."""
        budget = _MERGE_PACE * (self._seen - self._seen_merged)
        if budget < min(_MERGE_STEP, self._run_entries):
            return
        self._seen_merged = self._seen
        for inputs in self._due():
            with contextlib.suppress(Unavailable):  # no room for one more file: it is due again next time
                self._merges.append(Merge(self.folder, inputs, self._files))
        for merge in list(self._merges):
            try:
                if merge.step(budget):
                    self._finish(merge)
            except Unavailable:  # the disk is full: the inputs stay, and the merge starts anew
                self._merges.remove(merge)
                merge.abandon()
            except Corrupt as error:
                self._merges.remove(merge)
                merge.abandon()
                self._remove(merge.damaged())
                raise Unavailable(f"{error}; open the index anew") from error

    def _finish(self, merge: Merge) -> None:
        self._faults.reach("fingerprints.merged")
        merged = Run(merge.finish())
        self._faults.reach("fingerprints.named")
        self._merges.remove(merge)
        at = self._runs.index(merge.inputs[0])
        self._runs[at : at + len(merge.inputs)] = [merged]
        self._remove([run.path for run in merge.inputs])
        self._faults.reach("fingerprints.removed")

    def _due(self) -> list[list[Run]]:
        """Return groups of neighbours that are settled, not being merged, and enough to become one run."""
        while self._flushed and self._seen - self._flushed[0][1] >= _SETTLED_AFTER:
            self._settled = max(self._settled, self._flushed.popleft()[0])
        merging = {run.path for merge in self._merges for run in merge.inputs}
        groups: list[list[Run]] = []
        for tier in range(max(map(self._tier, self._runs), default=0) + 1):
            group: list[Run] = []
            for run in [*self._runs, None]:
                if (
                    run is not None
                    and self._tier(run) <= tier
                    and run.stretch.stop <= self._settled
                    and run.path not in merging
                ):
                    group.append(run)
                    continue
                same = [index for index, one in enumerate(group) if self._tier(one) == tier]
                if len(same) >= _FAN_OUT:
                    group = group[same[0] : same[-1] + 1]
                if (
                    len(group) >= (_FAN_OUT if len(same) >= _FAN_OUT else 2 * _FAN_OUT)
                    and sum(one.entries for one in group) <= limits.fingerprint_run_entries_max
                ):
                    groups.append(group)
                    merging.update(one.path for one in group)
                group = []
        return groups

    def _tier(self, run: Run) -> int:
        tier, size = 0, run.entries // self._run_entries
        while size >= _FAN_OUT:
            tier, size = tier + 1, size // _FAN_OUT
        return tier

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):  # it is removed at the next open
                path.unlink(missing_ok=True)


def open_chain(folder: Path, partition: int, committed: int, begins: int) -> list[Run]:
    """Return the runs that join without a gap and end at or below ``committed``, oldest first; remove all others."""
    names = {path: name for path in folder.glob(f"{partition:04d}-*.run") if (name := RunName.of(path))}
    useless = [*folder.glob(f"{partition:04d}-*.new"), *(p for p, name in names.items() if name.stop > committed)]
    ordered = sorted(names.keys() - set(useless), key=lambda path: (names[path].start, -names[path].stop))
    chain: list[Run] = []
    at: int | None = None  # where the chain ends so far
    damage: Corrupt | None = None
    for path in ordered:
        start, stop = names[path].start, names[path].stop
        at = start if at is None else at
        if start > at or stop <= at:  # behind a gap, or already covered by the run that it was merged into
            useless.append(path)
            continue
        try:
            chain.append(Run(path))
        except Corrupt as error:
            damage = damage or error
            useless.append(path)
            continue
        at = stop
    covered = chain[-1].stretch.stop if chain else 0
    if damage is not None and begins > covered and any(names[path].stop > covered for path in names):
        raise Corrupt(
            f"{damage}, but the log begins at offset {begins} and runs hold only what is below {covered}; restore "
            f"{folder} from a backup, or remove it and leave duplicates of what was between to the sweep"
        ) from damage
    for path in useless:
        path.unlink(missing_ok=True)
    return chain
