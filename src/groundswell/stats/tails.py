"""Heavy tails: cut them where everybody can see it, or be warned.

Formulas
    winsorising: values beyond a cut count as the cut; the cut comes from all arms pooled, or was frozen before
    trimmed mean: Yuen (1974), winsorised variance over the squared share that is kept
    355 * skewness^2 units for the mean's normal approximation: Kohavi, Deng, Longbotham & Xu (2014, KDD)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.results import Note
from groundswell.stats.samples import Sample

__all__ = ["Cut", "cut_at", "diagnose", "trimmed_mean"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cut:
    """Bounds beyond which a value counts as the bound; None is no bound. ``source`` says where they come from."""

    low: float | None = None
    high: float | None = None
    source: str = "chosen"

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if bound is not None and not math.isfinite(bound):
                raise InvalidInput(name, bound, "must be finite")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InvalidInput("low", self.low, f"must be <= high ({self.high})")

    def apply(self, values: ArrayLike) -> Floats:
        """Return ``values`` with those beyond the cut moved onto it."""
        x = _finite(values)
        return x if self.low is None and self.high is None else np.clip(x, self.low, self.high)

    def share_cut(self, values: ArrayLike) -> float:
        """Return the share of ``values`` beyond the cut."""
        x = _finite(values)
        beyond = np.zeros(len(x), dtype=bool)
        if self.low is not None:
            beyond |= x < self.low
        if self.high is not None:
            beyond |= x > self.high
        return float(beyond.mean()) if len(x) else 0.0

    def moments(self, values: ArrayLike) -> Moments:
        """Return the moments of the cut values."""
        return Moments.of(self.apply(values))


def cut_at(
    arms: Sequence[ArrayLike], *, high: float | None = 0.99, low: float | None = None, zeros: bool = True
) -> Cut:
    """Return the cut at percentiles of all arms pooled; ``zeros=False`` takes them over values other than 0.

    Pooling keeps the test's size: a cut of each arm's own would move with the effect. Keep the result and use it again
    to freeze the cut by a prior snapshot.
    """
    for name, share in (("high", high), ("low", low)):
        if share is not None and not 0.0 < share < 1.0:
            raise InvalidInput(name, share, "must lie between 0 and 1", next_step="write 0.99 for the 99th percentile")
    pooled = np.concatenate([_finite(arm) for arm in arms]) if arms else np.zeros(0)
    if not zeros:
        pooled = pooled[pooled != 0.0]
    if len(pooled) == 0:
        raise InvalidInput("arms", [len(np.asarray(a)) for a in arms], "must hold values to take percentiles of")
    over = "all values" if zeros else "values other than 0"
    bounds = [None if q is None else float(np.quantile(pooled, q, method="inverted_cdf")) for q in (low, high)]
    words = ", ".join(f"{q:.4g} quantile" for q in (low, high) if q is not None)
    return Cut(bounds[0], bounds[1], f"{words} of {over} of {len(arms)} arms pooled ({len(pooled):,} units)")


def trimmed_mean(values: ArrayLike, share: float = 0.01) -> Sample:
    """Return the mean without the ``share`` smallest and the ``share`` largest values, for ``compare``."""
    if not 0.0 <= share < 0.5:
        raise InvalidInput("share", share, "must be >= 0 and < 0.5")
    x = np.sort(_finite(values))
    n = len(x)
    g = math.floor(share * n)
    h = n - 2 * g
    kind = "trimmed mean"
    if n == 0:
        return Sample(0, None, None, kind=kind, reason="no unit in this arm")
    estimate = float(x[g : n - g].mean())
    if h < 2:
        return Sample(n, estimate, None, kind=kind, reason=f"{h} unit left after trimming: a variance needs two")
    winsorised = np.clip(x, x[g], x[n - g - 1])
    squares = float(((winsorised - winsorised.mean()) ** 2).sum())
    return Sample(n, estimate, squares / (h * (h - 1.0)) * n, h - 1.0, kind=kind)


def diagnose(values: ArrayLike) -> tuple[Note, ...]:
    """Return warnings where the mean's normal approximation is not to be trusted, and what to do about it."""
    x = _finite(values)
    n = len(x)
    if n == 0:
        return ()
    notes: list[Note] = []
    skewness = Sample.of_mean(Moments.of(x)).skewness if n > 1 else None
    if skewness is not None and n < _SKEWNESS_UNITS * skewness * skewness:
        needed = math.ceil(_SKEWNESS_UNITS * skewness * skewness)
        text = f"skewness {skewness:.1f} wants {needed:,} units, there are {n:,}; wait, winsorise, or bootstrap"
        notes.append(Note("skewed", text))
    nonzero = int(np.count_nonzero(x))
    if nonzero < _NONZERO_MIN:
        text = f"{nonzero} units have a value other than 0, {_NONZERO_MIN} are wanted; wait, or use an exact test"
        notes.append(Note("few-nonzero", text))
    total = float(np.abs(x).sum())
    largest = float(np.abs(x).max())
    if total > 0.0 and largest > _LARGEST_SHARE * total and n > 1.0 / _LARGEST_SHARE:
        text = f"one unit holds {largest / total:.0%} of the total: look at it, then winsorise or cap the metric"
        notes.append(Note("one-unit-dominates", text))
    return tuple(notes)


def _finite(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise InvalidInput("values", x.shape, "must be one-dimensional")
    if not np.isfinite(x).all():
        raise InvalidInput("values", float(x[~np.isfinite(x)][0]), "must be finite")
    return x


_SKEWNESS_UNITS = 355.0
_NONZERO_MIN = 30
_LARGEST_SHARE = 0.05
