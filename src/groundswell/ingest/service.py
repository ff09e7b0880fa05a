"""Ingest as it runs: worker threads, one committer thread and upkeep, with bounded queues between them.

Invariants
    a worker has at most ``limits.contributions_waiting_max`` contributions that are not settled
    a transient error is retried with a bounded back-off; any other stops the whole service and is raised by ``stop``
    after a rejected contribution a worker waits until its others are settled, then starts from the committed offsets
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from queue import Empty, Full, Queue
from typing import Final, Literal, Protocol

from groundswell import limits
from groundswell.errors import GroundswellError, Transient, Unavailable
from groundswell.ingest.committer import Committer
from groundswell.ingest.contribution import Contribution
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import IngestState, Lake
from groundswell.log.contract import EVENTS_TOPIC, EventLog
from groundswell.model.clock import Clock, SystemClock

__all__ = ["IngestHealth", "IngestService", "MakeWorker", "Upkeep"]


class Upkeep(Protocol):
    """A round of work that keeps log and lake small; safe beside ingest."""

    def run(self) -> None: ...


class MakeWorker(Protocol):
    """Makes the worker of some partitions."""

    def __call__(self, partitions: tuple[int, ...]) -> IngestWorker: ...


@dataclass(frozen=True, slots=True)
class IngestHealth:
    """How ingest fares now."""

    status: Literal["idle", "running", "healing", "stopped", "failed"]
    committed: Mapping[int, int]  # next offset by partition
    lag: Mapping[str, int]  # events in the log that are not committed, by source
    last_commit_us: int | None
    commits: int
    rejected: int  # contributions that found their range taken
    retries: int
    last_error: str | None


@dataclass(slots=True)
class _Pending:
    """A contribution on its way and what became of it."""

    contribution: Contribution
    settled: threading.Event = field(default_factory=threading.Event)
    accepted: bool = False


@dataclass(slots=True)
class _Tally:
    """What the threads report; written under the service's lock."""

    commits: int = 0
    rejected: int = 0
    retries: int = 0
    last_commit_us: int | None = None
    last_error: str | None = None
    healing: set[str] = field(default_factory=set)
    failure: BaseException | None = None


class IngestService:
    """Runs ``workers`` worker threads over the partitions of the events topic, a committer, and upkeep."""

    def __init__(
        self,
        log: EventLog,
        lake: Lake,
        make_worker: MakeWorker,
        committer: Committer,
        *,
        workers: int = 1,
        upkeep: Upkeep | None = None,
        clock: Clock | None = None,
        commit_interval_s: float = limits.commit_interval_s,
        upkeep_interval_s: float = limits.upkeep_interval_s,
    ) -> None:
        self._log = log
        self._lake = lake
        self._committer = committer
        self._upkeep = upkeep
        self._clock = clock or SystemClock()
        self._commit_interval_s = commit_interval_s
        self._upkeep_interval_s = upkeep_interval_s
        self._workers = [make_worker(share) for share in shares(log.partitions(EVENTS_TOPIC), workers)]
        self._queue: Queue[_Pending] = Queue(maxsize=limits.contributions_waiting_max * len(self._workers))
        self._stopping = threading.Event()
        self._draining = threading.Event()  # somebody waits for the very end of the log
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._tally = _Tally()

    # --- running -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads. Idempotent while running.

        Raises:
            Unavailable: the service was stopped; make a new one.
        """
        if self._stopping.is_set():
            raise Unavailable("this ingest service was stopped; make a new one")
        if self._threads:
            return
        self._threads = [
            threading.Thread(target=self._guard, args=(self._work, worker), name=f"ingest-worker-{number}", daemon=True)
            for number, worker in enumerate(self._workers)
        ]
        self._threads.append(
            threading.Thread(target=self._guard, args=(self._commit,), name="ingest-committer", daemon=True)
        )
        if self._upkeep is not None:
            self._threads.append(
                threading.Thread(target=self._guard, args=(self._keep_up,), name="ingest-upkeep", daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after what is under way; nothing is lost, the next start goes on from the committed offsets.

        Raises:
            The error that stopped the service, if one did.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._tally.failure is not None:
            raise self._tally.failure

    def drain(self, *, timeout_s: float | None = None) -> None:
        """Ingest everything up to the end that the log has now, then return; starts and stops threads where none run.

        Raises:
            Unavailable: it took longer than ``timeout_s``.
        """
        ends = self._log.ends(EVENTS_TOPIC)
        started_here = not self._threads
        self._draining.set()
        self.start()
        until = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
        try:
            while not self._stopping.wait(_DRAIN_POLL_S):
                committed = self._state().offsets
                if all(committed.get(partition, 0) >= end for partition, end in ends.items()):
                    break
                if until is not None and self._clock.monotonic_s() > until:
                    raise Unavailable(f"ingest did not reach the end of the log within {timeout_s} s")
        finally:
            self._draining.clear()
            if started_here or self._tally.failure is not None:
                self.stop()

    def run_once(self) -> int:
        """Let each worker make one contribution and commit them, all in the calling thread; return events settled.

        Faults and errors reach the caller: a simulation drives ingest so, step by step.
        """
        made: list[tuple[IngestWorker, Contribution]] = []
        for worker in self._workers:
            contribution = worker.step()
            if contribution is not None:
                made.append((worker, contribution))
        outcome = self._committer.commit([contribution for _, contribution in made])
        self._note_commit(len(outcome.accepted), len(outcome.rejected))
        refused = {id(one) for one in outcome.rejected}
        for worker, contribution in made:
            if id(contribution) in refused:
                worker.reset()
            else:
                worker.settle(contribution)
        return sum(one.events for one in outcome.accepted)

    def health(self) -> IngestHealth:
        """Return how ingest fares now; asks log and lake."""
        committed = self._state().offsets
        lag = self._log.pending(EVENTS_TOPIC, committed)
        with self._lock:
            tally = self._tally
            if tally.failure is not None:
                status = "failed"
            elif self._stopping.is_set():
                status = "stopped"
            elif not self._threads:
                status = "idle"
            else:
                status = "healing" if tally.healing else "running"
            return IngestHealth(
                status,
                committed,
                lag,
                tally.last_commit_us,
                tally.commits,
                tally.rejected,
                tally.retries,
                tally.last_error,
            )

    # --- threads -----------------------------------------------------------------------------------------------

    def _guard(self, run: Callable[..., None], *args: IngestWorker) -> None:
        try:
            run(*args)
        except BaseException as error:  # noqa: BLE001 - handed to stop(), which raises it
            with self._lock:
                self._tally.failure = self._tally.failure or error
                self._tally.last_error = str(error)
            self._stopping.set()

    def _work(self, worker: IngestWorker) -> None:
        """Make contributions until told to stop."""
        name = threading.current_thread().name
        waiting: deque[_Pending] = deque()
        backoff = _Backoff()
        must_reset = True
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            while waiting and waiting[0].settled.is_set():
                settled = waiting.popleft()
                if settled.accepted:
                    worker.settle(settled.contribution)
                else:
                    must_reset = True
            try:
                if must_reset:
                    if not self._all_settled(waiting):
                        return
                    waiting.clear()
                    worker.reset()
                    must_reset = False
                contribution = worker.step()
            except Transient as error:
                self._note_retry(name, error)
                must_reset |= not worker.can_resume
                self._stopping.wait(backoff.next_s())
                continue
            self._note_healed(name)
            backoff.reset()
            if contribution is None:
                self._stopping.wait(limits.ingest_poll_s)
                continue
            pending = _Pending(contribution)
            if not self._hand_over(pending, waiting):
                return
            self._pause(contribution, worker.rows_max, began_s)

    def _pause(self, made: Contribution, rows_max: int, began_s: float) -> None:
        """Let the log fill, unless there was much in it."""
        if not made.events:
            self._idle(made)
        elif made.events < rows_max // 2:
            self._rest(began_s)

    def _idle(self, seen: Contribution) -> None:
        """Rest after a contribution of heartbeats alone, until events come: time alone is no reason to commit often."""
        until_s = self._clock.monotonic_s() + limits.idle_commit_interval_s
        while self._clock.monotonic_s() < until_s and not self._draining.is_set():
            reached = {**self._log.ends(EVENTS_TOPIC), **{one: stop for one, (_, stop) in seen.ranges.items()}}
            if any(self._log.pending(EVENTS_TOPIC, reached).values()) or self._stopping.wait(limits.ingest_poll_s):
                return

    def _all_settled(self, waiting: Iterable[_Pending]) -> bool:
        """Wait until all are settled; False where the service stops first."""
        for pending in waiting:
            while not pending.settled.wait(limits.ingest_poll_s):
                if self._stopping.is_set():
                    return False
        return True

    def _hand_over(self, pending: _Pending, waiting: deque[_Pending]) -> bool:
        """Queue ``pending`` once fewer than the allowed number wait; False where the service stops first."""
        while len(waiting) >= limits.contributions_waiting_max and not waiting[0].settled.is_set():
            if not self._all_settled((waiting[0],)):
                return False
        waiting.append(pending)
        while not self._stopping.is_set():
            try:
                self._queue.put(pending, timeout=limits.ingest_poll_s)
            except Full:
                continue
            return True
        return False

    def _commit(self) -> None:
        """Commit what is queued, at most once an interval, until told to stop."""
        name = threading.current_thread().name
        backoff = _Backoff()
        batch: list[_Pending] = []
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            self._collect(batch)
            if not batch:
                continue
            try:
                outcome = self._committer.commit([pending.contribution for pending in batch])
            except Transient as error:
                self._note_retry(name, error)
                self._stopping.wait(backoff.next_s())
                continue
            backoff.reset()
            self._note_healed(name)
            accepted = {id(one) for one in outcome.accepted}
            self._note_commit(len(outcome.accepted), len(outcome.rejected))
            for pending in batch:
                pending.accepted = id(pending.contribution) in accepted
                pending.settled.set()
            batch = []
            self._rest(began_s)

    def _rest(self, began_s: float) -> None:
        """Wait for what is left of a commit interval that began at ``began_s``."""
        self._stopping.wait(max(0.0, self._commit_interval_s - (self._clock.monotonic_s() - began_s)))

    def _collect(self, batch: list[_Pending]) -> None:
        """Add to ``batch`` all that is queued; waits a poll for the first."""
        try:
            if not batch:
                batch.append(self._queue.get(timeout=limits.ingest_poll_s))
            while True:
                batch.append(self._queue.get_nowait())
        except Empty:
            return

    def _keep_up(self) -> None:
        assert self._upkeep is not None
        name = threading.current_thread().name
        while not self._stopping.wait(self._upkeep_interval_s):
            try:
                self._upkeep.run()
            except Transient as error:
                self._note_retry(name, error)
            else:
                self._note_healed(name)

    # --- what the threads report -------------------------------------------------------------------------------

    def _state(self) -> IngestState:
        snapshot = self._lake.current()
        return snapshot.state if snapshot else IngestState()

    def _note_commit(self, accepted: int, rejected: int) -> None:
        with self._lock:
            self._tally.rejected += rejected
            if accepted:
                self._tally.commits += 1
                self._tally.last_commit_us = self._clock.now_us()

    def _note_retry(self, name: str, error: GroundswellError) -> None:
        with self._lock:
            self._tally.retries += 1
            self._tally.last_error = f"{name}: {error}"
            self._tally.healing.add(name)

    def _note_healed(self, name: str) -> None:
        with self._lock:
            self._tally.healing.discard(name)


def shares(partitions: int, workers: int) -> list[tuple[int, ...]]:
    """Return the partitions of each worker: neighbours together, so that a file holds a narrow range of units.

    >>> shares(4, 2)
    [(0, 1), (2, 3)]
    """
    count = min(partitions, workers)
    bounds = [number * partitions // count for number in range(count + 1)]
    return [tuple(range(low, high)) for low, high in pairwise(bounds)]


class _Backoff:
    """Doubles from the least to the greatest wait."""

    def __init__(self) -> None:
        self._wait_s = limits.backoff_s_min

    def next_s(self) -> float:
        """Return how long to wait now; the next wait is twice as long."""
        wait_s = self._wait_s
        self._wait_s = min(wait_s * 2, limits.backoff_s_max)
        return wait_s

    def reset(self) -> None:
        """Start again from the least."""
        self._wait_s = limits.backoff_s_min


_DRAIN_POLL_S: Final = 0.02
