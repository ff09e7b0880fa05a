"""The compiled form of ``hash``: a column of keys to bucket indices in one pass over Arrow's own buffers.

Importing this module imports numba, so only ``assign`` does it, when a column is asked for.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from groundswell.allocation import hash as scalar

__all__ = ["absorb", "bucket_indices", "finish"]

_READONLY = types.Array(types.uint8, 1, "C", readonly=True)
_BYTES = types.uint8[::1]
_INT64S = types.int64[::1]

absorb = njit([types.int64(_BYTES, types.int64, types.int64)], cache=True, nogil=True)(scalar.absorb_blocks)
finish = njit([types.int64(_BYTES, types.int64, types.int64, types.int64, types.int64)], cache=True, nogil=True)(
    scalar.finish
)


@njit(
    [types.void(_BYTES, _READONLY, _INT64S, _INT64S, types.boolean[::1], types.int64, types.int8[::1])],
    cache=True,
    nogil=True,
)
def bucket_indices(salt, data, offsets, cumulative, valid, longest, out):  # noqa: ANN001, ANN201, PLR0917
    """Write to ``out`` the index of each key's bucket, -1 where ``valid`` is false.

    Args:
        salt: bytes put before every key.
        data: all keys, one after another.
        offsets: where each key starts in ``data``, and where the last one ends; one longer than ``out``.
        cumulative: weights summed up to and including each bucket.
        valid: which keys are not null.
        longest: bytes of the longest key.
        out: bucket indices.
    """
    rest = len(salt) % 4  # bytes of the salt that share a block with the key
    shared = len(salt) - rest
    state = absorb(salt, shared, 0)  # the salt's whole blocks are the same for every key
    scratch = np.empty(rest + longest, dtype=np.uint8)
    scratch[:rest] = salt[shared:]
    total = cumulative[-1]
    for row in range(len(out)):
        if not valid[row]:
            out[row] = -1
            continue
        begin = offsets[row]
        size = offsets[row + 1] - begin
        for i in range(size):
            scratch[rest + i] = data[begin + i]
        stop = rest + size
        whole = stop - stop % 4
        h = finish(scratch, whole, stop, shared + stop, absorb(scratch, whole, state))
        bucket = (h * total) >> 32
        index = 0
        while bucket >= cumulative[index]:
            index += 1
        out[row] = index
