"""Doubles of the lake: the whole contract in memory, and one that fails where it is told to.

Invariants
    ``MemoryLake`` keeps every promise of ``lake.contract``, races between threads included
    ``FaultyLake`` fails only as a real lake may: a raised error says nothing about whether the commit happened
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Literal

import pyarrow as pa

from groundswell import limits
from groundswell.errors import CommitConflict, InvalidInput, SnapshotGone, Unavailable
from groundswell.lake.columns import FIRST_SCHEMA, check_table, missing_columns, present_columns
from groundswell.lake.contract import Change, IngestState, Lake, LakeFile, Snapshot
from groundswell.lake.reading import describe, file_order, select
from groundswell.lake.retention import Life, check_tag, expiring, files_due_us
from groundswell.lake.steps import EXPIRED, STAGE, SWAP, SWAPPED, WRITE, WRITTEN
from groundswell.model.clock import Clock
from groundswell.model.definitions import Definitions
from groundswell.model.faults import Faults, NoFaults
from groundswell.testing.clock import ManualClock

__all__ = ["CommitFault", "FaultyLake", "MemoryLake"]

CommitFault = Literal["fails", "answer_lost", "race_lost", "conflict", "slow"]

_RACES_MAX: Final = 16
_US_PER_S: Final = 1_000_000


class _Version:
    """One version of the table: a snapshot and its files by path."""

    def __init__(self, snapshot: Snapshot, files: Mapping[str, LakeFile]) -> None:
        self.snapshot = snapshot
        self.files = files
        self.replaced_us: int | None = None


class MemoryLake:
    """The lake in memory. It tells ``faults`` of the same steps as the lake on disk.

    Snapshot ids and file names count from 1, so that a simulation prints the same ones for the same seed.
    """

    def __init__(self, *, clock: Clock | None = None, faults: Faults | None = None) -> None:
        self._clock = clock or ManualClock()
        self._faults = faults or NoFaults()
        self._lock = threading.Lock()
        self._schema = FIRST_SCHEMA
        self._tables: dict[str, pa.Table] = {}
        self._written_us: dict[str, int] = {}
        self._versions: list[_Version] = []
        self._tags: dict[str, tuple[int, int]] = {}
        self._doomed: dict[str, int] = {}  # path -> from when on it may be deleted
        self._count = 0

    def ensure_columns(self, definitions: Definitions) -> None:
        with self._lock:
            for field in missing_columns(self._schema, definitions):
                self._schema = self._schema.append(field)

    def columns(self, files: Sequence[LakeFile] | None = None) -> pa.Schema:
        with self._lock:
            if files is None:
                return self._schema
            present = {name for file in files for name in self._table(file).column_names}
            return pa.schema([field for field in self._schema if field.name in present])

    def write(self, table: pa.Table, *, sorted_run: int = 0) -> LakeFile:
        check_table(self._schema, table)
        self._faults.reach(WRITE)
        with self._lock:
            self._count += 1
            path = f"memory://events/{sorted_run}-{self._count:08d}.parquet"
            self._tables[path] = present_columns(table)
            self._written_us[path] = self._clock.now_us()
        self._faults.reach(WRITTEN)
        return describe(path, table, sorted_run=sorted_run, size=table.nbytes)

    def commit(self, decide: Callable[[IngestState], Change | None]) -> Snapshot | None:
        if len(self._versions) >= limits.live_snapshots_max:
            self.expire()
        for _ in range(_RACES_MAX):
            base = self._newest()
            change = decide(base.snapshot.state if base else IngestState())
            if change is None:
                return None
            self._faults.reach(STAGE)
            files = _changed_files(base.files if base else {}, change)
            self._faults.reach(SWAP)
            with self._lock:
                newest = self._versions[-1] if self._versions else None
                landed = self._append(base, change, files) if newest is base else None
            if landed is not None:
                self._faults.reach(SWAPPED)
                return landed
        raise CommitConflict(f"lost {_RACES_MAX} races in a row against other committers")

    def _append(self, base: _Version | None, change: Change, files: dict[str, LakeFile]) -> Snapshot:
        if missing := [path for path in files if path not in self._tables]:
            raise InvalidInput("file", missing[0], "must have been written to this lake")
        state = change.state or (base.snapshot.state if base else IngestState())
        now_us = self._clock.now_us()
        number = base.snapshot.snapshot_id + 1 if base else 1
        snapshot = Snapshot(number, now_us, state)
        if base:
            base.replaced_us = now_us
        self._versions.append(_Version(snapshot, files))
        return snapshot

    def _newest(self) -> _Version | None:
        with self._lock:
            return self._versions[-1] if self._versions else None

    def current(self) -> Snapshot | None:
        newest = self._newest()
        return newest.snapshot if newest else None

    def snapshot(self, snapshot_id: int) -> Snapshot:
        return self._version(snapshot_id).snapshot

    def _version(self, snapshot_id: int) -> _Version:
        with self._lock:
            for version in self._versions:
                if version.snapshot.snapshot_id == snapshot_id:
                    return version
        raise SnapshotGone(f"snapshot {snapshot_id} is not in the lake: it has expired or never was")

    def snapshots(self) -> list[Snapshot]:
        with self._lock:
            return [version.snapshot for version in self._versions]

    def files(self, snapshot_id: int | None = None) -> list[LakeFile]:
        version = self._newest() if snapshot_id is None else self._version(snapshot_id)
        return sorted(version.files.values(), key=file_order) if version else []

    def read(
        self,
        files: Sequence[LakeFile],
        columns: Sequence[str],
        *,
        unit_hash: tuple[int, int] | None = None,
        coded: Collection[str] = (),
    ) -> pa.Table:
        with self._lock:
            schema, tables = self._schema, [self._table(file) for file in files]
        return select(schema, tables, columns, unit_hash, coded)

    def _table(self, file: LakeFile) -> pa.Table:
        if file.path not in self._tables:
            raise SnapshotGone(f"data file {file.path} was deleted: no live snapshot names it")
        return self._tables[file.path]

    def tag(self, name: str, snapshot_id: int, *, keep_s: int) -> None:
        check_tag(name, keep_s)
        self._version(snapshot_id)
        with self._lock:
            self._tags[name] = (snapshot_id, self._clock.now_us() + keep_s * _US_PER_S)

    def expire(self) -> int:
        now_us = self._clock.now_us()
        with self._lock:
            self._tags = {name: tag for name, tag in self._tags.items() if tag[1] > now_us}
            tagged = {snapshot_id for snapshot_id, _ in self._tags.values()}
            gone = expiring([Life(v.snapshot.snapshot_id, v.replaced_us) for v in self._versions], tagged, now_us)
            gone_ids = {life.snapshot_id for life in gone}
            doomed = {path for v in self._versions if v.snapshot.snapshot_id in gone_ids for path in v.files}
            self._versions = [v for v in self._versions if v.snapshot.snapshot_id not in gone_ids]
            if gone:
                self._doomed |= dict.fromkeys(doomed - self._named(), files_due_us(gone))
            for path in [path for path, due_us in self._doomed.items() if due_us <= now_us]:
                del self._doomed[path]
                self._tables.pop(path, None)
        self._faults.reach(EXPIRED)
        return len(gone)

    def _named(self) -> set[str]:
        return {path for version in self._versions for path in version.files}

    def remove_orphans(self) -> int:
        oldest_us = self._clock.now_us() - limits.orphan_age_s_min * _US_PER_S
        with self._lock:
            named = self._named() | self._doomed.keys()
            orphans = [p for p in self._tables if p not in named and self._written_us[p] < oldest_us]
            for path in orphans:
                del self._tables[path]
        return len(orphans)

    def location(self) -> Mapping[str, str]:
        return {
            "catalog": "memory",
            "namespace": "groundswell",
            "table": "events",
            "warehouse": "memory://",
            "metadata": "",
        }


def _changed_files(files: Mapping[str, LakeFile], change: Change) -> dict[str, LakeFile]:
    changed = dict(files)
    for file in change.remove:
        if changed.pop(file.path, None) is None:
            raise CommitConflict(f"file {file.path} is no longer in the table; reload and decide again")
    for file in change.add:
        if file.path in changed:
            raise CommitConflict(f"file {file.path} is already in the table")
        changed[file.path] = file
    return changed


class FaultyLake:
    """A lake whose commits fail as told, one fault a commit; the rest is passed on.

    ``fails``        Unavailable; nothing was committed
    ``answer_lost``  committed, then Unavailable
    ``race_lost``    somebody commits between decision and swap, so that ``decide`` is asked again
    ``conflict``     CommitConflict; nothing was committed
    ``slow``         waits ``slow_s`` first

    Args:
        lake: the lake that does the work.
        clock: waits.
        faults: for the commits to come, None for one that goes well; afterwards all go well. May be endless.
        slow_s: how slow.
    """

    def __init__(
        self, lake: Lake, *, clock: Clock, faults: Iterable[CommitFault | None] = (), slow_s: float = 10.0
    ) -> None:
        self._lake = lake
        self._clock = clock
        self._planned = iter(faults)
        self._next: deque[CommitFault | None] = deque()
        self._slow_s = slow_s

    def then(self, *faults: CommitFault | None) -> None:
        """Put faults before those still planned."""
        self._next.extend(faults)

    def commit(self, decide: Callable[[IngestState], Change | None]) -> Snapshot | None:
        fault = self._next.popleft() if self._next else next(self._planned, None)
        if fault == "fails":
            raise Unavailable("the catalog is away; nothing was committed")
        if fault == "conflict":
            raise CommitConflict("lost too many races against other committers")
        if fault == "slow":
            self._clock.sleep(self._slow_s)
        snapshot = self._lake.commit(self._raced(decide) if fault == "race_lost" else decide)
        if fault == "answer_lost":
            raise Unavailable("the catalog went away before it answered")
        return snapshot

    def _raced(self, decide: Callable[[IngestState], Change | None]) -> Callable[[IngestState], Change | None]:
        rivals = iter([Change()])

        def decide_too_late(state: IngestState) -> Change | None:
            change = decide(state)
            for rival in rivals:
                self._lake.commit(lambda _, rival=rival: rival)
            return change

        return decide_too_late

    def ensure_columns(self, definitions: Definitions) -> None:
        self._lake.ensure_columns(definitions)

    def columns(self, files: Sequence[LakeFile] | None = None) -> pa.Schema:
        return self._lake.columns(files)

    def write(self, table: pa.Table, *, sorted_run: int = 0) -> LakeFile:
        return self._lake.write(table, sorted_run=sorted_run)

    def current(self) -> Snapshot | None:
        return self._lake.current()

    def snapshot(self, snapshot_id: int) -> Snapshot:
        return self._lake.snapshot(snapshot_id)

    def snapshots(self) -> list[Snapshot]:
        return self._lake.snapshots()

    def files(self, snapshot_id: int | None = None) -> list[LakeFile]:
        return self._lake.files(snapshot_id)

    def read(
        self,
        files: Sequence[LakeFile],
        columns: Sequence[str],
        *,
        unit_hash: tuple[int, int] | None = None,
        coded: Collection[str] = (),
    ) -> pa.Table:
        return self._lake.read(files, columns, unit_hash=unit_hash, coded=coded)

    def tag(self, name: str, snapshot_id: int, *, keep_s: int) -> None:
        self._lake.tag(name, snapshot_id, keep_s=keep_s)

    def expire(self) -> int:
        return self._lake.expire()

    def remove_orphans(self) -> int:
        return self._lake.remove_orphans()

    def location(self) -> Mapping[str, str]:
        return self._lake.location()
