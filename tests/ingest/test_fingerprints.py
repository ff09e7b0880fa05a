"""Exact deduplication, held to a plain dictionary."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from groundswell.errors import InvalidInput
from groundswell.ingest.fingerprints import CONFLICT, DUPLICATE, NEW, PartitionFingerprints

Int64s = npt.NDArray[np.int64]
FOREVER_S = 10**9
SECOND_US = 1_000_000


def hashes(ids: npt.ArrayLike) -> tuple[Int64s, Int64s]:
    """Return two words that differ wherever ``ids`` differ, spread as a hash spreads them."""
    words = np.asarray(ids, np.uint64)
    first = words * np.uint64(0x9E3779B97F4A7C15)
    return first.view(np.int64), (first ^ (words + np.uint64(0xD1B54A32D192ED03))).view(np.int64)


def admit(index: PartitionFingerprints, ids: npt.ArrayLike, content: npt.ArrayLike = 0) -> list[int]:
    words = np.atleast_1d(np.asarray(ids, np.int64))
    contents = np.broadcast_to(np.asarray(content, np.int64), words.shape)
    return index.admit(*hashes(words), np.ascontiguousarray(contents)).tolist()


def open_index(
    folder: Path, committed: int = 0, *, hot_max: int = 120, window_s: float = FOREVER_S
) -> PartitionFingerprints:
    return PartitionFingerprints.open(folder, 0, committed, hot_max=hot_max, window_s=window_s)


def test_an_identity_is_new_once(tmp_path: Path) -> None:
    index = open_index(tmp_path)

    assert admit(index, [1, 2, 1]) == [NEW, NEW, DUPLICATE]
    assert admit(index, [2, 3]) == [DUPLICATE, NEW]


def test_the_same_identity_with_other_content_is_a_conflict_and_the_first_is_kept(tmp_path: Path) -> None:
    index = open_index(tmp_path)

    assert admit(index, [1, 1], [10, 11]) == [NEW, CONFLICT]
    assert admit(index, [1, 1], [11, 10]) == [CONFLICT, DUPLICATE]


def test_both_words_of_a_fingerprint_count(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    first = np.array([0, 0, 7, 7, -1, 0], np.int64)
    second = np.array([0, 7, 0, 7, -1, 0], np.int64)

    fates = index.admit(first, second, np.zeros(6, np.int64))

    assert fates.tolist() == [NEW] * 5 + [DUPLICATE]


def test_an_empty_batch_changes_nothing(tmp_path: Path) -> None:
    index = open_index(tmp_path)

    assert admit(index, []) == []
    assert index.size.hot == 0


def test_arrays_of_other_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be as long as h1 and h2"):
        open_index(tmp_path).admit(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("partition", {"partition": -1}),
        ("committed", {"committed": -1}),
        ("hot_max", {"hot_max": 0}),
        ("window_s", {"window_s": 0}),
    ],
)
def test_an_index_needs_sensible_bounds(tmp_path: Path, name: str, arguments: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match=f"{name} == "):
        PartitionFingerprints.open(tmp_path, **{"partition": 0, "committed": 0, **arguments})  # type: ignore[arg-type]


def test_the_log_does_not_go_back(tmp_path: Path) -> None:
    index = open_index(tmp_path)
    index.advance(5, SECOND_US)

    with pytest.raises(InvalidInput, match=r"next_offset == 4, must be >= 5"):
        index.advance(4, SECOND_US)


class Replay:
    """A log of batches, an index that follows it, and a dictionary that knows the truth."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = Random(seed)
        self.folder = folder
        self.hot_max = self.rng.choice([12, 60, 300, 2000])
        self.space = self.rng.choice([50, 500, 20_000])
        self.spread = self.rng.random() < 0.7  # else fingerprints are small numbers, which hash tables dislike
        self.log: list[tuple[list[int], list[int]]] = []
        self.truth: dict[int, int] = {}
        self.index = self.open(0)

    def open(self, committed: int) -> PartitionFingerprints:
        return open_index(self.folder, committed, hot_max=self.hot_max)

    def batch(self) -> tuple[list[int], list[int]]:
        size = self.rng.randint(0, self.hot_max)
        return [self.rng.randrange(self.space) for _ in range(size)], [self.rng.randrange(2) for _ in range(size)]

    def fates(self, ids: list[int], contents: list[int]) -> list[int]:
        found: list[int] = []
        for one, content in zip(ids, contents, strict=True):
            known = one in self.truth
            first = self.truth.setdefault(one, content)
            found.append((DUPLICATE if first == content else CONFLICT) if known else NEW)
        return found

    def feed(self, ids: list[int], contents: list[int], offset: int) -> list[int]:
        words = np.array(ids, np.int64)
        first, second = hashes(words) if self.spread else (words % 7, words // 7)
        fates = self.index.admit(first, second, np.array(contents, np.int64)).tolist()
        self.index.advance(offset + 1, (offset + 1) * SECOND_US)
        return fates

    def go_on(self) -> None:
        ids, contents = self.batch()
        expected = self.fates(ids, contents)
        assert self.feed(ids, contents, len(self.log)) == expected
        self.log.append((ids, contents))

    def restart(self, committed: int) -> None:
        """Lose all that is past ``committed``, reopen, and admit again what is stored nowhere."""
        del self.log[committed:]
        self.truth = {}
        for ids, contents in self.log:
            self.fates(ids, contents)
        self.index = self.open(committed)
        assert self.index.covered <= committed
        for offset in range(self.index.covered, committed):
            self.feed(*self.log[offset], offset)


@pytest.mark.parametrize("seed", range(12))
def test_any_history_gives_what_a_dictionary_gives(tmp_path: Path, seed: int) -> None:
    replay = Replay(tmp_path, seed)
    settled = 0

    for _ in range(100):
        replay.go_on()
        if replay.rng.random() < 0.5:
            settled = replay.rng.randint(settled, len(replay.log))
            replay.index.settle(settled)
        if replay.rng.random() < 0.04:
            replay.restart(settled)

    assert replay.index.verify() == []


def test_what_left_memory_is_still_known(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=100)
    for offset in range(50):
        admit(index, range(offset * 20, offset * 20 + 20), offset)
        index.advance(offset + 1, SECOND_US)

    assert index.size.hot < 120
    assert admit(index, range(1000), np.arange(1000) // 20) == [DUPLICATE] * 1000
    assert admit(index, range(1000), -1) == [CONFLICT] * 1000


def test_memory_does_not_grow_with_the_window(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=3_000)
    slots: list[int] = []
    for offset in range(60):
        admit(index, np.arange(offset * 1_000, offset * 1_000 + 1_000))
        index.advance(offset + 1, SECOND_US)
        slots.append(index.size.slots)

    assert max(slots) == 8_192, "4,000 entries, and at most six of ten slots taken"
    assert index.size.in_runs == 60_000


def test_runs_become_few_by_merging(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=120)
    for offset in range(300):
        admit(index, np.arange(offset * 10, offset * 10 + 10))
        index.advance(offset + 1, SECOND_US)
        index.settle(offset)

    size = index.size
    assert size.in_runs + size.hot >= 3_000
    assert size.runs <= 30, "three hundred runs were written"
    assert len(list(tmp_path.glob("*.run"))) == size.runs
    assert admit(index, np.arange(3_000)) == [DUPLICATE] * 3_000


def test_runs_that_may_not_be_committed_are_not_merged(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=120)
    for offset in range(100):
        admit(index, np.arange(offset * 10, offset * 10 + 10))
        index.advance(offset + 1, SECOND_US)

    assert index.size.runs == 100
    assert open_index(tmp_path, 57).covered == 57


def test_a_run_past_the_committed_offset_is_forgotten(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=120)
    for offset in range(10):
        admit(index, np.arange(offset * 10, offset * 10 + 10))
        index.advance(offset + 1, SECOND_US)

    again = open_index(tmp_path, 4)

    assert again.covered == 4
    assert admit(again, [39, 40]) == [DUPLICATE, NEW]
    assert len(list(tmp_path.glob("*.run"))) == 4


def test_identities_are_known_for_the_window_and_forgotten_some_time_after(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=24, window_s=100)

    def live(seconds: range) -> None:
        for second in seconds:
            admit(index, [10_000 + second * 2, 10_001 + second * 2])
            index.advance(second + 1, second * SECOND_US)
            index.settle(second)

    admit(index, [1])
    live(range(100))
    within = admit(index, [1])
    live(range(100, 500))
    after = admit(index, [1])

    assert within == [DUPLICATE]
    assert after == [NEW]
    assert index.size.in_runs < 700, "of 1,000, those of the window and of runs that reach into it"


def test_a_stretch_of_duplicates_is_not_read_again_after_a_restart(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=120)
    for offset in range(100):
        admit(index, np.arange(10))
        index.advance(offset + 1, SECOND_US)

    assert index.covered >= 95


def test_partitions_do_not_meet(tmp_path: Path) -> None:
    indexes = [PartitionFingerprints.open(tmp_path, partition, 0, hot_max=24) for partition in (0, 1, 11)]

    for offset in range(20):
        for index in indexes:
            assert admit(index, [offset]) == [NEW]
            index.advance(offset + 1, SECOND_US)

    assert [PartitionFingerprints.open(tmp_path, partition, 8).covered for partition in (0, 1, 11)] == [8, 8, 8]


def test_an_event_that_says_nothing_new_about_where_the_log_stands_is_no_error(tmp_path: Path) -> None:
    index = open_index(tmp_path, hot_max=1)

    for _ in range(3):
        admit(index, [1, 2, 3])
        index.advance(0, 0)
    index.advance(1, SECOND_US)

    assert index.covered == 1
    assert admit(index, [1, 2, 3]) == [DUPLICATE] * 3
