"""Group commit: what many requests bring is decoded, split and appended together, in one thread.

Invariants
    a submission is answered when its events are durable, or when it is known that they are not
    events and the counts of their intake are in one append: the ledgers cannot part
    at most ``queue_bytes_max`` bytes wait; past that ``submit`` raises ``Overloaded`` and nothing was taken
    after ``stop`` returns, everything that was submitted has been answered
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
import structlog

from groundswell import limits
from groundswell.collector.ports import Control
from groundswell.errors import GroundswellError, Overloaded, Transient, Unavailable
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC, Entry, EventLog
from groundswell.model.clock import Clock
from groundswell.wire.decode import Body, Decoder, Group, Outcome
from groundswell.wire.faults import Refused
from groundswell.wire.intake import IntakeTally, encode_intake, intake_counts
from groundswell.wire.partition import split, split_dead
from groundswell.wire.record import NO_DEAD, NO_ROWS, RecordContent, encode_record

_log = structlog.get_logger(__name__)

__all__ = ["Answer", "Appender", "GroupStats", "Submission", "counts_by_source", "entries_of", "intake_entry"]

Answer = Callable[["Outcome | Exception"], None]

_RETRY_AFTER_S: Final = 1.0  # a group commit takes milliseconds, so a queue that is full now is not in a second
_PROBLEM_S: Final = 5.0  # then readiness lets a sender try whether the log can be written again
_REFUSALS_WAIT_S: Final = 1.0  # counts of requests that brought no event wait this long for company


class Submission(NamedTuple):
    """A body that waits for its append, and whom to tell. ``answer`` is called in the appender's thread."""

    body: Body
    answer: Answer


class GroupStats(NamedTuple):
    """One group commit, for metrics."""

    requests: int
    events: int
    bytes: int
    decode_s: float
    append_s: float
    durable: bool


class Appender:
    """Takes bodies of many requests and answers each when it is durable."""

    def __init__(
        self,
        log: EventLog,
        control: Control,
        clock: Clock,
        *,
        queue_bytes_max: int = limits.queue_bytes_max,
        wait_s: float = limits.group_commit_wait_s,
    ) -> None:
        self.observe: Callable[[GroupStats], None] | None = None  # told of each group, in the appender's thread
        self._log = log
        self._control = control
        self._clock = clock
        self._queue_bytes_max = queue_bytes_max
        self._wait_s = wait_s
        self._problem: tuple[float, str] | None = None
        self._partitions = log.partitions(EVENTS_TOPIC)
        self._definitions = control.definitions()
        self._decoder = Decoder(self._definitions)
        self._waiting: deque[Submission] = deque()
        self._waiting_bytes = 0
        self._tally = IntakeTally()
        self._changed = threading.Condition()
        self._stopping = False
        self._refusals_s = clock.monotonic_s()
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait or are being appended."""
        return self._waiting_bytes

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    @property
    def problem(self) -> str | None:
        """Why the last append failed; None where it did not, or that was long enough ago to try again."""
        found = self._problem
        if found is None or self._clock.monotonic_s() - found[0] > _PROBLEM_S:
            return None
        return found[1]

    def start(self) -> None:
        """Start the appender's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more, append what waits, and return when all is answered."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, body: Body, answer: Answer) -> None:
        """Queue a body.

        Raises:
            Overloaded: the queue is full.
            Unavailable: the collector is stopping.
        """
        size = len(body.data)
        with self._changed:
            if self._stopping:
                raise Unavailable("the collector is stopping; send the same events to another one, or again later")
            if self._waiting_bytes and self._waiting_bytes + size > self._queue_bytes_max:
                raise Overloaded(
                    f"queued bytes == {self._waiting_bytes}, must be <= {self._queue_bytes_max} with {size} more; "
                    f"send the same events again later",
                    retry_after_s=_RETRY_AFTER_S,
                )
            self._waiting_bytes += size
            self._waiting.append(Submission(body, answer))
            if len(self._waiting) == 1 or self._waiting_bytes >= _GROUP_BYTES_ENOUGH:
                self._changed.notify()

    def count_refused(self, source: str, fault: Refused) -> None:
        """Count a request that was refused before its body was read."""
        with self._changed:
            self._tally.add(source, received=1, accepted=0, refused=[fault], at_us=self._clock.now_us())

    # --- the appender's thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if group:
                try:
                    self._commit(group)
                except Exception as error:  # noqa: BLE001 - a bug must not end the thread that everyone waits for
                    _log.exception("appender.failed")
                    for submission in group:
                        submission.answer(error)
            self._append_refusals()
            if self._stopping and not group:
                break

    def _next_group(self) -> list[Submission]:
        with self._changed:
            if not self._waiting and not self._stopping:
                self._changed.wait(_REFUSALS_WAIT_S)
            if self._waiting and self._wait_s and not self._stopping and self._waiting_bytes < _GROUP_BYTES_ENOUGH:
                self._changed.wait(self._wait_s)
            group: list[Submission] = []
            size = 0
            while self._waiting and (not group or size + len(self._waiting[0].body.data) <= _GROUP_BYTES_MAX):
                submission = self._waiting.popleft()
                size += len(submission.body.data)
                group.append(submission)
            return group

    def _commit(self, submissions: Sequence[Submission]) -> None:
        started_s = self._clock.monotonic_s()
        answers: list[Outcome | Exception]
        group, answers = self._decode([submission.body for submission in submissions])
        decoded_s = self._clock.monotonic_s()
        with self._changed:
            beside, self._tally = self._tally, IntakeTally()
        problem = None
        try:
            self._append(group, submissions, answers, beside)
        except Exception as error:  # noqa: BLE001 - whatever it was, each sender must be told that nothing is durable
            if self.problem is None:  # told once in a while, not for every group that meets the same full disk
                _log.warning("appender.append_failed", error=str(error))
            problem = (self._clock.monotonic_s(), _NOT_WRITTEN)
            answers = [_told(error)] * len(submissions)
            with self._changed:
                self._tally.merge(beside)
        self._problem = problem
        size = sum(len(submission.body.data) for submission in submissions)
        with self._changed:
            self._waiting_bytes -= size
        if self.observe:
            ended_s = self._clock.monotonic_s()
            events = group.batch.num_rows + group.dead.num_rows
            decode_s, append_s = decoded_s - started_s, ended_s - decoded_s
            self.observe(GroupStats(len(submissions), events, size, decode_s, append_s, problem is None))
        for submission, answer in zip(submissions, answers, strict=True):
            submission.answer(answer)

    def _decode(self, bodies: Sequence[Body]) -> tuple[Group, list[Outcome | Exception]]:
        """Decode all bodies; one that the decoder fails on (which is a bug) must not fail the others."""
        self._refresh()
        try:
            group = self._decoder.decode_all(bodies)
        except Exception:  # noqa: BLE001
            sound: list[Body] = []
            answers: list[Outcome | Exception] = []
            for body in bodies:
                try:
                    answers.extend(self._decoder.decode_all([body]).outcomes)
                except Exception as error:  # noqa: BLE001 - it becomes this sender's answer
                    answers.append(error)
                else:
                    sound.append(body)
            return self._decoder.decode_all(sound), answers
        return group, list(group.outcomes)

    def _refresh(self) -> None:
        """Use the newest definitions; where no decoder can be made of them, those before."""
        try:
            definitions = self._control.definitions()
            if definitions is not self._definitions:
                self._definitions = definitions
                self._decoder = Decoder(definitions)
        except Exception:  # noqa: BLE001 - whatever is wrong with them, events must not wait for it
            _log.exception("appender.definitions_passed_over", version=self._definitions.version)

    def _append(
        self,
        group: Group,
        submissions: Sequence[Submission],
        answers: Sequence[Outcome | Exception],
        beside: IntakeTally,
    ) -> None:
        tally = IntakeTally()
        for submission, outcome in zip(submissions, answers, strict=True):
            if isinstance(outcome, Outcome):
                body = submission.body
                tally.add(
                    body.source,
                    received=outcome.received,
                    accepted=outcome.accepted,
                    refused=outcome.refused,
                    at_us=body.received_at_us,
                )
        tally.merge(beside)
        entries = entries_of(group, self._decoder.version, self._partitions)
        entries.append(intake_entry(tally))
        self._log.append(entries)

    def _append_refusals(self) -> None:
        """Append counts of what was refused at the door, where no group took them along."""
        now_s = self._clock.monotonic_s()
        if not self._tally or (now_s - self._refusals_s < _REFUSALS_WAIT_S and not self._stopping):
            return
        self._refusals_s = now_s
        with self._changed:
            tally, self._tally = self._tally, IntakeTally()
        try:
            self._log.append([intake_entry(tally)])
        except GroundswellError:  # nobody waits for these; they go with the next append
            with self._changed:
                self._tally.merge(tally)


def _told(error: Exception) -> Exception:
    """Return what senders are told of a failed append: a driver's text names files, and is logged."""
    if isinstance(error, Overloaded):
        return Overloaded(_NOT_WRITTEN, retry_after_s=error.retry_after_s)
    return Unavailable(_NOT_WRITTEN) if isinstance(error, Transient) else error


def entries_of(group: Group, version: int, partitions: int) -> list[Entry]:
    """Return a group's events as entries of the log, cut by partition and into records of bounded size."""
    rows = split(group.batch, partitions)
    letters = split_dead(group.dead, partitions)
    entries: list[Entry] = []
    for partition in sorted(rows.keys() | letters.keys()):
        batch, dead = rows.get(partition, NO_ROWS), letters.get(partition, NO_DEAD)
        for start in range(0, max(batch.num_rows, dead.num_rows), limits.record_events_max):
            content = RecordContent(
                batch.slice(start, limits.record_events_max), dead.slice(start, limits.record_events_max), version
            )
            counts = counts_by_source(content.batch) + counts_by_source(content.dead)
            entries.append(Entry(EVENTS_TOPIC, partition, encode_record(content), counts))
    return entries


def intake_entry(tally: IntakeTally) -> Entry:
    """Return what was counted as an entry of the log, whose tally keeps the counts for ever."""
    record = tally.record()
    return Entry(INTAKE_TOPIC, 0, encode_intake(record), intake_counts(record))


def counts_by_source(batch: pa.RecordBatch) -> Counter[str]:
    """Return events by source."""
    if not batch.num_rows:
        return Counter()
    return Counter({pair["values"]: pair["counts"] for pair in batch.column("source").value_counts().to_pylist()})


_NOT_WRITTEN: Final = "the log cannot be written just now; nothing was taken, send the same events again later"
_GROUP_BYTES_MAX: Final = 4 * 1024 * 1024  # decoding takes several times the memory of what is decoded
_GROUP_BYTES_ENOUGH: Final = 1024 * 1024  # an fsync for this much is well spent; no need to wait for company

assert _GROUP_BYTES_ENOUGH <= _GROUP_BYTES_MAX <= limits.queue_bytes_max
