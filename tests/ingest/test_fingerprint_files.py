"""Run files under damage, full disks, kills and power cuts: what is lost is read again from the log."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from groundswell.errors import Corrupt, Unavailable
from groundswell.ingest.fingerprint_runs import Run
from groundswell.ingest.fingerprints import DUPLICATE, NEW, PartitionFingerprints
from groundswell.log.files import DiskFiles
from groundswell.testing.disk import ForgetfulFiles

Int64s = npt.NDArray[np.int64]
SECOND_US = 1_000_000
BATCH = 10
STEPS = ["flush", "flushed", "merged", "named", "removed"]


class Killed(BaseException):
    """The process ends here."""


class KillAt:
    def __init__(self, step: str, nth: int) -> None:
        self.step = f"fingerprints.{step}"
        self.nth = nth

    def reach(self, step: str) -> None:
        if step == self.step:
            self.nth -= 1
            if self.nth == 0:
                raise Killed(step)


def hashes(ids: Int64s) -> tuple[Int64s, Int64s]:
    words = ids.astype(np.uint64)
    first = words * np.uint64(0x9E3779B97F4A7C15)
    return first.view(np.int64), (first ^ (words + np.uint64(0xD1B54A32D192ED03))).view(np.int64)


def admit(index: PartitionFingerprints, ids: Int64s) -> list[int]:
    return index.admit(*hashes(ids), ids).tolist()


def batch(offset: int) -> Int64s:
    """Return what the log holds at ``offset``: new identities alone."""
    return np.arange(offset * BATCH, (offset + 1) * BATCH, dtype=np.int64)


def live(index: PartitionFingerprints, start: int, stop: int) -> None:
    for offset in range(start, stop):
        assert admit(index, batch(offset)) == [NEW] * BATCH
        index.advance(offset + 1, SECOND_US)
        index.settle(offset + 1)


def open_index(folder: Path, committed: int = 0, **more: object) -> PartitionFingerprints:
    return PartitionFingerprints.open(folder, 0, committed, hot_max=120, **more)  # type: ignore[arg-type]


def reopen(folder: Path, committed: int) -> PartitionFingerprints:
    """Open as a worker does: what no run holds is admitted again; then the whole truth must be known."""
    index = open_index(folder, committed)
    assert index.covered <= committed
    for offset in range(index.covered, committed):
        admit(index, batch(offset))
        index.advance(offset + 1, SECOND_US)
    known = np.arange(committed * BATCH, dtype=np.int64)
    assert admit(index, known) == [DUPLICATE] * len(known)
    assert admit(index, batch(committed)) == [NEW] * BATCH
    assert index.verify() == []
    return index


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Five runs of ten identities, offsets 0 to 5."""
    live(open_index(tmp_path), 0, 5)
    return sorted(tmp_path.glob("*.run"))


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 0x10
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "magic": lambda path: flip(path, 0),
    "format": lambda path: flip(path, 8),
    "header": lambda path: flip(path, 30),
    "filter": lambda path: flip(path, 4096 + 8),
    "directory": lambda path: flip(path, 8192),
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 4096),
    "only a header": lambda path: os.truncate(path, 100),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(30_000)),
    "missing": lambda path: path.unlink(),
    "another run": lambda path: shutil.copy(path.with_name("0000-0000000000000000-0000000000000001.run"), path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_noticed_at_open_and_read_again_from_the_log(
    tmp_path: Path, runs: list[Path], damage: str
) -> None:
    DAMAGE[damage](runs[2])

    assert open_index(tmp_path, 5).covered == 2
    reopen(tmp_path, 5)


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name != "missing"])
def test_a_damaged_run_that_the_log_cannot_replace_is_said_and_nothing_is_removed(
    tmp_path: Path, runs: list[Path], damage: str
) -> None:
    DAMAGE[damage](runs[2])

    with pytest.raises(Corrupt, match=r"runs hold only what is below 2; restore .* from a backup, or remove it"):
        open_index(tmp_path, 5, begins=4)

    assert sorted(tmp_path.glob("*.run")) == runs


def test_a_damaged_body_is_found_by_verify(tmp_path: Path, runs: list[Path]) -> None:
    flip(runs[3], runs[3].stat().st_size - 8192 + 16)

    index = open_index(tmp_path, 5)

    assert index.covered == 5
    assert index.verify() == [runs[3]]


def test_a_damaged_body_is_never_merged_but_set_aside(tmp_path: Path, runs: list[Path]) -> None:
    flip(runs[3], runs[3].stat().st_size - 8192 + 16)
    index = open_index(tmp_path, 5)

    with pytest.raises(Unavailable, match=r"0003-.*its entries do not match their checksums.*open the index anew"):
        live(index, 5, 40)

    assert not runs[3].exists()
    reopen(tmp_path, 5)


def test_a_merged_run_that_is_damaged_gives_way_to_its_inputs(tmp_path: Path) -> None:
    index = open_index(tmp_path, faults=KillAt("named", 1))
    with pytest.raises(Killed):
        live(index, 0, 40)
    merged = max(tmp_path.glob("*.run"), key=lambda path: path.stat().st_size)
    stop = int(merged.stem.split("-")[2])

    DAMAGE["header"](merged)

    assert open_index(tmp_path, stop).covered == stop
    reopen(tmp_path, stop)


def test_files_of_others_are_left_alone(tmp_path: Path, runs: list[Path]) -> None:
    others = [tmp_path / name for name in ("notes.txt", "0001-0000000000000000-0000000000000009.run", "0001-x.new")]
    for path in others:
        path.write_text("not mine")

    open_index(tmp_path, 3)

    assert all(path.exists() for path in others)
    assert len(runs) - len(list(tmp_path.glob("0000-*.run"))) == 2


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_worker_that_dies_at_a_step_goes_on_where_it_was(tmp_path: Path, step: str, nth: int) -> None:
    index = open_index(tmp_path / "index", faults=KillAt(step, nth))
    with pytest.raises(Killed):
        live(index, 0, 60)
    reached = max(int(path.stem.split("-")[2]) for path in [*(tmp_path / "index").glob("*.run"), Path("0-0-0.run")])

    for committed in {0, reached // 2, max(reached - 1, 0), reached}:
        shutil.copytree(tmp_path / "index", tmp_path / f"copy-{committed}")
        reopen(tmp_path / f"copy-{committed}", committed)
        assert not list((tmp_path / f"copy-{committed}").glob("*.new"))


def test_power_may_fail_after_any_sync(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    moments: list[tuple[Path, int]] = []
    offset = 0

    class Power(ForgetfulFiles):
        def sync_file(self, path: Path) -> None:
            self.remember()
            super().sync_file(path)

        def sync_folder(self, path: Path) -> None:
            self.remember()
            super().sync_folder(path)

        def remember(self) -> None:
            left = tmp_path / f"left-{len(moments)}"
            self.crash(left)
            moments.append((left, offset))

    index = open_index(folder, files=Power(folder))
    for offset in range(30):
        live(index, offset, offset + 1)

    assert len(moments) > 60
    for left, committed in moments[::5]:
        reopen(left, committed)


class FullDisk(DiskFiles):
    """Has no room while told so."""

    full = False

    def sync_file(self, path: Path) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().sync_file(path)


def test_a_full_disk_is_said_and_forgets_nothing(tmp_path: Path) -> None:
    files = FullDisk()
    index = open_index(tmp_path, files=files)
    live(index, 0, 3)
    files.full = True
    admit(index, batch(3))

    with pytest.raises(Unavailable, match=r"No space left on device; free or repair the disk, then retry"):
        index.advance(4, SECOND_US)

    files.full = False
    assert admit(index, batch(3)) == [DUPLICATE] * BATCH
    live(index, 4, 30)
    assert index.covered == 30
    assert not list(tmp_path.glob("*.new"))
    reopen(tmp_path, 30)


def test_a_run_says_what_it_covers(tmp_path: Path, runs: list[Path]) -> None:
    stretches = [Run(path).stretch for path in runs]

    assert [(one.start, one.stop) for one in stretches] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert {one.newest_us for one in stretches} == {SECOND_US}
    assert tmp_path == runs[0].parent


WORKER = """
import sys
import numpy as np
from groundswell.ingest.fingerprints import PartitionFingerprints

folder, committed = sys.argv[1], int(sys.argv[2])
index = PartitionFingerprints.open(folder, 0, committed, hot_max=120)
def admit(offset):
    ids = np.arange(offset * 10, (offset + 1) * 10, dtype=np.int64)
    words = ids.astype(np.uint64)
    first = words * np.uint64(0x9E3779B97F4A7C15)
    second = first ^ (words + np.uint64(0xD1B54A32D192ED03))
    index.admit(first.view(np.int64), second.view(np.int64), ids)
    index.advance(offset + 1, 1_000_000)
offset = index.covered
while True:
    admit(offset)
    offset += 1
    index.settle(offset)
    sys.stdout.write(f"{offset}\\n")
    sys.stdout.flush()
"""


def test_sigkill_costs_nothing_but_reading_again(tmp_path: Path) -> None:
    rng = Random(5)
    committed = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), str(committed)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        enough = committed + rng.randint(20, 120)
        for line in process.stdout:
            if int(line) >= enough:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        process.wait()
        committed = enough

        reopen(tmp_path, committed)
