"""A process killed at any step loses nothing and doubles nothing, on doubles and on the real thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundswell.errors import CommitConflict, Transient, Unavailable
from groundswell.ingest import steps
from groundswell.ingest.audit import audit
from groundswell.ingest.committer import Committer
from groundswell.ingest.dead_letters import DeadLetters
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.service import IngestService
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import Change, IngestState, Snapshot
from groundswell.lake.iceberg import IcebergLake
from groundswell.lake.steps import LAKE_STEPS
from groundswell.log.sqlite import SqliteEventLog
from groundswell.testing.lake import MemoryLake
from groundswell.testing.log import MemoryEventLog

Make = Callable[..., dict[str, Any]]
FINGERPRINT_STEPS = ("fingerprints.flush", "fingerprints.flushed")
STEPS = (*steps.COMMIT_STEPS, *FINGERPRINT_STEPS)


class Killed(BaseException):
    """The process is gone; no code may catch it."""


class KillAt:
    """Kills at the nth time that a step is reached, once."""

    def __init__(self, step: str, nth: int = 1) -> None:
        self._step = step
        self._left = nth
        self.killed = False

    def reach(self, step: str) -> None:
        if step == self._step and not self.killed:
            self._left -= 1
            if self._left == 0:
                self.killed = True
                raise Killed(step)


def start(bench: Any, folder: Path, faults: Any) -> IngestService:
    """Start ingest as a new process would: nothing is left but what is durable."""

    def fingerprints(partition: int, committed: int) -> PartitionFingerprints:
        return PartitionFingerprints.open(
            folder / "fingerprints", partition, committed, begins=0, hot_max=24, faults=faults
        )

    def worker(partitions: tuple[int, ...]) -> IngestWorker:
        return IngestWorker(
            bench.log, bench.lake, partitions, fingerprints, bench.definitions.__getitem__, faults=faults, rows_max=40
        )

    committer = Committer(bench.lake, faults=faults)
    return IngestService(bench.log, bench.lake, worker, committer, workers=2, commit_interval_s=0.02)


def run(service: IngestService, rounds: int = 50) -> None:
    """Ingest to the end of the log."""
    for _ in range(rounds):
        if service.run_once() == 0:
            return


def send(bench: Any, make: Make) -> set[str]:
    """Send events with retries, dead letters and refusals; return the ids that belong in the lake."""
    for start_ in range(0, 200, 20):
        bench.send([*(make(number) for number in range(start_, start_ + 20)), make(1000 + start_, "like"), b"{"])
        bench.send([make(number) for number in range(start_, start_ + 5)])
    return {f"e{number}" for number in range(200)}


def check(bench: Any, expected: set[str]) -> None:
    assert bench.ids() == dict.fromkeys(expected, 1)
    assert DeadLetters(bench.log, bench.lake).count() == 10
    report = audit(bench.log, bench.lake)
    assert report.ok, report.lines()


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_changes_nothing(bench: Any, make_event: Make, tmp_path: Path, step: str, nth: int) -> None:
    expected = send(bench, make_event)
    faults = KillAt(step, nth)
    with pytest.raises(Killed):
        run(start(bench, tmp_path, faults))

    run(start(bench, tmp_path, faults))

    assert faults.killed
    check(bench, expected)


def test_a_process_that_is_killed_at_every_step_in_turn_finishes(bench: Any, make_event: Make, tmp_path: Path) -> None:
    expected = send(bench, make_event)
    for step in STEPS:
        faults = KillAt(step, 2)
        try:
            run(start(bench, tmp_path, faults))
        except Killed:
            continue

    run(start(bench, tmp_path, KillAt("none")))

    check(bench, expected)


@pytest.mark.parametrize("step", [*LAKE_STEPS, steps.HAND_OVER, steps.COMMITTED])
def test_a_kill_changes_nothing_on_the_real_thing(
    bench: Any, make_event: Make, clock: Any, tmp_path: Path, step: str
) -> None:
    faults = KillAt(step, 2)
    bench.log = SqliteEventLog(tmp_path / "log", clock=clock)
    bench.lake = IcebergLake(tmp_path / "lake", clock=clock, faults=faults)
    expected = send(bench, make_event)
    with pytest.raises(Killed):
        run(start(bench, tmp_path, faults))
    bench.lake.close()
    bench.lake = IcebergLake(tmp_path / "lake", clock=clock)

    run(start(bench, tmp_path, faults))

    assert faults.killed
    check(bench, expected)
    bench.lake.close()
    bench.log.close()


# --- two at once, and answers that get lost ----------------------------------------------------------------------


def test_two_ingests_over_one_log_settle_every_event_once(bench: Any, make_event: Make, tmp_path: Path) -> None:
    expected = send(bench, make_event)
    one = start(bench, tmp_path / "one", KillAt("none"))
    two = start(bench, tmp_path / "two", KillAt("none"))

    for _ in range(40):
        one.run_once()
        two.run_once()

    check(bench, expected)
    assert one.health().rejected + two.health().rejected > 0


def test_a_rejected_contribution_falls_back_to_the_committed_offsets(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(10)])
    slow, fast = bench.service(), bench.service()
    (worker,) = slow._workers
    late = worker.step()
    fast.run_once()

    outcome = Committer(bench.lake).commit([late])
    worker.reset()
    bench.send([make_event(number) for number in range(5, 15)])
    slow.run_once()

    assert outcome.rejected == (late,)
    assert bench.ids() == {f"e{number}": 1 for number in range(15)}
    assert bench.state().ledger["app"].deduplicated == 5


def test_contributions_of_one_worker_chain_in_one_commit(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(10)])
    worker = bench.worker()
    first = worker.step()
    bench.send([make_event(number) for number in range(8, 20)])
    second = worker.step()

    outcome = Committer(bench.lake).commit([first, second])

    assert outcome.accepted == (first, second)
    assert len(bench.lake.snapshots()) == 1
    assert bench.ids() == {f"e{number}": 1 for number in range(20)}


def test_contributions_in_the_wrong_order_are_rejected(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(10)])
    worker = bench.worker()
    first = worker.step()
    bench.send([make_event(number) for number in range(10, 20)])
    second = worker.step()

    outcome = Committer(bench.lake).commit([second, first])

    assert outcome.accepted == (first,)
    assert outcome.rejected == (second,)


class LostAnswer(MemoryLake):
    """Says ``Unavailable`` once; the commit happened, or did not."""

    def __init__(self, *, lands: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._lands = lands
        self._done = False

    def commit(self, decide: Callable[[IngestState], Change | None]) -> Snapshot | None:
        if self._done:
            return super().commit(decide)
        self._done = True
        if self._lands:
            super().commit(decide)
        raise Unavailable("the answer was lost")


@pytest.mark.parametrize("lands", [True, False])
def test_an_unclear_answer_is_settled_by_looking(bench: Any, make_event: Make, clock: Any, *, lands: bool) -> None:
    bench.lake = LostAnswer(lands=lands, clock=clock)
    bench.send([make_event(number) for number in range(10)])
    contribution = bench.worker().step()
    committer = Committer(bench.lake)

    try:
        outcome = committer.commit([contribution])
    except CommitConflict:
        assert not lands
        outcome = committer.commit([contribution])

    assert outcome.accepted == (contribution,)
    assert bench.ids() == {f"e{number}": 1 for number in range(10)}
    assert audit(bench.log, bench.lake).ok


# --- the service heals -------------------------------------------------------------------------------------------


class Flaky:
    """Raises ``Unavailable`` at the first ``times`` times that any of ``steps`` is reached."""

    def __init__(self, *at: str, times: int = 2) -> None:
        self._left = dict.fromkeys(at, times)

    def reach(self, step: str) -> None:
        if self._left.get(step, 0) > 0:
            self._left[step] -= 1
            raise Unavailable(f"{step} is away")


@pytest.mark.parametrize("step", steps.COMMIT_STEPS)
def test_the_service_heals_from_transient_errors(bench: Any, make_event: Make, tmp_path: Path, step: str) -> None:
    expected = send(bench, make_event)
    service = start(bench, tmp_path, Flaky(step))

    service.drain(timeout_s=30)

    check(bench, expected)
    assert service.health().retries >= 2
    assert service.health().status == "stopped"
    assert step in (service.health().last_error or "")


class Broken:
    def __init__(self, at: str) -> None:
        self._at = at

    def reach(self, step: str) -> None:
        if step == self._at:
            raise MemoryError("no more")


@pytest.mark.parametrize("step", [steps.READ, steps.COMMIT])
def test_the_service_stops_loudly_on_what_does_not_heal(
    bench: Any, make_event: Make, tmp_path: Path, step: str
) -> None:
    send(bench, make_event)
    service = start(bench, tmp_path, Broken(step))

    with pytest.raises(MemoryError, match="no more"):
        service.drain(timeout_s=30)

    assert service.health().status == "failed"
    assert service.health().last_error == "no more"
    assert sum(service.health().lag.values()) == bench.sent["app"]


def test_a_drain_that_takes_too_long_says_so(bench: Any, make_event: Make, tmp_path: Path) -> None:
    send(bench, make_event)
    service = start(bench, tmp_path, Flaky(steps.READ, times=1_000_000))

    with pytest.raises(Transient, match="did not reach the end of the log"):
        service.drain(timeout_s=-1)


def test_a_log_without_partitions_enough_uses_fewer_workers(clock: Any, bench: Any, make_event: Make) -> None:
    bench.log = MemoryEventLog(clock=clock, partitions=1)
    bench.send([make_event(number) for number in range(10)])

    bench.service(workers=8).drain(timeout_s=30)

    assert len(bench.ids()) == 10
