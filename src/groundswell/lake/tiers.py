"""Which sorted runs to merge and in what ranges: pure functions on file descriptions.

Runs of like size are merged, so that a row is rewritten a number of times that grows with the logarithm of the lake.
Files of rows without a unit belong to no run; small ones are joined when there are many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from groundswell import limits
from groundswell.lake.contract import LakeFile

__all__ = ["merge_ranges", "next_merge", "run_sizes"]


def run_sizes(files: Sequence[LakeFile]) -> dict[int, int]:
    """Return the rows with a unit of each sorted run."""
    sizes: Counter[int] = Counter()
    for file in files:
        if file.sorted_run and file.unit_hash_min is not None:
            sizes[file.sorted_run] += file.rows
    return dict(sizes)


def next_merge(files: Sequence[LakeFile], file_rows: int, rows_max: int) -> list[LakeFile]:
    """Return the files of the runs to merge next; none where there are few."""
    sizes = sorted(run_sizes(files).items(), key=lambda item: (item[1], item[0]))
    if len(sizes) > limits.sorted_runs_max:
        count = len(sizes) - limits.sorted_runs_max + 1
        rows = sum(size for _, size in sizes[:count])
        while count < len(sizes) and sizes[count][1] <= rows:  # the next is no larger than what is made: take it along
            rows += sizes[count][1]
            count += 1
        runs = {run for run, _ in sizes[:count]}
        return [file for file in files if file.sorted_run in runs and file.unit_hash_min is not None]
    return _unitless(files, file_rows, rows_max)


def _unitless(files: Sequence[LakeFile], file_rows: int, rows_max: int) -> list[LakeFile]:
    small = [f for f in files if f.sorted_run and f.unit_hash_min is None and f.rows < file_rows]
    if len(small) <= limits.sorted_runs_max:
        return []
    chosen: list[LakeFile] = []
    rows = 0
    for file in sorted(small, key=lambda one: (one.rows, one.path)):
        rows += file.rows
        if len(chosen) >= 2 and rows > rows_max:
            break
        chosen.append(file)
    return chosen


def merge_ranges(files: Sequence[LakeFile], rows_max: int) -> Iterator[tuple[int, int]]:
    """Cut the units of ``files`` into ranges, both ends inclusive, of about ``rows_max / 2`` rows.

    A file's rows are taken to be spread evenly between its bounds; half the room is kept for where they are not.
    """
    spans = [(f.unit_hash_min, f.unit_hash_max, f.rows) for f in files]
    known = [(low, high, rows) for low, high, rows in spans if low is not None and high is not None]
    if not known:
        return
    first, last = min(low for low, _, _ in known), max(high for _, high, _ in known)
    target = max(1, rows_max // 2)
    start = first
    while start <= last:
        stop = _last_within(known, start, last, target)
        yield start, stop
        start = stop + 1


def _last_within(spans: Sequence[tuple[int, int, int]], start: int, last: int, target: int) -> int:
    """Return the greatest unit_hash up to which about ``target`` rows lie from ``start`` on."""
    low, high = start, last
    while low < high:
        middle = low + (high - low + 1) // 2
        if _rows_between(spans, start, middle) <= target:
            low = middle
        else:
            high = middle - 1
    return low


def _rows_between(spans: Sequence[tuple[int, int, int]], start: int, stop: int) -> float:
    total = 0.0
    for low, high, rows in spans:
        inside = min(high, stop) - max(low, start) + 1
        if inside > 0:
            total += rows * (inside / (high - low + 1))
    return total
