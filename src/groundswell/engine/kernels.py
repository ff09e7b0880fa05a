"""The compiled inner loops: repeats within a unit, the sweep over units, and accumulators of moments.

Invariants
    rows come in order of unit_hash, and an identity comes once (``mark_repeats`` finds where it does not)
    what a unit contributes never depends on the order of its rows: its events are put in order of (ts, event_hash), and
    sums run from the last event to the first
    an accumulator's shift is the mean of all its earlier values, and a block never has more values than came before it,
    so the sums of a block lose no more digits than the final moments can show
    no kernel allocates more than its rows ask for, and none knows the time or the thread that it runs on

An accumulator of ``k`` numbers and ``p`` pairs of them is 3 + 2 (4k + p) floats: units merged, units in the open
block, its capacity; then of what is merged mean, m2, m3, m4 number by number, and the co-moments; then of the open
block the sums of d, d^2, d^3, d^4 number by number, and of the products, where d is the distance from the mean.

Kernels that call each other stand in one file: numba's cache looks only at the file of the caller.
Formulas: Chan, Golub & LeVeque (1983); Pébay (2008, SAND2008-6212).
"""
# ruff: noqa: PLR0917, C901 (compiled kernels take their arguments by position and unroll their branches)

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

__all__ = ["close_blocks", "mark_repeats", "row_width", "spread_values", "sweep"]

# columns of the program's tables (see program.py)
E_START, E_END, E_RECIPE, E_ARMS, E_CLOSED, E_CELLS, E_SHARES, E_WIDTH = range(8)
R_GROUPS, R_GROUPS_END, R_UNBOUNDED, R_CLOSED, R_CELLS, R_SHARES, R_WIDTH = range(7)
G_WINDOW, G_NUMBERS, G_SHARES, G_PAIRS, G_PAIRS_END, G_CLOSED, G_CELLS, G_SHARES_AT, G_OUT, G_WIDTH = range(10)
T_SLOT, T_VALUE, T_KIND, T_WIDTH = range(4)

KIND_SUM, KIND_COUNT, KIND_ANY = range(3)
X_TWO_VARIANTS, X_UNKNOWN_VARIANT, X_NO_UNIT, X_WIDTH = range(4)
EXPOSURE_CODE: Final = 0  # the code of event type ``exposure`` in every program

A_MERGED, A_OPEN, A_CAPACITY, A_NUMBERS = range(4)  # the head of an accumulator
BLOCK_UNITS_MAX: Final = 256.0  # longer blocks save nothing more: merging one costs a few units' worth

# without the runtime's reference counts, which cost more than the arithmetic: these kernels make no arrays
_PLAIN: Final[dict[str, Any]] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
_I8 = numba.types.Array(numba.int8, 1, "C", readonly=True)
_I32 = numba.types.Array(numba.int32, 1, "C", readonly=True)
_I64 = numba.types.Array(numba.int64, 1, "C", readonly=True)
_U8 = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_F64 = numba.types.Array(numba.float64, 1, "C", readonly=True)
_OUT = numba.types.Array(numba.float64, 1, "C")
_I64_2 = numba.types.Array(numba.int64, 2, "C", readonly=True)
_F64_2 = numba.types.Array(numba.float64, 2, "C", readonly=True)


def row_width(numbers: int, pairs: int) -> int:
    """Return how many floats an accumulator has."""
    return A_NUMBERS + 2 * (4 * numbers + pairs)


@numba.njit(numba.int64(_I64, _I64, numba.boolean[::1]), cache=True, nogil=True, error_model="numpy")
def mark_repeats(unit_hash: Any, event_hash: Any, repeated: Any) -> Any:  # pragma: no cover - compiled
    """Mark every row whose identity another row of its unit has too; return how many rows are one too many."""
    n = len(unit_hash)
    table = np.zeros(1024, np.int32)  # row - first row of the unit + 1, or 0 where free
    found = 0
    i = 0
    while i < n:
        j = i + 1
        while j < n and unit_hash[j] == unit_hash[i]:
            j += 1
        if j - i > 1:
            size = 8
            while size < 4 * (j - i):  # sparse, since a collision costs more than clearing
                size *= 2
            if size > len(table):
                table = np.zeros(size, np.int32)
            else:
                table[:size] = 0
            for row in range(i, j):
                at = (event_hash[row] ^ (event_hash[row] >> 32)) & (size - 1)
                while table[at] != 0:
                    other = i + table[at] - 1
                    if event_hash[other] == event_hash[row]:
                        repeated[other] = True
                        repeated[row] = True
                        found += 1
                        break
                    at = (at + 1) & (size - 1)
                else:
                    table[at] = row - i + 1
        i = j
    return found


@numba.njit([numba.void(_F64, _U8, numba.int64, _OUT), numba.void(_I64, _U8, numba.int64, _OUT)], **_PLAIN)
def spread_values(data: Any, valid: Any, offset: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Write data[offset:] to ``out``, NaN where the bit of ``valid`` is 0."""
    for i in range(len(out)):
        at = offset + i
        out[i] = data[at] if (valid[at >> 3] >> (at & 7)) & 1 else np.nan


# --- accumulators ------------------------------------------------------------------------------------------------


@numba.njit(**_PLAIN)
def _close_block(cells: Any, at: Any, k: Any, pairs: Any, p: Any, p_end: Any) -> None:  # pragma: no cover - compiled
    """Merge the open block into the moments; its shift is their mean, so the means differ by exactly ``d``."""
    nb = cells[at + A_OPEN]
    if nb == 0.0:
        return
    na = cells[at + A_MERGED]
    n = na + nb
    wa, wb = na / n, nb / n
    merged = at + A_NUMBERS
    sums = merged + 4 * k + p_end - p
    for q in range(p, p_end):
        dx, dy = cells[sums + 4 * pairs[q, 0]] / nb, cells[sums + 4 * pairs[q, 1]] / nb
        cells[merged + 4 * k + q - p] += cells[sums + 4 * k + q - p] - nb * dx * dy + dx * dy * na * wb
        cells[sums + 4 * k + q - p] = 0.0
    for j in range(k):
        m, s = merged + 4 * j, sums + 4 * j
        d, s2, s3, s4 = cells[s] / nb, cells[s + 1], cells[s + 2], cells[s + 3]
        b2 = max(s2 - nb * d * d, 0.0)
        b3 = s3 - 3.0 * d * s2 + 2.0 * nb * d * d * d
        b4 = max(s4 - 4.0 * d * s3 + 6.0 * d * d * s2 - 3.0 * nb * d * d * d * d, 0.0)
        m2, m3 = cells[m + 1], cells[m + 2]
        cells[m + 3] += (
            b4
            + d * d * d * d * na * wb * (wa * wa - wa * wb + wb * wb)
            + 6.0 * d * d * (wa * wa * b2 + wb * wb * m2)
            + 4.0 * d * (wa * b3 - wb * m3)
        )
        cells[m + 2] = m3 + b3 + d * d * d * na * wb * (wa - wb) + 3.0 * d * (wa * b2 - wb * m2)
        cells[m + 1] = m2 + b2 + d * d * na * wb
        cells[m] += d * wb
        for power in range(4):
            cells[s + power] = 0.0
    cells[at + A_MERGED] = n
    cells[at + A_OPEN] = 0.0
    cells[at + A_CAPACITY] = 0.0


@numba.njit(numba.void(numba.float64[::1], _I64_2, _I64_2), cache=True, nogil=True, error_model="numpy")
def close_blocks(cells: Any, accumulators: Any, pairs: Any) -> None:  # pragma: no cover - compiled
    """Close every accumulator; each says where it begins, its numbers, and the first and end of its pairs."""
    for a in range(len(accumulators)):
        _close_block(cells, accumulators[a, 0], accumulators[a, 1], pairs, accumulators[a, 2], accumulators[a, 3])


@numba.njit(**_PLAIN)
def _push(
    cells: Any, at: Any, k: Any, pairs: Any, p: Any, p_end: Any, x: Any, x_at: Any, distance: Any
) -> None:  # pragma: no cover - compiled
    """Add a unit's ``k`` numbers from ``x_at`` on to the accumulator that begins at ``at``.

    Places are unsigned: for a signed one compiled code would first ask whether it counts from the end.
    """
    if cells[at + A_OPEN] == cells[at + A_CAPACITY]:
        _close_block(cells, at, k, pairs, p, p_end)
        cells[at + A_CAPACITY] = min(max(cells[at + A_MERGED], 1.0), BLOCK_UNITS_MAX)
        if cells[at + A_MERGED] == 0.0:
            for j in range(k):
                cells[at + A_NUMBERS + 4 * j] = x[x_at + j]
    cells[at + A_OPEN] += 1.0
    merged = np.uint64(at + A_NUMBERS)
    sums = np.uint64(at + A_NUMBERS + 4 * k + p_end - p)
    for j in range(k):
        d = x[np.uint64(x_at + j)] - cells[merged + np.uint64(4 * j)]
        d2 = d * d
        distance[j] = d
        s = sums + np.uint64(4 * j)
        cells[s] += d
        cells[s + np.uint64(1)] += d2
        cells[s + np.uint64(2)] += d2 * d
        cells[s + np.uint64(3)] += d2 * d2
    for q in range(p, p_end):
        cells[sums + np.uint64(4 * k + q - p)] += distance[pairs[q, 0]] * distance[pairs[q, 1]]


# --- the sweep ---------------------------------------------------------------------------------------------------


@numba.njit(**_PLAIN)
def _sort_by_time(rows: Any, count: Any, ts: Any, event_hash: Any) -> None:  # pragma: no cover - compiled
    """Put rows[:count] in order of (ts, event_hash): Shell's sort, linear where they already are."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, count):
            row = rows[i]
            j = i
            while j >= gap:
                other = rows[j - gap]
                if ts[other] < ts[row] or (ts[other] == ts[row] and event_hash[other] <= event_hash[row]):
                    break
                rows[j] = other
                j -= gap
            rows[j] = row
        gap //= 3


@numba.njit(**_PLAIN)
def _sort_by_recipe(
    touched: Any, count: Any, experiments: Any, first_row: Any, ts: Any
) -> None:  # pragma: no cover - compiled
    """Put experiments in order of (recipe, first exposure)."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, count):
            e = touched[i]
            recipe, moment = experiments[e, E_RECIPE], ts[first_row[e]]
            j = i
            while j >= gap:
                other = touched[j - gap]
                theirs = experiments[other, E_RECIPE]
                if theirs < recipe or (theirs == recipe and ts[first_row[other]] <= moment):
                    break
                touched[j] = other
                j -= gap
            touched[j] = e
        gap //= 3


@numba.njit(**_PLAIN)
def _find_exposures(
    i: Any, j: Any, kind: Any, event: Any, experiment: Any, variant: Any, ts: Any, event_hash: Any,
    experiments: Any, arm_of: Any, as_of: Any, excluded: Any, first_row: Any, arm: Any, touched: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Find each experiment's first exposure among rows[i:j] of a unit; return how many experiments it touched.

    ``arm`` becomes the unit's variant, or -1 where it saw two, or -2 where it saw one that the experiment has not.
    """
    count = 0
    for row in range(i, j):
        e = experiment[row]
        if event[row] != EXPOSURE_CODE or e < 0 or ts[row] > as_of:
            continue
        if ts[row] < experiments[e, E_START] or ts[row] >= experiments[e, E_END]:
            continue
        if kind[row] != 0:
            excluded[e, X_NO_UNIT] += 1
            continue
        v = arm_of[e, variant[row]] if variant[row] >= 0 else -2
        first = first_row[e]
        if first < 0:
            touched[count] = e
            count += 1
            first_row[e] = row
            arm[e] = v
            continue
        if ts[row] < ts[first] or (ts[row] == ts[first] and event_hash[row] < event_hash[first]):
            first_row[e] = row
        if v == -2:
            arm[e] = -2
        elif arm[e] >= 0 and arm[e] != v:
            arm[e] = -1
    return count


@numba.njit(**_PLAIN)
def _keep_counted(
    touched: Any, count: Any, variant: Any, experiments: Any, arm_of: Any, first_row: Any, arm: Any,
    units: Any, before: Any, excluded: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Count a unit among the units or the excluded of what it touched; return how many experiments count it."""
    kept = 0
    for t in range(count):
        e = touched[t]
        seen = variant[first_row[e]]
        v = arm_of[e, seen] if seen >= 0 else -2
        if v >= 0:
            before[experiments[e, E_ARMS] + v] += 1
        if arm[e] < 0:
            excluded[e, X_TWO_VARIANTS if arm[e] == -1 else X_UNKNOWN_VARIANT] += 1
            first_row[e] = -1
        else:
            units[experiments[e, E_ARMS] + v] += 1
            touched[kept] = e
            kept += 1
    return kept


@numba.njit(**_PLAIN)
def _gather_events(
    i: Any, j: Any, kind: Any, event: Any, ts: Any, event_hash: Any, wanted: Any, since: Any, as_of: Any, rows: Any
) -> Any:  # pragma: no cover - compiled
    """Put the rows of a unit that may count into ``rows``, in order of time; return how many."""
    count = 0
    for row in range(i, j):
        c = event[row]
        if c >= 0 and wanted[c] and kind[row] == 0 and since <= ts[row] <= as_of:
            rows[count] = row
            count += 1
    _sort_by_time(rows, count, ts, event_hash)
    return count


@numba.njit(**_PLAIN)
def _add_event(
    g: Any, row: Any, event: Any, values: Any, term_at: Any, terms: Any, x: Any, x_at: Any
) -> Any:  # pragma: no cover - compiled
    """Add one event to a unit's numbers of group ``g``, from ``x_at`` on; return whether it concerns the group."""
    start, stop = term_at[g, event[row]], term_at[g, event[row] + 1]
    for t in range(start, stop):
        slot = x_at + terms[t, T_SLOT]
        value = 1.0
        if terms[t, T_VALUE] >= 0:
            value = values[terms[t, T_VALUE], row]
            if not np.isfinite(value):
                continue
        if terms[t, T_KIND] == KIND_SUM:
            x[slot] += value
        elif terms[t, T_KIND] == KIND_COUNT:
            x[slot] += 1.0
        else:
            x[slot] = 1.0
    return stop > start


@numba.njit(**_PLAIN)
def _add_unit(
    e: Any, v: Any, g: Any, x: Any, x_at: Any, experiments: Any, recipes: Any, groups: Any, pairs: Any, cells: Any,
    shares: Any, distance: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Add a unit's numbers of group ``g`` to the accumulator of its variant."""
    k = groups[g, G_NUMBERS]
    r = experiments[e, E_RECIPE]
    if k > 0:
        at = experiments[e, E_CELLS] + v * recipes[r, R_CELLS] + groups[g, G_CELLS]
        _push(cells, at, k, pairs, groups[g, G_PAIRS], groups[g, G_PAIRS_END], x, x_at, distance)
    at = experiments[e, E_SHARES] + v * recipes[r, R_SHARES] + groups[g, G_SHARES_AT]
    for j in range(groups[g, G_SHARES]):
        shares[at + j] += np.int64(x[x_at + k + j])


@numba.njit(**_PLAIN)
def _measure(
    touched: Any, count: Any, rows: Any, events: Any, event: Any, variant: Any, ts: Any, values: Any, as_of: Any,
    experiments: Any, recipes: Any, groups: Any, term_at: Any, terms: Any, pairs: Any, arm_of: Any, first_row: Any,
    closed: Any, shares: Any, cells: Any, x: Any, distance: Any, out: Any, written: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Add one unit to every experiment that counts it, the last exposure of a recipe first: events are added once."""
    _sort_by_recipe(touched, count, experiments, first_row, ts)
    second = len(x) // 2  # x holds the numbers without a window, and then those of one window
    recipe = -1
    place = events  # of the first event at or after the exposure
    active = False
    for t in range(count - 1, -1, -1):
        e = touched[t]
        first = first_row[e]
        v = arm_of[e, variant[first]]
        exposed = ts[first]
        if experiments[e, E_RECIPE] != recipe:
            recipe = experiments[e, E_RECIPE]
            for n in range(second):
                x[n] = 0.0
            place = events
            active = False
        unbounded = recipes[recipe, R_UNBOUNDED]
        while place > 0 and ts[rows[place - 1]] >= exposed:
            place -= 1
            if unbounded >= 0 and _add_event(unbounded, rows[place], event, values, term_at, terms, x, 0):
                active = True
        base = experiments[e, E_CLOSED] + v * recipes[recipe, R_CLOSED]
        for g in range(recipes[recipe, R_GROUPS], recipes[recipe, R_GROUPS_END]):
            window = groups[g, G_WINDOW]
            x_at = 0
            concerned = active
            if window > 0:
                if exposed + window > as_of:
                    continue
                x_at = second
                concerned = _add_window(
                    g, place, events, exposed + window, rows, event, ts, values, term_at, terms, x, x_at
                )
            closed[base + groups[g, G_CLOSED]] += 1
            if len(out) > 0:
                start = groups[g, G_OUT]
                for j in range(groups[g, G_NUMBERS] + groups[g, G_SHARES]):
                    out[written, start + j] = x[x_at + j]
            elif concerned:  # units with nothing but zeros are added at the end, all at once
                _add_unit(e, v, g, x, x_at, experiments, recipes, groups, pairs, cells, shares, distance)
        first_row[e] = -1


@numba.njit(**_PLAIN)
def _add_window(
    g: Any, place: Any, events: Any, until: Any, rows: Any, event: Any, ts: Any, values: Any, term_at: Any, terms: Any,
    x: Any, x_at: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Set a unit's numbers from ``x_at`` on to those of its events from ``place`` on and before ``until``.

    Return whether any event concerns the group.
    """
    stop = events
    low = place
    while low < stop:
        middle = (low + stop) // 2
        if ts[rows[middle]] < until:
            low = middle + 1
        else:
            stop = middle
    for n in range(x_at, len(x)):
        x[n] = 0.0
    concerned = False
    for at in range(stop - 1, place - 1, -1):
        if _add_event(g, rows[at], event, values, term_at, terms, x, x_at):
            concerned = True
    return concerned


@numba.njit(
    numba.int64(
        numba.int64, numba.int64, _I64, _I8, _I32, _I32, _I32, _I64, _I64, _F64_2,
        numba.int64, _I64_2, _I64_2, _I64_2, _I64_2, _I64_2, _I64_2, _I64_2, _I8,
        numba.int64[::1], numba.int64[::1], numba.int64[:, ::1], numba.int64[::1], numba.int64[::1], numba.float64[::1],
        numba.int64[::1], numba.int64[::1], numba.int64[::1], numba.int64[::1], numba.float64[::1], numba.float64[::1],
        numba.int64[::1], numba.float64[:, ::1],
    ),
    **_PLAIN,
)  # fmt: skip
def sweep(
    start: Any, stop: Any,
    unit_hash: Any, kind: Any, event: Any, experiment: Any, variant: Any, ts: Any, event_hash: Any, values: Any,
    as_of: Any, experiments: Any, recipes: Any, groups: Any, term_at: Any, terms: Any, pairs: Any, arm_of: Any,
    wanted: Any,
    units: Any, before: Any, excluded: Any, closed: Any, shares: Any, cells: Any,
    first_row: Any, arm: Any, touched: Any, rows: Any, x: Any, distance: Any,
    emitted: Any, out: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Add all units of rows[start:stop] to the cells. ``first_row`` is -1 throughout, before and after.

    With room in ``out`` (one experiment), write a row a counted unit instead: its first exposure's row to ``emitted``,
    its numbers to ``out``. Return how many units count somewhere.
    """
    written = 0
    i = start
    while i < stop:
        j = i + 1
        while j < stop and unit_hash[j] == unit_hash[i]:
            j += 1
        count = _find_exposures(
            i, j, kind, event, experiment, variant, ts, event_hash, experiments, arm_of, as_of, excluded,
            first_row, arm, touched,
        )  # fmt: skip
        if count > 0:
            count = _keep_counted(
                touched, count, variant, experiments, arm_of, first_row, arm, units, before, excluded
            )  # fmt: skip
        if count > 0:
            since = ts[first_row[touched[0]]]
            for t in range(1, count):
                since = min(since, ts[first_row[touched[t]]])
            events = _gather_events(i, j, kind, event, ts, event_hash, wanted, since, as_of, rows)
            if len(out) > 0:
                emitted[written] = first_row[touched[0]]
            _measure(
                touched, count, rows, events, event, variant, ts, values, as_of, experiments, recipes, groups, term_at,
                terms, pairs, arm_of, first_row, closed, shares, cells, x, distance, out, written,
            )  # fmt: skip
            written += 1
        i = j
    return written
