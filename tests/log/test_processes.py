"""Several processes on one log: appenders take turns, readers see what is durable."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from groundswell.errors import InvalidInput, NotFound, Unavailable
from groundswell.log.contract import EVENTS_TOPIC, Entry, Record
from groundswell.log.files import AppenderLock
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock

ReadAll = Callable[..., dict[int, list[Record]]]
MakeEntry = Callable[..., Entry]

APPENDER = """
import sys, threading
from pathlib import Path
from groundswell.log.contract import Entry
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock

folder, name, threads, appends = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = SqliteEventLog(folder, clock=SystemClock(), rules=SegmentRules(bytes_max=400_000))

def work(thread):
    for number in range(appends):
        label = f"{name}/{thread}/{number}/".encode()
        log.append([Entry("events", 0, label + b"x" * 1500, {name: 1}), Entry("events", 1, label, {name: 1})])
        if number % 25 == 24:
            log.maintain({})

workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
log.close()
"""


def test_processes_and_threads_that_append_together_lose_and_double_nothing(tmp_path: Path, read_all: ReadAll) -> None:
    folder = tmp_path / "log"
    names = ["one", "two", "three"]
    log = SqliteEventLog(folder, clock=SystemClock())
    seen: list[Record] = []
    done = threading.Event()

    def follow() -> None:
        while not done.is_set() or len(seen) < log.ends(EVENTS_TOPIC)[0]:
            seen.extend(log.read(EVENTS_TOPIC, 0, len(seen), bytes_max=100_000))

    reader = threading.Thread(target=follow)
    reader.start()
    processes = [subprocess.Popen([sys.executable, "-c", APPENDER, str(folder), name, "3", "50"]) for name in names]
    codes = [process.wait() for process in processes]
    done.set()
    reader.join()

    found = read_all(log)
    assert codes == [0, 0, 0]
    assert seen == found[0]
    assert [r.payload.rstrip(b"x") for r in found[0]] == [r.payload for r in found[1]]
    expected = {f"{name}/{thread}/{number}/".encode() for name in names for thread in range(3) for number in range(50)}
    assert {r.payload for r in found[1]} == expected
    assert len(found[1]) == len(expected)
    assert log.tally(EVENTS_TOPIC) == {(name, "live"): 300 for name in names}
    assert len(log.segments()) >= 1
    assert log.verify() == []
    log.close()


def test_a_reader_follows_while_segments_roll_and_seal(tmp_path: Path, entry: MakeEntry) -> None:
    writer = SqliteEventLog(tmp_path, clock=SystemClock(), rules=SegmentRules(bytes_max=300_000))
    reader = SqliteEventLog(tmp_path, clock=SystemClock(), read_only=True)
    found: list[bytes] = []

    for number in range(20):
        writer.append([entry(b"%d " % number + b"x" * 50_000)])
        writer.maintain({})
        found.extend(r.payload.split()[0] for r in reader.read(EVENTS_TOPIC, 0, len(found), bytes_max=1))

    assert found == [b"%d" % number for number in range(20)]
    assert len(reader.segments()) >= 3
    assert reader.tally(EVENTS_TOPIC) == writer.tally(EVENTS_TOPIC) == {("web", "live"): 20}


def test_a_read_only_log_takes_nothing(tmp_path: Path, entry: MakeEntry) -> None:
    SqliteEventLog(tmp_path, clock=SystemClock()).close()
    log = SqliteEventLog(tmp_path, clock=SystemClock(), read_only=True)

    with pytest.raises(InvalidInput, match="read_only == True, must be False to append or maintain"):
        log.append([entry()])
    with pytest.raises(InvalidInput, match="read_only == True"):
        log.maintain({})


def test_there_is_nothing_to_read_where_no_log_is(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no log"):
        SqliteEventLog(tmp_path / "nowhere", clock=SystemClock(), read_only=True)
    assert not (tmp_path / "nowhere").exists()


def test_partitions_are_fixed_when_a_log_is_created(tmp_path: Path) -> None:
    SqliteEventLog(tmp_path, clock=SystemClock(), partitions=3).close()

    again = SqliteEventLog(tmp_path, clock=SystemClock())

    assert again.partitions(EVENTS_TOPIC) == 3
    with pytest.raises(InvalidInput, match=r"partitions == 4, must be 3: it is fixed when a log is created"):
        SqliteEventLog(tmp_path, clock=SystemClock(), partitions=4)


def test_an_append_gives_up_when_another_process_hangs_with_the_lock(tmp_path: Path, entry: MakeEntry) -> None:
    log = SqliteEventLog(tmp_path, clock=SystemClock(), busy_s=0.05)
    other = AppenderLock(tmp_path / "appender.lock", wait_s=1)

    with other.hold(), pytest.raises(Unavailable, match=r"was held by another process for 0.05 s"):
        log.append([entry()])

    assert log.append([entry()]) == [(0, 0)]
    other.close()


def test_waiting_appenders_take_turns(tmp_path: Path) -> None:
    locks = [AppenderLock(tmp_path / "lock", wait_s=10) for _ in range(3)]
    order: list[int] = []
    start = threading.Barrier(3)

    def work(me: int) -> None:
        start.wait()
        for _ in range(40):
            with locks[me].hold():
                order.append(me)
                SystemClock().sleep(0.0005)

    workers = [threading.Thread(target=work, args=(me,)) for me in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(order) == [0] * 40 + [1] * 40 + [2] * 40
    streaks = max(len(streak) for me in "012" for streak in "".join(map(str, order[:90])).split(me) if streak)
    assert streaks <= 12, "nobody waits while another goes again and again"


def test_a_fork_must_open_the_log_itself(tmp_path: Path, entry: MakeEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SqliteEventLog(tmp_path, clock=SystemClock())
    monkeypatch.setattr("groundswell.log.sqlite.os.getpid", lambda: -1)

    with pytest.raises(Unavailable, match="opened before a fork; open it in the new process"):
        log.append([entry()])
