"""Dead letters: which wait, why, what they hold, and sending them through again after a fix.

Invariants
    a letter counts once whatever crashes repeated it, and only below the committed offsets
    a replay and the mark that it happened are one append, so a letter is replayed once or stays
    a replayed letter keeps its identity and the moment it was received: replaying never moves an event in time
    what fails again stays, with today's reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell import limits
from groundswell.errors import InvalidInput, NotFound
from groundswell.ingest import steps
from groundswell.ingest.dead_index import DeadIndex, Letters
from groundswell.ingest.dead_records import MARKS_SCHEMA, decode_dead, encode_dead
from groundswell.lake.contract import Lake
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, Entry, EventLog
from groundswell.model.definitions import Definitions
from groundswell.model.faults import Faults, NoFaults
from groundswell.wire.decode import Body, Decoder, Outcome
from groundswell.wire.partition import split
from groundswell.wire.record import NO_DEAD, RecordContent, encode_record

__all__ = ["DeadLetters", "Letter", "ReplayReport"]

Place = tuple[int, int, int]  # partition, offset, row: a letter's id


class Letter(NamedTuple):
    """One event that was accepted and cannot be counted."""

    id: str
    source: str
    event_id: str | None
    type: str | None
    received_at_us: int
    reason: str
    field: str | None
    message: str | None
    raw: bytes
    attempts: int = 0  # replays that failed
    replayed: bool = False


class ReplayReport(NamedTuple):
    """What became of the letters that were tried again."""

    replayed: int
    failed: int
    reasons: dict[str, int]  # why the failed ones failed today


class DeadLetters:
    """The dead letters of a log. An instance reads on from where it was, so keep one where they are asked for often."""

    def __init__(self, log: EventLog, lake: Lake, *, faults: Faults | None = None) -> None:
        self._log = log
        self._lake = lake
        self._faults = faults or NoFaults()
        self._read_to = 0
        self._index = DeadIndex()

    # --- looking -----------------------------------------------------------------------------------------------

    def reasons(self) -> dict[str, int]:
        """Return how many letters wait, by reason, most first."""
        codes, counts = np.unique(self._waiting().reason, return_counts=True)
        named = {
            self._index.name(code) or "": count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        }
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))

    def count(self) -> int:
        """Return how many letters wait."""
        return len(self._waiting().offset)

    def page(
        self,
        *,
        reason: str | None = None,
        source: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's own name
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Letter], str | None]:
        """Return waiting letters, newest first, and the cursor of the next page (None: there is none).

        Raises:
            InvalidInput: ``cursor`` is not one that a page gave, or ``limit`` is out of bounds.
        """
        if not 1 <= limit <= limits.dead_letters_page_max:
            raise InvalidInput("limit", limit, f"must be from 1 to {limits.dead_letters_page_max}")
        found = self._waiting(reason=reason, source=source, type_=type)
        if cursor is not None:
            offset, row = _parse_cursor(cursor)
            found = found.take((found.at_offset < offset) | ((found.at_offset == offset) & (found.at_row < row)))
        more = len(found.offset) > limit
        page = found.take(np.arange(len(found.offset))[-limit:][::-1])
        following = f"{page.at_offset[-1]}.{page.at_row[-1]}" if more else None
        return list(self._load(page)), following

    def show(self, letter_id: str) -> Letter:
        """Return one letter, waiting or replayed.

        Raises:
            InvalidInput: ``letter_id`` has not the form of an id.
            NotFound: no letter below the committed offsets has it.
        """
        known = self._known()
        found = known.take(_is_one_of(known, [_parse_id(letter_id)]))
        if not len(found.offset):
            raise NotFound(
                f"dead letter {letter_id} is not known; `groundswell dead-letters list` shows those that wait"
            )
        return next(self._load(found))

    def by_event(self, event_id: str) -> list[Letter]:
        """Return the letters of events with this id, replayed ones included; reads every letter that is kept."""
        return [letter for letter in self._load(self._known()) if letter.event_id == event_id]

    # --- replaying ---------------------------------------------------------------------------------------------

    def replay(
        self,
        definitions: Definitions,
        *,
        ids: Collection[str] | None = None,
        reason: str | None = None,
        source: str | None = None,
        type: str | None = None,  # noqa: A002 - the field's own name
    ) -> ReplayReport:
        """Decode waiting letters again under ``definitions`` and append those that now fit as origin ``replay``.

        Raises:
            NotFound: an id is not that of a waiting letter; nothing was replayed.
            Unavailable: the log is away; what was appended so far is marked, so it is not replayed again.
        """
        letters = self._waiting(reason=reason, source=source, type_=type)
        if ids is not None:
            wanted = {_parse_id(one): one for one in ids}
            letters = letters.take(_is_one_of(letters, list(wanted)))
            waiting = {_id_of(*place) for place in _places(letters)}
            for place, one in wanted.items():
                if _id_of(*place) not in waiting:
                    raise NotFound(f"dead letter {one} does not wait: it is unknown or was replayed")
        decoder = Decoder(definitions)
        report = ReplayReport(0, 0, {})
        for start in range(0, len(letters.offset), limits.dead_letters_page_max):
            some = letters.take(np.arange(start, min(start + limits.dead_letters_page_max, len(letters.offset))))
            report = _add(report, self._replay_some(decoder, list(self._load(some))))
        return report

    def _replay_some(self, decoder: Decoder, letters: Sequence[Letter]) -> ReplayReport:
        bodies = [Body(letter.raw, letter.source, letter.received_at_us, "json") for letter in letters]
        group = decoder.decode_all(bodies)
        marks = [_marked(letter, outcome) for letter, outcome in zip(letters, group.outcomes, strict=True)]
        entries = [
            Entry(
                EVENTS_TOPIC,
                partition,
                encode_record(RecordContent(batch, NO_DEAD, decoder.version)),
                Counter(batch.column("source").to_pylist()),
                "replay",
            )
            for partition, batch in split(group.batch, self._log.partitions(EVENTS_TOPIC)).items()
        ]
        table = pa.Table.from_pylist(marks, schema=MARKS_SCHEMA)
        entries += [Entry(DEAD_TOPIC, 0, one, {}, "system") for one in encode_dead("marks", table, rows_max=len(marks))]
        self._faults.reach(steps.REPLAY_APPEND)
        self._log.append(entries)
        failed = Counter(mark["reason"] for mark in marks if mark["outcome"] == "failed")
        return ReplayReport(len(marks) - failed.total(), failed.total(), dict(failed))

    # --- reading the topic -------------------------------------------------------------------------------------

    def _waiting(self, *, reason: str | None = None, source: str | None = None, type_: str | None = None) -> Letters:
        letters = self._known()
        keep = letters.replayed == 0
        for column, name in ((letters.reason, reason), (letters.source, source), (letters.type, type_)):
            if name is not None:
                code = self._index.code(name)
                keep &= False if code is None else column == code
        return letters.take(keep)

    def _known(self) -> Letters:
        """Return every letter below the committed offsets."""
        self._read_on()
        letters = self._index.letters()
        snapshot = self._lake.current()
        committed = np.zeros(self._log.partitions(EVENTS_TOPIC), np.int64)
        for partition, offset in (snapshot.state.offsets if snapshot else {}).items():
            committed[partition] = offset
        return letters.take(letters.offset < committed[letters.partition])

    def _read_on(self) -> None:
        begin = self._log.begins(DEAD_TOPIC)[0]
        self._index.drop_before(begin)
        self._read_to = max(begin, self._read_to)
        while records := self._log.read(DEAD_TOPIC, 0, self._read_to, bytes_max=limits.ingest_read_bytes_max):
            for record in records:
                kind, table = decode_dead(record.payload)
                if kind == "letters":
                    self._index.add_letters(record.offset, table)
                else:
                    self._index.add_marks(record.offset, table)
                self._read_to = record.offset + 1

    def _load(self, letters: Letters) -> Iterator[Letter]:
        """Yield ``letters`` with what they hold, in their order; neighbours share one read of the topic."""
        records = _Records(self._log)
        for number in range(len(letters.offset)):
            one = letters.take(np.array([number]))
            values = records.row(int(one.at_offset[0]), int(one.at_row[0]))
            told = records.row(int(one.mark_offset[0]), int(one.mark_row[0])) if one.mark_offset[0] >= 0 else values
            last = told if told["reason"] is not None else values
            yield Letter(
                id=_id_of(*_places(one)[0]),
                source=values["source"],
                event_id=values["event_id"],
                type=values["type"],
                received_at_us=values["received_at"],
                reason=last["reason"],
                field=last["field"],
                message=last["message"],
                raw=values["raw"],
                attempts=int(one.attempts[0]),
                replayed=bool(one.replayed[0]),
            )


class _Records:
    """Rows of the dead-letter topic by place; keeps the last two records, a letter's and a mark's."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._kept: dict[int, pa.Table] = {}

    def row(self, offset: int, row: int) -> dict[str, Any]:
        """Return one row as plain values, times in microseconds."""
        if offset not in self._kept:
            if len(self._kept) == 2:
                del self._kept[next(iter(self._kept))]
            _, table = decode_dead(self._log.read(DEAD_TOPIC, 0, offset, bytes_max=1)[0].payload)
            if "received_at" in table.column_names:
                place = table.schema.get_field_index("received_at")
                table = table.set_column(place, "received_at", table.column(place).cast(pa.int64()))
            self._kept[offset] = table
        return self._kept[offset].slice(row, 1).to_pylist()[0]


def _places(letters: Letters) -> list[Place]:
    columns = (letters.partition.tolist(), letters.offset.tolist(), letters.row.tolist())
    return list(zip(*columns, strict=True))


def _is_one_of(letters: Letters, places: Sequence[Place]) -> npt.NDArray[np.bool_]:
    wanted = set(places)
    near = np.isin(letters.offset, np.array([offset for _, offset, _ in places], np.int64))
    for number in np.flatnonzero(near).tolist():
        near[number] = _places(letters.take(np.array([number])))[0] in wanted
    return near


def _id_of(partition: int, offset: int, row: int) -> str:
    return f"{partition}-{offset}-{row}"


def _parse_id(text: str) -> Place:
    parts = text.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < _DIGITS_MAX for part in parts):
        raise InvalidInput("dead letter id", text, "must be three numbers with dashes", next_step="write 0-17-2")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _parse_cursor(text: str) -> tuple[int, int]:
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < _DIGITS_MAX for part in parts):
        raise InvalidInput("cursor", text, "must be one that the page before gave")
    return int(parts[0]), int(parts[1])


def _marked(letter: Letter, outcome: Outcome) -> dict[str, Any]:
    """Return the mark of a letter that was tried again."""
    partition, offset, row = _parse_id(letter.id)
    mark: dict[str, Any] = {"partition": partition, "offset": offset, "row": row, "outcome": "replayed"}
    for one in outcome.dead:
        mark |= {"reason": one.fault.reason, "field": one.fault.field, "message": one.fault.message}
    for one in outcome.refused:
        mark |= {"reason": one.reason, "field": one.field, "message": one.message}
    if outcome.dead or outcome.refused:
        mark["outcome"] = "failed"
    return mark


def _add(report: ReplayReport, more: ReplayReport) -> ReplayReport:
    reasons = Counter(report.reasons) + Counter(more.reasons)
    return ReplayReport(report.replayed + more.replayed, report.failed + more.failed, dict(reasons))


_DIGITS_MAX: Final = 19  # what 63 bits hold
