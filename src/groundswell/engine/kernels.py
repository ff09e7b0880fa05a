"""The compiled inner loops: repeats within a unit, the sweep over units, and accumulators of moments.

Invariants
    rows come in order of unit_hash, and an identity comes once (``mark_repeats`` finds where it does not)
    what a unit contributes never depends on the order of its rows: its events are put in order of (ts, event_hash)
    an accumulator's shift is the mean of all its earlier values, and a block never has more values than came before it,
    so the sums of a block lose no more digits than the final moments can show
    no kernel allocates more than its rows ask for, and none knows the time or the thread that it runs on

Kernels that call each other stand in one file: numba's cache looks only at the file of the caller.
Formulas: Chan, Golub & LeVeque (1983); Pébay (2008, SAND2008-6212).
"""
# ruff: noqa: PLR0917, C901, PLR0912 (compiled kernels take their arguments by position and unroll their branches)

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

__all__ = ["ONE_WIDTH", "TWO_WIDTH", "close_blocks", "mark_repeats", "push_one", "push_two", "sweep"]

# columns of the program's tables (see program.py)
E_START, E_END, E_GROUPS, E_GROUPS_END, E_ARMS, E_WIDTH = range(6)
G_WINDOW, G_METRICS, G_METRICS_END, G_EVENTS, G_EVENTS_END, G_CLOSED, G_WIDTH = range(7)
M_MODE, M_TERM, M_TERM_2, M_CELLS, M_CELL_STEP, M_SLOT, M_WIDTH = range(7)
T_EVENT, T_VALUE, T_KIND, T_WIDTH = range(4)

MODE_SHARE, MODE_ONE, MODE_TWO = range(3)  # 0 or 1 a unit; one number a unit; numerator and denominator
KIND_SUM, KIND_COUNT, KIND_ANY = range(3)
X_TWO_VARIANTS, X_UNKNOWN_VARIANT, X_NO_UNIT, X_WIDTH = range(4)
EXPOSURE_CODE: Final = 0  # the code of event type ``exposure`` in every program

# columns of an accumulator: what is merged (first), then the open block, then its sums about the shift
ONE_WIDTH: Final = 12  # n mean m2 m3 m4 | count capacity shift | s1 s2 s3 s4
TWO_WIDTH: Final = 23  # n mx my xx xy yy x3 y3 x4 y4 | count capacity | sx sy | x y xx xy yy x3 y3 x4 y4
BLOCK_VALUES_MAX: Final = 256.0  # longer blocks save nothing more: merging one costs a few values' worth

_I8 = numba.types.Array(numba.int8, 1, "C", readonly=True)
_I32 = numba.types.Array(numba.int32, 1, "C", readonly=True)
_I64 = numba.types.Array(numba.int64, 1, "C", readonly=True)
_I64_2 = numba.types.Array(numba.int64, 2, "C", readonly=True)
_F64_2 = numba.types.Array(numba.float64, 2, "C", readonly=True)


@numba.njit(numba.int64(_I64, _I8, _I64, numba.boolean[::1]), cache=True, nogil=True)
def mark_repeats(unit_hash: Any, kind: Any, event_hash: Any, repeated: Any) -> Any:  # pragma: no cover - compiled
    """Mark every row whose identity another row of its unit has too; return how many rows are one too many."""
    n = len(unit_hash)
    table = np.zeros(64, np.int64)  # row + 1, or 0 where free
    found = 0
    i = 0
    while i < n:
        j = i + 1
        while j < n and unit_hash[j] == unit_hash[i]:
            j += 1
        if j - i > 1:
            size = 4
            while size < 2 * (j - i):
                size *= 2
            if size > len(table):
                table = np.zeros(size, np.int64)
            else:
                table[:size] = 0
            for row in range(i, j):
                at = (event_hash[row] ^ (event_hash[row] >> 32)) & (size - 1)
                while table[at] != 0:
                    other = table[at] - 1
                    if event_hash[other] == event_hash[row] and kind[other] == kind[row]:
                        repeated[other] = True
                        repeated[row] = True
                        found += 1
                        break
                    at = (at + 1) & (size - 1)
                else:
                    table[at] = row + 1
        i = j
    return found


# --- accumulators ------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _close_one(a: Any) -> None:  # pragma: no cover - compiled
    """Merge the open block into the moments; its shift is their mean, so the means differ by exactly ``d``."""
    nb = a[5]
    if nb == 0.0:
        return
    d = a[8] / nb
    b2 = max(a[9] - nb * d * d, 0.0)
    b3 = a[10] - 3.0 * d * a[9] + 2.0 * nb * d * d * d
    b4 = max(a[11] - 4.0 * d * a[10] + 6.0 * d * d * a[9] - 3.0 * nb * d * d * d * d, 0.0)
    na = a[0]
    if na == 0.0:
        a[0], a[1], a[2], a[3], a[4] = nb, a[7] + d, b2, b3, b4
    else:
        n = na + nb
        wa, wb = na / n, nb / n
        a[4] += (
            b4
            + d * d * d * d * na * wb * (wa * wa - wa * wb + wb * wb)
            + 6.0 * d * d * (wa * wa * b2 + wb * wb * a[2])
            + 4.0 * d * (wa * b3 - wb * a[3])
        )
        a[3] += b3 + d * d * d * na * wb * (wa - wb) + 3.0 * d * (wa * b2 - wb * a[2])
        a[2] += b2 + d * d * na * wb
        a[1] += d * wb
        a[0] = n
    a[5] = 0.0
    a[6] = 0.0
    a[8:12] = 0.0


@numba.njit(numba.void(numba.float64[::1], numba.float64), cache=True, nogil=True)
def push_one(a: Any, x: Any) -> None:  # pragma: no cover - compiled
    """Add a unit with value ``x`` to an accumulator."""
    if a[5] == a[6]:
        _close_one(a)
        a[6] = min(max(a[0], 1.0), BLOCK_VALUES_MAX)
        a[7] = x if a[0] == 0.0 else a[1]
    d = x - a[7]
    d2 = d * d
    a[5] += 1.0
    a[8] += d
    a[9] += d2
    a[10] += d2 * d
    a[11] += d2 * d2


@numba.njit(cache=True, nogil=True)
def _close_two(a: Any) -> None:  # pragma: no cover - compiled
    """Merge the open block of a pair into its moments and co-moment."""
    nb = a[10]
    if nb == 0.0:
        return
    na = a[0]
    n = na + nb
    wa, wb = na / n, nb / n
    dx, dy = a[14] / nb, a[15] / nb
    for side in range(2):
        d = a[14 + side] / nb
        s2, s3, s4 = a[16 + 2 * side], a[19 + side], a[21 + side]
        b2 = max(s2 - nb * d * d, 0.0)
        b3 = s3 - 3.0 * d * s2 + 2.0 * nb * d * d * d
        b4 = max(s4 - 4.0 * d * s3 + 6.0 * d * d * s2 - 3.0 * nb * d * d * d * d, 0.0)
        m2, m3 = a[3 + 2 * side], a[6 + side]
        a[8 + side] += (
            b4
            + d * d * d * d * na * wb * (wa * wa - wa * wb + wb * wb)
            + 6.0 * d * d * (wa * wa * b2 + wb * wb * m2)
            + 4.0 * d * (wa * b3 - wb * m3)
        )
        a[6 + side] = m3 + b3 + d * d * d * na * wb * (wa - wb) + 3.0 * d * (wa * b2 - wb * m2)
        a[3 + 2 * side] = m2 + b2 + d * d * na * wb
    a[4] += a[17] - nb * dx * dy + dx * dy * na * wb
    if na == 0.0:
        a[1], a[2] = a[12] + dx, a[13] + dy
    else:
        a[1] += dx * wb
        a[2] += dy * wb
    a[0] = n
    a[10] = 0.0
    a[11] = 0.0
    a[14:23] = 0.0


@numba.njit(numba.void(numba.float64[::1], numba.float64, numba.float64), cache=True, nogil=True)
def push_two(a: Any, x: Any, y: Any) -> None:  # pragma: no cover - compiled
    """Add a unit with numerator ``x`` and denominator ``y`` to an accumulator of pairs."""
    if a[10] == a[11]:
        _close_two(a)
        a[11] = min(max(a[0], 1.0), BLOCK_VALUES_MAX)
        first = a[0] == 0.0
        a[12] = x if first else a[1]
        a[13] = y if first else a[2]
    dx = x - a[12]
    dy = y - a[13]
    dx2 = dx * dx
    dy2 = dy * dy
    a[10] += 1.0
    a[14] += dx
    a[15] += dy
    a[16] += dx2
    a[17] += dx * dy
    a[18] += dy2
    a[19] += dx2 * dx
    a[20] += dy2 * dy
    a[21] += dx2 * dx2
    a[22] += dy2 * dy2


@numba.njit(numba.void(numba.float64[:, ::1], numba.float64[:, ::1]), cache=True, nogil=True)
def close_blocks(one: Any, two: Any) -> None:  # pragma: no cover - compiled
    """Merge every open block, so that the first columns of each accumulator are its moments."""
    for cell in range(len(one)):
        _close_one(one[cell])
    for cell in range(len(two)):
        _close_two(two[cell])


# --- the sweep ---------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _sort_by_time(rows: Any, start: Any, stop: Any, ts: Any, event_hash: Any) -> None:  # pragma: no cover - compiled
    """Put rows[start:stop] in order of (ts, event_hash): Shell's sort, linear where they already are."""
    gap = 1
    while gap < (stop - start) // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(start + gap, stop):
            row = rows[i]
            j = i
            while j >= start + gap:
                other = rows[j - gap]
                if ts[other] < ts[row] or (ts[other] == ts[row] and event_hash[other] <= event_hash[row]):
                    break
                rows[j] = other
                j -= gap
            rows[j] = row
        gap //= 3


@numba.njit(cache=True, nogil=True)
def _first_at(rows: Any, start: Any, stop: Any, ts: Any, moment: Any) -> Any:  # pragma: no cover - compiled
    """Return the first place in rows[start:stop] whose ts is >= ``moment``."""
    while start < stop:
        middle = (start + stop) // 2
        if ts[rows[middle]] < moment:
            start = middle + 1
        else:
            stop = middle
    return start


@numba.njit(cache=True, nogil=True)
def _term(term: Any, rows: Any, start: Any, stop: Any, values: Any) -> Any:  # pragma: no cover - compiled
    """Return a term over rows[start:stop], which are in order of time; sums run from the last to the first."""
    if term[T_VALUE] < 0:
        number = float(stop - start)
        return min(number, 1.0) if term[T_KIND] == KIND_ANY else number
    column = values[term[T_VALUE]]
    total = 0.0
    number = 0.0
    for i in range(stop - 1, start - 1, -1):
        x = column[rows[i]]
        if np.isfinite(x):
            total += x
            number += 1.0
    if term[T_KIND] == KIND_SUM:
        return total
    return min(number, 1.0) if term[T_KIND] == KIND_ANY else number


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def _gather_events(
    i: Any, j: Any, kind: Any, event: Any, ts: Any, event_hash: Any, wanted: Any, since: Any, as_of: Any,
    rows: Any, starts: Any, stops: Any, present: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Put the rows of a unit that may count into ``rows``, by event type and then by time; return how many types.

    Events of type ``c`` stand in rows[starts[c]:stops[c]]. ``present`` lists the types, so that they can be forgotten.
    """
    types = 0
    for row in range(i, j):
        c = event[row]
        if c >= 0 and wanted[c] and kind[row] == 0 and since <= ts[row] <= as_of:
            if stops[c] == 0:
                present[types] = c
                types += 1
            stops[c] += 1
    place = 0
    for t in range(types):
        c = present[t]
        starts[c] = place
        place += stops[c]
        stops[c] = starts[c]
    for row in range(i, j):
        c = event[row]
        if c >= 0 and wanted[c] and kind[row] == 0 and since <= ts[row] <= as_of:
            rows[stops[c]] = row
            stops[c] += 1
    for t in range(types):
        c = present[t]
        _sort_by_time(rows, starts[c], stops[c], ts, event_hash)
    return types


@numba.njit(cache=True, nogil=True)
def _measure(
    e: Any, v: Any, exposed: Any, as_of: Any, rows: Any, starts: Any, stops: Any, lows: Any, highs: Any, ts: Any,
    values: Any, experiments: Any, groups: Any, group_events: Any, metrics: Any, terms: Any,
    closed: Any, shares: Any, one: Any, two: Any, out: Any,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Add one unit of experiment ``e`` to its cells, or write its numbers to ``out`` where that has room."""
    for g in range(experiments[e, E_GROUPS], experiments[e, E_GROUPS_END]):
        window = groups[g, G_WINDOW]
        if window > 0 and exposed + window > as_of:
            continue
        closed[groups[g, G_CLOSED] + v] += 1
        active = False
        for k in range(groups[g, G_EVENTS], groups[g, G_EVENTS_END]):
            c = group_events[k]
            lows[c] = _first_at(rows, starts[c], stops[c], ts, exposed)
            highs[c] = stops[c] if window == 0 else _first_at(rows, lows[c], stops[c], ts, exposed + window)
            active = active or lows[c] < highs[c]
        if not active and len(out) == 0:
            continue  # zeros are added at the end, all at once
        for m in range(groups[g, G_METRICS], groups[g, G_METRICS_END]):
            mode = metrics[m, M_MODE]
            cell = metrics[m, M_CELLS] + v * metrics[m, M_CELL_STEP]
            term = terms[metrics[m, M_TERM]]
            x = _term(term, rows, lows[term[T_EVENT]], highs[term[T_EVENT]], values)
            y = 0.0
            if mode == MODE_TWO:
                term = terms[metrics[m, M_TERM_2]]
                y = _term(term, rows, lows[term[T_EVENT]], highs[term[T_EVENT]], values)
            if len(out) > 0:
                out[metrics[m, M_SLOT]] = x
                if mode == MODE_TWO:
                    out[metrics[m, M_SLOT] + 1] = y
            elif mode == MODE_TWO:
                if x != 0.0 or y != 0.0:
                    push_two(two[cell], x, y)
            elif x != 0.0:
                if mode == MODE_SHARE:
                    shares[cell] += 1
                else:
                    push_one(one[cell], x)


@numba.njit(
    numba.int64(
        numba.int64, numba.int64, _I64, _I8, _I32, _I32, _I32, _I64, _I64, _F64_2,
        numba.int64, _I64_2, _I64_2, _I64, _I64_2, _I64_2, _I64_2, _I8,
        numba.int64[::1], numba.int64[::1], numba.int64[:, ::1], numba.int64[::1], numba.int64[::1],
        numba.float64[:, ::1], numba.float64[:, ::1],
        numba.int64[::1], numba.float64[:, ::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def sweep(
    start: Any, stop: Any,
    unit_hash: Any, kind: Any, event: Any, experiment: Any, variant: Any, ts: Any, event_hash: Any, values: Any,
    as_of: Any, experiments: Any, groups: Any, group_events: Any, metrics: Any, terms: Any, arm_of: Any, wanted: Any,
    units: Any, before: Any, excluded: Any, closed: Any, shares: Any, one: Any, two: Any,
    emitted: Any, out: Any,
) -> Any:  # pragma: no cover - compiled  # fmt: skip
    """Add all units of rows[start:stop] to the cells. With room in ``out`` (one experiment), write a row a counted unit
    instead: its first exposure's row to ``emitted``, its numbers to ``out``. Return how many rows were written.
    """
    first_row = np.full(len(experiments), -1, np.int64)
    arm = np.zeros(len(experiments), np.int64)
    touched = np.zeros(len(experiments), np.int64)
    starts = np.zeros(len(wanted), np.int64)
    stops = np.zeros(len(wanted), np.int64)
    lows = np.zeros(len(wanted), np.int64)
    highs = np.zeros(len(wanted), np.int64)
    present = np.zeros(len(wanted), np.int64)
    rows = np.empty(stop - start, np.int64)
    nowhere = np.empty(0, np.float64)
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
            since = ts[first_row[touched[0]]]
            for k in range(1, count):
                since = min(since, ts[first_row[touched[k]]])
            types = _gather_events(
                i, j, kind, event, ts, event_hash, wanted, since, as_of, rows, starts, stops, present
            )  # fmt: skip
            for k in range(count):
                e = touched[k]
                first = first_row[e]
                first_row[e] = -1
                v = arm_of[e, variant[first]] if variant[first] >= 0 else -2
                if v >= 0:
                    before[experiments[e, E_ARMS] + v] += 1
                if arm[e] < 0:
                    excluded[e, X_TWO_VARIANTS if arm[e] == -1 else X_UNKNOWN_VARIANT] += 1
                    continue
                units[experiments[e, E_ARMS] + v] += 1
                target = nowhere
                if len(out) > 0:
                    target = out[written]
                    emitted[written] = first
                    written += 1
                _measure(
                    e, v, ts[first], as_of, rows, starts, stops, lows, highs, ts, values, experiments, groups,
                    group_events, metrics, terms, closed, shares, one, two, target,
                )  # fmt: skip
            for t in range(types):
                starts[present[t]] = 0
                stops[present[t]] = 0
        i = j
    return written
