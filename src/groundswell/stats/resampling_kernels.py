"""Poisson weights from a counter, and the sums they make. The only numba of this room.

Invariants
    a weight depends on (seed, key of the unit, replicate) alone: not on order, chunk or thread
    weights take 0 to 7 with the exact mean 1 and variance 1 of a Poisson(1), each probability within 2**-15 of its own
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["WEIGHTS", "quantile_ranks", "weighted_sums", "weights_of"]

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

# how many of 65,536 draws have weight 0, 1, 2, ...: rounded Poisson probabilities, moved by a few to keep both moments
_COUNTS = (24_109, 24_111, 12_054, 4_016, 1_006, 200, 35, 5)
WEIGHTS = np.repeat(np.arange(len(_COUNTS), dtype=np.uint8), _COUNTS)
assert len(WEIGHTS) == 65_536
assert WEIGHTS.sum(dtype=np.int64) == 65_536, "mean 1"
assert (WEIGHTS.astype(np.int64) ** 2).sum() == 131_072, "variance 1"


@njit("uint64(uint64)", cache=True, nogil=True, inline="always")
def _mix(z: np.uint64) -> np.uint64:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(
    "void(float64[:, ::1], uint64[::1], uint64, uint8[::1], float64[:, ::1])",
    cache=True,
    nogil=True,
)
def weighted_sums(values: Floats, keys: NDArray[np.uint64], seed: np.uint64, table: Bytes, sums: Floats) -> None:
    """Add each unit's two values, shape (2, units), times its weight to every replicate's ``sums``, (2, replicates).

    Replicates come in fours: one hash gives four weights.
    """
    y, x, sum_y, sum_x = values[0], values[1], sums[0], sums[1]
    quads = len(sum_y) // 4
    mask = np.uint64(0xFFFF)
    for u in range(len(y)):
        key = _mix(keys[u] ^ seed)
        yu, xu = y[u], x[u]
        for r in range(quads):
            h = _mix(key + np.uint64(r) * np.uint64(0x9E3779B97F4A7C15))
            for j in range(4):
                w = float(table[h & mask])
                h >>= np.uint64(16)
                sum_y[4 * r + j] += w * yu
                sum_x[4 * r + j] += w * xu


@njit("void(uint64[::1], uint64, uint8[::1], int64, uint8[::1])", cache=True, nogil=True)
def weights_of(keys: NDArray[np.uint64], seed: np.uint64, table: Bytes, replicate: int, out: Bytes) -> None:
    """Write every unit's weight in one replicate."""
    quad, lane = replicate // 4, replicate % 4
    for u in range(len(keys)):
        h = _mix(_mix(keys[u] ^ seed) + np.uint64(quad) * np.uint64(0x9E3779B97F4A7C15))
        out[u] = table[(h >> np.uint64(16 * lane)) & np.uint64(0xFFFF)]


@njit("void(int64[::1], uint8[::1], float64[::1], int64[::1])", cache=True, nogil=True)
def quantile_ranks(code: NDArray[np.int64], weight: Bytes, quantiles: Floats, out: NDArray[np.int64]) -> None:
    """Write, for each quantile in rising order, the index at which the weights of sorted values reach that share."""
    total = 0
    for i in range(len(code)):
        total += weight[code[i]]
    reached, k = 0, 0
    for i in range(len(code)):
        reached += weight[code[i]]
        while k < len(quantiles) and reached >= quantiles[k] * total:
            out[k] = i
            k += 1
        if k == len(quantiles):
            return
