"""Damaged, missing, locked and full: each is said in words a person can act on, and nothing is lost by it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from groundswell.errors import Corrupt, GroundswellError, Unavailable
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, Entry, Record
from groundswell.log.driver import open_writer
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.testing.clock import ManualClock

ReadAll = Callable[..., dict[int, list[Record]]]
MakeEntry = Callable[..., Entry]

DAY_S = 24 * 3600
RULES = SegmentRules(age_s_max=DAY_S, retention_s=100 * DAY_S, dead_letter_retention_s=100 * DAY_S)


def open_log(folder: Path, clock: ManualClock, *, busy_s: float = 0.1) -> SqliteEventLog:
    return SqliteEventLog(folder, clock=clock, rules=RULES, busy_s=busy_s)


@pytest.fixture
def folder(tmp_path: Path, clock: ManualClock, entry: MakeEntry) -> Path:
    """Two sealed segments and an open one, ten records each, closed."""
    place = tmp_path / "log"
    log = open_log(place, clock)
    for _ in range(3):
        log.append([entry(b"needle" * 100, counts={"web": 1}) for _ in range(10)])
        clock.advance(DAY_S)
        log.maintain({})
    log.append([entry()])
    log.close()
    return place


def first(folder: Path) -> Path:
    return folder / "segment-00000001.sqlite"


def edit(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 0x01
    path.write_bytes(data)


# --- damage -------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_a_record_is_never_read_as_a_record(folder: Path, clock: ManualClock) -> None:
    flip(first(folder), first(folder).read_bytes().rindex(b"needle"))
    log = open_log(folder, clock)

    with pytest.raises(Corrupt, match=r"events/0 offset \d has checksum \d+, must be \d+; restore its segment"):
        log.read(EVENTS_TOPIC, 0, 0, bytes_max=100_000)

    (finding,) = log.verify()
    assert finding.segment == 1
    assert finding.file.endswith("segment-00000001.sqlite")
    assert len(log.read(EVENTS_TOPIC, 0, 10, bytes_max=100_000)) == 21, "the other segments are read on"


@pytest.mark.parametrize(
    "edits",
    [
        "UPDATE records_0 SET appended_at_us = appended_at_us + 1 WHERE offset = 3",
        "UPDATE records_0 SET counts = '{\"web\":2}' WHERE offset = 3",
        "UPDATE records_0 SET counts = 'x' WHERE offset = 3",
        "UPDATE records_0 SET origin = 1 WHERE offset = 3",
        "UPDATE records_0 SET origin = 99 WHERE offset = 3",
        "UPDATE records_0 SET payload = 'text' WHERE offset = 3",
        "UPDATE records_0 SET checksum = 'text' WHERE offset = 3",
        "UPDATE records_0 SET offset = 33 WHERE offset = 3",
        "DELETE FROM records_0 WHERE offset = 3",
    ],
)
def test_every_column_of_a_record_is_guarded(folder: Path, clock: ManualClock, edits: str) -> None:
    edit(first(folder), edits)
    log = open_log(folder, clock)

    with pytest.raises(Corrupt, match=r"events/0 (offset 3|offset 33|lacks offset 3)"):
        log.read(EVENTS_TOPIC, 0, 0, bytes_max=100_000)

    assert log.verify() != []


@pytest.mark.parametrize(
    ("edits", "what"),
    [
        ("DELETE FROM records_0 WHERE offset = 9", "events/0 ends at 9, must end at 10"),
        ("UPDATE tallies SET events = 11", "events by source do not add up to the segment's own tally"),
        ("UPDATE heads SET next = 9 WHERE stream = 0", "ranges differ from those it was sealed with"),
    ],
)
def test_verify_names_what_does_not_add_up(folder: Path, clock: ManualClock, edits: str, what: str) -> None:
    edit(first(folder), edits)

    findings = open_log(folder, clock).verify()

    assert what in [finding.what for finding in findings]


def test_verify_knows_a_segment_that_was_swapped_for_another_true_one(
    folder: Path, tmp_path: Path, clock: ManualClock, entry: MakeEntry
) -> None:
    other = open_log(tmp_path / "other", clock)
    other.append([entry(b"forged" * 100, counts={"web": 1}) for _ in range(10)])
    clock.advance(DAY_S)
    other.maintain({})
    other.close()
    shutil.copy(first(tmp_path / "other"), first(folder))

    findings = open_log(folder, clock).verify()

    assert [finding.what for finding in findings] == ["records of events do not match the digest they were sealed with"]


def test_verify_knows_a_summary_that_was_changed(folder: Path, clock: ManualClock) -> None:
    edit(folder / "manifest.sqlite", 'UPDATE segments SET sealed = replace(sealed, \'"digest":"\', \'"digest":"0\')')

    findings = open_log(folder, clock).verify()

    assert {finding.what for finding in findings} == {"the chain of digests is broken here"}


def test_an_untouched_log_has_no_findings(folder: Path, clock: ManualClock) -> None:
    assert open_log(folder, clock).verify() == []


@pytest.mark.parametrize("name", ["segment-00000001.sqlite", "segment-00000004.sqlite", "manifest.sqlite"])
@pytest.mark.parametrize("damage", ["garbage", "empty", "cut short", "missing"])
def test_a_file_that_is_no_database_is_named_and_what_to_do(
    folder: Path, clock: ManualClock, entry: MakeEntry, name: str, damage: str
) -> None:
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut short":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.write_bytes(b"garbage" * 1000 if damage == "garbage" else b"")

    def use() -> None:
        log = open_log(folder, clock)
        log.read(EVENTS_TOPIC, 0, 0, bytes_max=100_000)
        log.append([entry()])

    with pytest.raises(Corrupt, match=rf"{name}.*restore|{name} .*is missing beside segments"):
        use()


def test_damage_names_a_step_that_mends_it(folder: Path, clock: ManualClock) -> None:
    first(folder).write_bytes(b"garbage" * 1000)

    with pytest.raises(Corrupt, match="groundswell restore") as told:
        open_log(folder, clock).read(EVENTS_TOPIC, 0, 0, bytes_max=100_000)

    assert "audit" not in str(told.value)


def test_a_segment_missing_between_others_is_noticed_at_open(folder: Path, clock: ManualClock) -> None:
    log = open_log(folder, clock)
    log.close()
    (folder / "segment-00000005.sqlite").write_bytes((folder / "segment-00000004.sqlite").read_bytes())
    (folder / "segment-00000004.sqlite").unlink()

    with pytest.raises(Corrupt, match=r"segment-00000004.sqlite is missing"):
        open_log(folder, clock)


def test_a_manifest_of_a_newer_release_is_left_alone(folder: Path, clock: ManualClock) -> None:
    edit(folder / "manifest.sqlite", "PRAGMA user_version=2")

    with pytest.raises(Corrupt, match=r"manifest.sqlite has format 2, must be 1; use the release that wrote it"):
        open_log(folder, clock)


def test_a_folder_with_somebody_elses_database_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    edit(tmp_path / "manifest.sqlite", "CREATE TABLE theirs (x)")

    with pytest.raises(Corrupt, match="is no manifest of a log; name another folder"):
        open_log(tmp_path, clock)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "log").write_text("mine")

    with pytest.raises(GroundswellError, match="log"):
        open_log(tmp_path / "log", clock)


def test_a_sealed_file_never_changes_again(folder: Path, clock: ManualClock, entry: MakeEntry) -> None:
    def state() -> dict[str, str]:
        sealed = [folder / f"segment-0000000{number}.sqlite" for number in (1, 2, 3)]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sealed}

    before = state()
    log = open_log(folder, clock)
    for _ in range(3):
        log.append([entry()])
        log.read(EVENTS_TOPIC, 0, 0, bytes_max=100_000)
        clock.advance(DAY_S)
        log.maintain({})
    log.verify()
    log.close()

    assert state() == before


# --- locked -------------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(folder / "segment-00000004.sqlite", isolation_level=None)
    yield connection
    connection.close()


def test_a_segment_locked_by_another_program_takes_nothing_and_then_goes_on(
    folder: Path, clock: ManualClock, entry: MakeEntry, foreign: sqlite3.Connection
) -> None:
    log = open_log(folder, clock)
    foreign.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match=r"segment-00000004.sqlite is locked by another program; close it, or retry"):
        log.append([entry(b"during")])

    foreign.execute("ROLLBACK")
    assert log.append([entry(b"after")]) == [(0, 31)]
    assert log.verify() == []


def test_a_manifest_locked_by_another_program_stops_upkeep_alone(
    folder: Path, clock: ManualClock, entry: MakeEntry
) -> None:
    log = open_log(folder, clock)
    clock.advance(DAY_S)
    foreign = sqlite3.connect(folder / "manifest.sqlite", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match=r"manifest.sqlite is locked"):
        log.maintain({})
    assert log.append([entry()]) == [(0, 31)]

    foreign.execute("ROLLBACK")
    foreign.close()
    log.maintain({})
    assert len(log.segments()) == 4
    assert log.verify() == []


def test_a_reader_that_holds_on_delays_sealing_and_nothing_else(
    folder: Path, clock: ManualClock, entry: MakeEntry
) -> None:
    log = open_log(folder, clock)
    foreign = sqlite3.connect(folder / "segment-00000004.sqlite", isolation_level=None)
    log.append([entry()])
    foreign.execute("BEGIN")
    foreign.execute("SELECT * FROM heads").fetchall()
    log.append([entry()])
    clock.advance(DAY_S)

    log.maintain({})

    assert len(log.segments()) == 3
    assert log.append([entry()]) == [(0, 33)]
    foreign.execute("COMMIT")
    foreign.close()
    log.maintain({})
    assert len(log.segments()) == 4
    assert log.verify() == []


# --- full ---------------------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
from pathlib import Path
from groundswell.errors import Unavailable
from groundswell.log.contract import Entry
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = SqliteEventLog(Path(sys.argv[1]), clock=SystemClock())
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))  # no file may grow past this
acked = failed = 0
for number in range(60):
    try:
        log.append([Entry("events", part, b"%d" % number + b"x" * 50_000, {"web": 1}) for part in (0, 1)])
        acked += 1
    except Unavailable as error:
        failed += 1
        message = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
(place,) = {offset for _, offset in log.append([Entry("events", part, b"after", {"web": 1}) for part in (0, 1)])}
assert place == acked, (place, acked)
assert log.tally("events") == {("web", "live"): 2 * acked + 2}
assert log.verify() == []
log.close()
sys.stdout.write(f"{acked} {failed} {message}")
"""


def test_a_full_disk_takes_nothing_and_then_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "log")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    acked, failed, message = done.stdout.split(" ", 2)
    assert int(acked) > 5
    assert int(failed) > 5
    assert "segment-00000001.sqlite" in message
    assert "retry" in message


def test_a_full_disk_is_called_full(tmp_path: Path, clock: ManualClock, entry: MakeEntry) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        log = open_log(small / "log", clock)
        acked: list[int] = []

        def fill() -> None:
            for number in range(100):
                log.append([entry(b"x" * 100_000), entry(topic=DEAD_TOPIC)])
                acked.append(number)

        with pytest.raises(Unavailable, match=r"the disk is full; free space, then retry"):
            fill()
        assert log.ends(EVENTS_TOPIC)[0] == log.ends(DEAD_TOPIC)[0] == len(acked)
        assert log.verify() == []
        log.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(Unavailable, match=r"/proc/groundswell: .*; free or repair the disk, then retry"):
        open_log(Path("/proc/groundswell"), clock)


def test_a_commit_is_synced(folder: Path) -> None:
    connection = open_writer(first(folder))

    modes = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    connection.close()
    assert modes == ["wal", 2], "2 is FULL: every commit is synced"
