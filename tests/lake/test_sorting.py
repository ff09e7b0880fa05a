"""The order of a sorted run, against Python's own sort."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from groundswell.lake.contract import LakeFile
from groundswell.lake.sorting import sort_rows
from groundswell.lake.tiers import merge_ranges, next_merge, run_sizes

LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
LATEST = 2**63

Row = tuple[int | None, int | None, int, int | None, int | None]

longs = st.integers(LONG_MIN, LONG_MAX)
few = st.integers(0, 3)
edges = st.sampled_from([LONG_MIN, -1, 0, 1, LONG_MAX])
rows = st.lists(
    st.tuples(
        st.none() | few | edges,
        st.none() | few | st.integers(-(2**60), 2**60),
        few,
        st.none() | few | edges,
        st.none() | st.integers(0, 1),
    ),
    max_size=30,
)


def table_of(values: list[Row]) -> pa.Table:
    names = ("unit_hash", "ts", "received_at", "event_hash", "content_hash")
    types = [pa.int64(), pa.timestamp("us", tz="UTC"), pa.timestamp("us", tz="UTC"), pa.int64(), pa.int64()]
    columns = zip(*values, strict=True) if values else [()] * 5
    return pa.table(
        {name: pa.array(list(column), kind) for name, column, kind in zip(names, columns, types, strict=True)}
    )


def last(value: int | None) -> int:
    return LATEST if value is None else value


def expected_duplicates(values: list[Row]) -> dict[int, bool]:
    """Return the row numbers to drop and whether their content differs from the one that stays."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, (unit, _, _, event, _) in enumerate(values):
        if unit is not None and event is not None:
            groups.setdefault((unit, event), []).append(place)
    dropped: dict[int, bool] = {}
    for places in groups.values():
        kept, *others = sorted(
            places, key=lambda place: (values[place][2], last(values[place][1]), values[place][4] or 0, place)
        )
        dropped |= {place: values[place][4] != values[kept][4] for place in others}
    return dropped


@settings(max_examples=300, deadline=None)
@given(rows)
@example([])
@example([(1, LONG_MIN // 8, 0, 1, 1), (2, LONG_MAX // 8, 0, 1, 1)])
def test_rows_are_ordered_and_identities_unique(values: list[Row]) -> None:
    order = sort_rows(table_of(values))

    dropped = expected_duplicates(values)
    kept = [place for place in range(len(values)) if place not in dropped]
    unitless = [place for place in kept if values[place][0] is None]
    assert dict(zip(order.duplicates.rows.tolist(), order.duplicates.conflicts.tolist(), strict=True)) == dropped
    assert sorted(order.rows.tolist()) == kept
    assert order.unitless == len(unitless)
    assert set(order.rows[: order.unitless].tolist()) == set(unitless)
    sorted_keys = [key(values[place]) for place in order.rows.tolist()]
    assert sorted_keys == sorted(sorted_keys)
    assert order.units.tolist() == [values[place][0] for place in order.rows[order.unitless :].tolist()]


def key(row: Row) -> tuple[Any, ...]:
    unit, ts, received, event, _ = row
    return (unit is not None, unit or 0, min(last(ts), LONG_MAX), received, min(last(event), LONG_MAX))


def test_many_rows_of_many_units_are_ordered() -> None:
    rng = np.random.default_rng(3)
    size = 50_000
    values = {
        "unit_hash": rng.integers(LONG_MIN, LONG_MAX, size // 10)[rng.integers(0, size // 10, size)],
        "ts": rng.integers(0, 50, size),
        "received_at": rng.integers(0, 5, size),
        "event_hash": rng.integers(LONG_MIN, LONG_MAX, size),
        "content_hash": rng.integers(0, 2, size),
    }

    order = sort_rows(pa.table(values))

    keys = [values[name] for name in ("event_hash", "received_at", "ts", "unit_hash")]
    assert order.rows.tolist() == np.lexsort(keys).tolist()


def run_file(run: int, rows: int, low: int | None = 0, high: int | None = 100) -> LakeFile:
    return LakeFile(f"run-{run}-{low}", rows, rows, low, high, 0, 0, run)


@pytest.mark.parametrize(
    ("sizes", "merged"),
    [
        ([10, 10, 10, 10], []),
        ([10, 10, 10, 10, 10], [1, 2, 3, 4, 5]),  # the fifth is no larger than what two of the others make
        ([1, 1, 100, 1_000, 10_000], [1, 2]),
        ([10_000, 1_000, 100, 1, 1], [4, 5]),
        ([1, 1, 2, 4, 1_000, 10_000], [1, 2, 3, 4]),
    ],
)
def test_runs_of_like_size_are_merged(sizes: list[int], merged: list[int]) -> None:
    files = [run_file(run, size) for run, size in enumerate(sizes, start=1)]

    chosen = next_merge(files, file_rows=1_000, rows_max=10_000)

    assert sorted({file.sorted_run for file in chosen}) == merged


def test_files_without_a_unit_belong_to_no_run_and_small_ones_are_joined() -> None:
    files = [run_file(run, 10, None, None) for run in range(1, 6)] + [run_file(9, 5_000, None, None)]

    assert run_sizes(files) == {}
    assert [file.sorted_run for file in next_merge(files, file_rows=1_000, rows_max=25)] == [1, 2]
    assert next_merge(files[:4], file_rows=1_000, rows_max=25) == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(LONG_MIN, LONG_MAX), st.integers(LONG_MIN, LONG_MAX), st.integers(1, 100)), min_size=1
    ),
    st.integers(20, 1_000),
)
def test_ranges_cover_every_unit_once(spans: list[tuple[int, int, int]], rows_max: int) -> None:
    files = [run_file(1, rows, min(low, high), max(low, high)) for low, high, rows in spans]

    ranges = list(merge_ranges(files, rows_max))

    assert ranges[0][0] == min(min(low, high) for low, high, _ in spans)
    assert ranges[-1][1] == max(max(low, high) for low, high, _ in spans)
    assert all(low <= high for low, high in ranges)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ranges))
    total = sum(rows for _, _, rows in spans)
    assert len(ranges) <= 2 + 4 * total / (rows_max // 2) + len(spans)
