"""The event log in a folder of SQLite files: the embedded implementation of the contract.

Invariants
    one appender at a time, over threads and processes; what waits together shares one transaction and one fsync
    a record is in the newest segment or in one that never changes again; nothing is updated or deleted in place
    every step of append, roll, seal and drop leaves files that open as a log which keeps the contract
    checkpoints run under the appender's lock, so that two of them never meet

Steps told to ``faults`` are in ``steps``; ``docs/internals/log-format.md`` describes the files.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

from groundswell import limits
from groundswell.errors import Corrupt, GroundswellError, InvalidInput, NotFound, Unavailable
from groundswell.log import manifest, segment, steps
from groundswell.log.catalog import Catalog, segment_path
from groundswell.log.contract import Entry, Origin, Record, SegmentSummary
from groundswell.log.copying import copy_log
from groundswell.log.driver import mapped
from groundswell.log.files import AppenderLock, DiskFiles, Files
from groundswell.log.retention import Finding, Keeper
from groundswell.log.rules import SegmentRules, check_entries, check_partition, topic_layout, topic_name
from groundswell.model.clock import US_PER_S, Clock
from groundswell.model.faults import Faults, NoFaults

__all__ = ["SqliteEventLog"]

_OFFSET_MAX: Final = 2**62


class _Call:
    """One caller's append, waiting for whoever commits next."""

    __slots__ = ("bytes", "entries", "error", "positions")

    def __init__(self, entries: Sequence[Entry], size: int) -> None:
        self.entries = entries
        self.bytes = size
        self.positions: list[tuple[int, int]] | None = None
        self.error: BaseException | None = None

    @property
    def settled(self) -> bool:
        return self.positions is not None or self.error is not None


class SqliteEventLog:
    """An :class:`~groundswell.log.contract.EventLog` in ``folder``, which is made if need be.

    Open it after a fork, not before. ``partitions`` None takes what the log was created with (a new one:
    ``limits.log_partitions``).

    Raises:
        InvalidInput: the log was created with other ``partitions``.
        NotFound: ``read_only`` and there is no log in ``folder``.
        Corrupt: a file is damaged or missing; the message names it.
        Unavailable: the folder cannot be written, or is locked.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        clock: Clock,
        partitions: int | None = None,
        rules: SegmentRules | None = None,
        faults: Faults | None = None,
        files: Files | None = None,
        read_only: bool = False,
        busy_s: float = limits.log_busy_s,
    ) -> None:
        self.folder = Path(folder)
        self._clock = clock
        self._rules = rules or SegmentRules()
        self._faults = faults or NoFaults()
        self._files = files or DiskFiles()
        self._read_only = read_only
        self._busy_s = busy_s
        self._pid = os.getpid()
        self._closed = False
        self._queue: deque[_Call] = deque()
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._writer: segment.Writer | None = None
        self._lock: AppenderLock | None = None
        if read_only and not (self.folder / "manifest.sqlite").exists():
            raise NotFound(f"{self.folder} holds no log; name the folder of one")
        if not read_only:
            self._create(topic_layout(limits.log_partitions if partitions is None else partitions), busy_s)
        self._manifest = manifest.Manifest(self.folder / "manifest.sqlite", busy_s=busy_s)
        self._layout = self._manifest.layout
        try:
            self._check_partitions(partitions)
            self._catalog = Catalog(self.folder, self._manifest)
            self._keeper = Keeper(
                self.folder,
                manifest=self._manifest,
                catalog=self._catalog,
                rules=self._rules,
                clock=self._clock,
                faults=self._faults,
                files=self._files,
            )
            if not read_only:
                with self._locked():
                    self._keeper.sweep()
        except BaseException:
            self._manifest.close()
            raise

    def partitions(self, topic: str) -> int:
        return self._layout[topic_name(self._layout, topic)]

    def append(self, entries: Sequence[Entry]) -> list[tuple[int, int]]:
        size = check_entries(self._layout, entries)
        self._check_writable()
        if not entries:
            return []
        call = _Call(entries, size)
        with self._queue_lock:
            self._queue.append(call)
        while not call.settled:
            with self._commit_lock:
                if not call.settled:
                    self._commit_group(call)
        if call.error is not None:
            raise call.error
        assert call.positions is not None
        return call.positions

    def read(self, topic: str, partition: int, start: int, *, bytes_max: int, stop: int | None = None) -> list[Record]:
        check_partition(self._layout, topic, partition)
        self._check_open()
        stream = (topic, partition)
        number = self._catalog.numbers[stream]
        records: list[Record] = []
        room = bytes_max
        limit = _OFFSET_MAX if stop is None else stop
        places = self._catalog.places_from(stream, start)
        for place, following in zip_longest(places, places[1:]):
            with self._catalog.reader(place) as connection:
                found = segment.read(connection, number, stream, start + len(records), stop=limit, bytes_max=room)
                if not found and not records and following is None:
                    self._check_not_past_end(
                        segment.heads(connection, self._catalog.streams)[stream].next, stream, start
                    )
            room -= sum(len(record.payload) for record in found)
            if records and room < 0:
                break  # a segment's first record is returned whatever its size
            records.extend(found)
            ended = following is not None and start + len(records) == following.first[stream]
            if not ended or room < 0 or start + len(records) >= limit:
                break
        return records

    def begins(self, topic: str) -> dict[int, int]:
        topic_name(self._layout, topic)
        self._check_open()
        return self._catalog.begins(topic)

    def ends(self, topic: str) -> dict[int, int]:
        count = self.partitions(topic)
        self._check_open()
        found = self._catalog.last_heads()
        return {index: found[(topic, index)].next for index in range(count)}

    def tally(self, topic: str) -> dict[tuple[str, Origin], int]:
        topic_name(self._layout, topic)
        self._check_open()
        totals: Counter[tuple[str, Origin]] = Counter()
        for (stream, source, origin), events in self._catalog.tally().items():
            if stream[0] == topic:
                totals[(source, origin)] += events
        return dict(totals)

    def pending(self, topic: str, committed: Mapping[int, int]) -> dict[str, int]:
        self._check_open()
        totals: Counter[str] = Counter()
        begins = self.begins(topic)
        for index in range(self.partitions(topic)):
            totals.update(self._catalog.pending((topic, index), max(committed.get(index, 0), begins[index])))
        return dict(totals)

    def segments(self) -> list[SegmentSummary]:
        self._check_open()
        return [sealed.summary(self._layout) for sealed in self._manifest.all()]

    def maintain(self, keep: Mapping[str, Mapping[int, int]]) -> int:
        self._check_writable()
        with self._commit_lock, self._locked():
            writer = self._current_writer()
            if self._full(writer):
                self._roll(writer)
            self._keeper.seal()
            return self._keeper.drop(keep)

    def verify(self) -> list[Finding]:
        """Recount what is kept against checksums, tallies, summaries and the chain of digests; return what is off."""
        self._check_open()
        return self._keeper.verify()

    def copy_to(self, folder: Path) -> None:
        """Write a consistent copy of the log into the new ``folder`` while others append."""
        self._check_open()
        copy_log(self.folder, folder)

    def close(self) -> None:
        with self._commit_lock:
            if self._closed:
                return
            self._closed = True
            if self._writer is not None and self._lock is not None:
                try:
                    with self._lock.hold():  # closing the last connection checkpoints
                        self._drop_writer()
                except Unavailable:
                    self._drop_writer()
            self._catalog.close()
            self._manifest.close()
            if self._lock is not None:
                self._lock.close()

    # --- appending ---------------------------------------------------------------------------------------------

    def _commit_group(self, own: _Call) -> None:
        """Commit what has queued, in order of arrival, as one transaction. Called under the commit lock."""
        group: list[_Call] = []
        size = 0
        with self._queue_lock:
            while self._queue and (not group or size + self._queue[0].bytes <= limits.group_commit_bytes_max):
                call = self._queue.popleft()
                group.append(call)
                size += call.bytes
        try:
            self._check_writable()
            with self._locked():
                self._faults.reach(steps.APPEND)
                writer = self._current_writer()
                if self._full(writer):
                    writer = self._roll(writer)
                entries = [entry for call in group for entry in call.entries]
                positions = writer.append(entries, self._clock.now_us(), self._faults)
                with contextlib.suppress(Unavailable):  # what is committed stays so; the next append tries again
                    writer.checkpoint_if_due(self._faults)
            self._faults.reach(steps.APPENDED)
        except BaseException as error:
            with contextlib.suppress(Unavailable):
                self._drop_writer()  # rolls back what is open; the next append starts from the files
            for call in group:
                call.error = error if call is own else _withheld(error)
            if own not in group and not isinstance(
                error, Exception
            ):  # the caller leaves, so its append must not follow
                with self._queue_lock:
                    self._queue.remove(own)
                raise
            return
        taken = 0
        for call in group:
            call.positions = positions[taken : taken + len(call.entries)]
            taken += len(call.entries)

    def _current_writer(self) -> segment.Writer:
        """Return a writer of the newest segment; another process may have rolled since the last call."""
        number = self._catalog.refresh()[-1].number
        if self._writer is not None and self._writer.number != number:
            self._drop_writer()
        if self._writer is None:
            self._writer = segment.Writer(
                segment_path(self.folder, number), number, self._catalog.streams, busy_s=self._busy_s
            )
        return self._writer

    def _full(self, writer: segment.Writer) -> bool:
        age_us = self._clock.now_us() - writer.created_us
        over = writer.bytes >= self._rules.bytes_max or age_us >= self._rules.age_s_max * US_PER_S
        return over and self._catalog.holds_records()

    def _roll(self, writer: segment.Writer) -> segment.Writer:
        """Start the next segment where this one ends."""
        firsts = {stream: head.next for stream, head in self._catalog.last_heads().items()}
        number = writer.number + 1
        path = segment_path(self.folder, number)
        segment.create(path, number, firsts, created_us=self._clock.now_us(), files=self._files, faults=self._faults)
        self._faults.reach(steps.ROLLED)
        return self._current_writer()

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    # --- opening and checks ------------------------------------------------------------------------------------

    def _create(self, layout: Mapping[str, int], busy_s: float) -> None:
        """Make the folder, the manifest and the first segment where they are missing."""
        path = self.folder / "manifest.sqlite"
        with mapped(self.folder):
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._files.sync_folder(self.folder.parent)
            self._lock = AppenderLock(self.folder / "appender.lock", wait_s=busy_s)
            with self._lock.hold():
                if path.exists():
                    return
                first = segment_path(self.folder, 1)
                if any(self.folder.glob("segment-*.sqlite")) and not segment.is_empty(first):
                    raise Corrupt(f"{path} is missing beside segments; restore it from a backup")
                firsts = dict.fromkeys(segment.streams_of(layout), 0)
                segment.create(
                    first, 1, firsts, created_us=self._clock.now_us(), files=self._files, faults=self._faults
                )
                manifest.create(path, layout, self._clock.now_us(), self._files, self._faults)

    def _check_partitions(self, partitions: int | None) -> None:
        if partitions is not None and topic_layout(partitions) != self._layout:
            raise InvalidInput(
                "partitions",
                partitions,
                f"must be {self._layout['events']}: it is fixed when a log is created",
                next_step="open it without naming partitions, or import into a new log",
            )

    def _locked(self):  # noqa: ANN202 - a context manager of AppenderLock
        assert self._lock is not None
        return self._lock.hold()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the log in {self.folder} is closed; open it again")
        if os.getpid() != self._pid:
            raise Unavailable(f"the log in {self.folder} was opened before a fork; open it in the new process")

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise InvalidInput("read_only", value=True, rule="must be False to append or maintain")

    def _check_not_past_end(self, end: int, stream: tuple[str, int], start: int) -> None:
        if start > end:
            raise Corrupt(
                f"{stream[0]}/{stream[1]} ends at offset {end}; offset {start} was asked for, so records were lost; "
                f"restore {self.folder} from a newer backup"
            )


def _withheld(error: BaseException) -> GroundswellError:
    """Return what the others of a group are told: an exception must not be raised in two threads."""
    if isinstance(error, Unavailable | Corrupt):
        return type(error)(*error.args)
    return Unavailable(f"the append was not confirmed ({type(error).__name__}); retry")
