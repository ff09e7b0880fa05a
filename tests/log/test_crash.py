"""A process may die at any step, and power may fail: what was acknowledged stays, all else is whole or not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from groundswell.log import steps
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, Entry, Record
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.model.faults import Faults
from groundswell.testing.clock import ManualClock
from groundswell.testing.disk import ForgetfulFiles

ReadAll = Callable[..., dict[int, list[Record]]]
MakeEntry = Callable[..., Entry]

DAY_S = 24 * 3600
RULES = SegmentRules(age_s_max=DAY_S, retention_s=3 * DAY_S, dead_letter_retention_s=6 * DAY_S)
ALL_STEPS = sorted(
    {*steps.APPEND_STEPS, *steps.SEGMENT_STEPS, *steps.CREATE_STEPS, *steps.SEAL_STEPS, *steps.DROP_STEPS}
)
ONCE = {steps.CHECKPOINTED, steps.MANIFEST_WRITTEN, steps.MANIFEST_NAMED, steps.MANIFEST_CREATED}
MOMENTS = [(step, nth) for step in ALL_STEPS for nth in ((1,) if step in ONCE else (1, 4))]


class History:
    """Eight days of a log: two records a day that belong together, then upkeep. Remembers what was acknowledged."""

    def __init__(self, folder: Path, faults: Faults, files: ForgetfulFiles | None = None, *, heavy: bool) -> None:
        self.heavy = heavy
        self.folder = folder
        self.faults = faults
        self.files = files
        self.clock = ManualClock()
        self.day = 0
        self.acked = 0

    def open(self) -> SqliteEventLog:
        return SqliteEventLog(
            self.folder, clock=self.clock, partitions=2, rules=RULES, faults=self.faults, files=self.files
        )

    def live(self) -> None:
        log = self.open()
        for self.day in range(8):
            body = b"%d " % self.day * (4_500_000 if self.heavy and self.day == 5 else 3)  # 9 MB make a checkpoint due
            log.append(
                [
                    Entry(EVENTS_TOPIC, self.day % 2, body, {"web": 1}),
                    Entry(DEAD_TOPIC, 0, b"%d" % self.day, {"web": 1}),
                ]
            )
            self.acked = self.day + 1
            self.clock.advance(DAY_S)
            log.maintain({})
        log.close()


def check(folder: Path, clock: ManualClock, acked: int, read_all: ReadAll) -> SqliteEventLog:
    """Open what is left and hold it to the contract; return it."""
    log = SqliteEventLog(folder, clock=clock, partitions=2, rules=RULES)
    assert log.verify() == []
    events = [int(r.payload.split(maxsplit=1)[0]) for records in read_all(log).values() for r in records]
    letters = [int(r.payload) for r in read_all(log, DEAD_TOPIC)[0]]
    appended = log.tally(EVENTS_TOPIC).get(("web", "live"), 0)
    assert appended in (acked, acked + 1), "what was acknowledged, and perhaps what was under way"
    assert log.tally(DEAD_TOPIC) == log.tally(EVENTS_TOPIC), "both of an append, or none"
    assert sorted(events) == list(range(appended - len(events), appended))
    assert letters == list(range(appended - len(letters), appended))
    assert sum(log.ends(EVENTS_TOPIC).values()) == appended
    return log


def reached(folder: Path, kill_at: Callable[..., Faults]) -> list[str]:
    faults = kill_at()
    History(folder, faults, heavy=True).live()
    return faults.seen  # type: ignore[attr-defined]


def test_a_history_passes_every_step(tmp_path: Path, kill_at: Callable[..., Faults]) -> None:
    assert sorted(set(reached(tmp_path / "log", kill_at))) == ALL_STEPS


@pytest.mark.parametrize(("step", "nth"), MOMENTS)
def test_a_process_that_dies_at_a_step_leaves_a_log_that_goes_on(
    tmp_path: Path,
    kill_at: Callable[..., Faults],
    killed: type[BaseException],
    read_all: ReadAll,
    step: str,
    nth: int,
) -> None:
    history = History(tmp_path / "log", kill_at(step, nth), heavy=step == steps.CHECKPOINTED)
    with pytest.raises(killed):
        history.live()
    shutil.copytree(history.folder, tmp_path / "copy")  # the dead process's handles have no say in the copy

    log = check(tmp_path / "copy", history.clock, history.acked, read_all)

    before = log.ends(EVENTS_TOPIC)[0]
    assert log.append([Entry(EVENTS_TOPIC, 0, b"after", {"web": 1})]) == [(0, before)]
    log.maintain({})
    assert log.verify() == []
    log.close()
    assert not list((tmp_path / "copy").glob("*.new*"))


@pytest.mark.parametrize(("step", "nth"), MOMENTS)
def test_power_that_fails_at_a_step_takes_nothing_acknowledged(
    tmp_path: Path,
    kill_at: Callable[..., Faults],
    killed: type[BaseException],
    read_all: ReadAll,
    step: str,
    nth: int,
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    files = ForgetfulFiles(folder)
    strike = kill_at(step, nth)

    class Power:
        """Follows SQLite: at a commit, a checkpoint and a row of the manifest it has synced what it wrote."""

        def reach(self, step: str) -> None:
            if step in (steps.COMMITTED, steps.CHECKPOINTED, steps.SEAL_CHECKPOINTED, steps.SEALED, steps.DROP_DECIDED):
                files.driver_synced()
            strike.reach(step)

    history = History(folder, Power(), files, heavy=step == steps.CHECKPOINTED)
    with pytest.raises(killed):
        history.live()
    files.crash(tmp_path / "left")

    check(tmp_path / "left", history.clock, history.acked, read_all).close()


APPENDER = """
import sys
from pathlib import Path
from groundswell.log.contract import Entry
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock

log = SqliteEventLog(Path(sys.argv[1]), clock=SystemClock(), partitions=2, rules=SegmentRules(bytes_max=600_000))
number = int(sys.argv[2])
while True:
    body = b"%d:" % number + b"x" * (number * 977 % 5000)
    log.append([Entry("events", 0, body, {"web": 1}), Entry("events", 1, body, {"web": 1})])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
    if number % 40 == 0:
        log.maintain({})
"""


def test_sigkill_takes_nothing_acknowledged_and_leaves_nothing_half(tmp_path: Path, read_all: ReadAll) -> None:
    rng = Random(20260105)
    folder = tmp_path / "log"
    acked = -1
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(folder), str(acked + 1)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        enough = acked + rng.randint(20, 150)
        for line in process.stdout:
            acked = int(line)
            if acked >= enough:
                os.kill(process.pid, signal.SIGKILL)
                break
        rest = process.stdout.read().split()  # acknowledged before the signal struck
        acked = int(rest[-1]) if rest else acked
        process.stdout.close()
        process.wait()

        log = SqliteEventLog(folder, clock=SystemClock())
        assert log.verify() == []
        found = read_all(log)
        assert [r.payload for r in found[0]] == [r.payload for r in found[1]]
        numbers = [int(r.payload.split(b":")[0]) for r in found[0]]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) in (acked + 1, acked + 2)
        assert all(len(r.payload.split(b":")[1]) == n * 977 % 5000 for n, r in enumerate(found[0]))
        assert log.tally(EVENTS_TOPIC) == {("web", "live"): 2 * len(numbers)}
        acked = len(numbers) - 1
        log.close()
    assert len(SqliteEventLog(folder, clock=SystemClock(), read_only=True).segments()) >= 2
